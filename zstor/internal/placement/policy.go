// Package placement decides which node holds which shard of an object.
//
// A policy says how many shards are made (n), how many are needed (k), and what
// may be lost: any RedundantGroups whole groups and then RedundantNodes nodes of
// each group that remains. Counts finds in polynomial time how many shards each
// group gets; Place then picks the nodes. A policy that the topology cannot
// honour is refused with the reason, at load and not when data is at stake.
package placement

import (
	"fmt"
	"strings"
)

// MaxShards is the largest n: above it the field GF(256) has no room.
const MaxShards = 256

// Policy is how an object is cut and what it must survive.
type Policy struct {
	K               int // shards needed
	N               int // shards stored
	RedundantGroups int // whole groups that may be lost
	RedundantNodes  int // nodes of each remaining group that may be lost as well
}

// String gives "4-of-6".
func (p Policy) String() string { return fmt.Sprintf("%d-of-%d", p.K, p.N) }

// Refusal is one reason why a policy cannot be used. About names the setting
// that it concerns, in the words of the configuration file.
type Refusal struct {
	About  string
	Reason string
}

// Error gives the reason with its setting in front.
func (r Refusal) Error() string { return r.About + ": " + r.Reason }

// Refusals lists everything that is wrong with a policy.
type Refusals []Refusal

// Error gives one refusal per line.
func (r Refusals) Error() string {
	lines := make([]string, len(r))
	for i, x := range r {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

func (r *Refusals) add(about, format string, args ...any) {
	*r = append(*r, Refusal{about, fmt.Sprintf(format, args...)})
}

func (r Refusals) asError() error {
	if len(r) == 0 {
		return nil
	}
	return r
}

// CheckCode refuses pairs of k and n that protect nothing. It concerns every
// code that is ever written with: main, fallback, re-encoding targets.
func CheckCode(k, n int) error {
	var r Refusals
	checkCode(&r, "minimal_shards", "expected_shards", k, n)
	return r.asError()
}

func checkCode(r *Refusals, kName, nName string, k, n int) {
	switch {
	case k < 1:
		r.add(kName, "must be at least 2: it says how many shards are needed to read")
	case k == 1:
		r.add(kName, "1 would let every single node read the data: it must be at least 2 (2-of-3 is the smallest code)")
	case n <= k:
		r.add(nName, "%d leaves nothing to lose: it must be at least minimal_shards + 1 = %d", n, k+1)
	}
	if n > MaxShards {
		r.add(nName, "%d is more than the %d shards the code can make", n, MaxShards)
	}
}

// Check refuses a policy that is unsafe, or that the topology cannot honour
// even with every node up.
func Check(p Policy, t Topology) error {
	var r Refusals
	checkCode(&r, "minimal_shards", "expected_shards", p.K, p.N)
	if p.RedundantGroups < 0 {
		r.add("redundant_groups", "%d is below zero", p.RedundantGroups)
	}
	if p.RedundantNodes < 0 {
		r.add("redundant_nodes", "%d is below zero", p.RedundantNodes)
	}
	if nodes := t.Size(); p.N > nodes {
		r.add("expected_shards", "%d shards need as many nodes, but only %d are configured", p.N, nodes)
	}
	if len(r) > 0 {
		return r
	}
	if p.RedundantGroups >= len(t) {
		r.add("redundant_groups", "%d of %d groups may be lost: nothing would be left", p.RedundantGroups, len(t))
		return r
	}
	if _, left, ok := Counts(p, t.capacities()); !ok {
		about := "redundant_groups"
		if p.RedundantGroups == 0 {
			about = "redundant_nodes"
		}
		r.add(about, "%s over %s cannot be honoured: the best spread leaves %d shards after the loss of %s, and %d are needed",
			p, t.describe(), left, lossText(p), p.K)
	}
	return r.asError()
}

func lossText(p Policy) string {
	var parts []string
	if p.RedundantGroups > 0 {
		parts = append(parts, plural(p.RedundantGroups, "group"))
	}
	if p.RedundantNodes > 0 {
		parts = append(parts, plural(p.RedundantNodes, "node")+" of each remaining group")
	}
	return strings.Join(parts, " and ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Fallback is a second code for times when too few nodes live for the main one.
type Fallback struct{ K, N int }

// CheckFallback refuses a fallback that is unsafe or could never be used.
// minSecrecy is the lowest k that the owner allows any data to have; 0 means
// the main k.
func CheckFallback(p Policy, f *Fallback, minSecrecy int, t Topology) error {
	var r Refusals
	if minSecrecy == 0 {
		minSecrecy = p.K
	}
	if minSecrecy < 2 {
		r.add("qsfs.min_secrecy", "%d would let a single node read: it must be at least 2", minSecrecy)
	}
	if minSecrecy > p.K {
		r.add("qsfs.min_secrecy", "%d is above minimal_shards (%d): the main code itself would break it", minSecrecy, p.K)
	}
	if f == nil {
		return r.asError()
	}
	const k, n = "qsfs.fallback.minimal_shards", "qsfs.fallback.expected_shards"
	before := len(r)
	checkCode(&r, k, n, f.K, f.N)
	if len(r) > before {
		return r
	}
	if f.K < minSecrecy {
		r.add(k, "%d nodes could read what is written during a fallback, and min_secrecy is %d: lower min_secrecy on purpose (whoever cuts off a group can force the fallback), or raise this", f.K, minSecrecy)
	}
	if f.K > p.K {
		r.add(k, "%d is above the main code's %d: a fallback must need fewer nodes, not more", f.K, p.K)
	}
	if f.N >= p.N {
		r.add(n, "%d is not below the main code's %d: it could not be placed when the main one cannot", f.N, p.N)
	}
	if live := t.Size() - t.largest(p.RedundantGroups); f.N > live {
		r.add(n, "%d shards need as many nodes, but after the loss of %s only %d are left: the fallback could not be used", f.N, plural(p.RedundantGroups, "group"), live)
	}
	return r.asError()
}
