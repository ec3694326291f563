package placement

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func topology(sizes ...int) Topology {
	var t Topology
	for g, n := range sizes {
		group := Group{Name: string(rune('a' + g))}
		for i := range n {
			group.Nodes = append(group.Nodes, fmt.Sprintf("%s%d", group.Name, i))
		}
		t = append(t, group)
	}
	return t
}

func nodesOf(t Topology, health func(id string) Health) []Node {
	var out []Node
	for _, g := range t {
		for _, id := range g.Nodes {
			out = append(out, Node{ID: id, Group: g.Name, Health: health(id), Free: 1 << 30})
		}
	}
	return out
}

func up(string) Health { return Up }

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		k, n, rg, rn int
		sizes        []int
		want         string // empty: accepted
	}{
		{4, 6, 1, 0, []int{2, 2, 2}, ""},
		{2, 3, 0, 0, []int{3}, ""},
		{2, 3, 1, 0, []int{1, 1, 1}, ""},
		{16, 20, 0, 0, []int{5, 5, 5, 5}, ""},
		{3, 9, 1, 1, []int{3, 3, 3}, ""},
		{4, 9, 1, 1, []int{3, 3, 3}, ""},
		{5, 9, 1, 1, []int{3, 3, 3}, "leaves 4 shards after the loss of 1 group and 1 node of each remaining group, and 5 are needed"},
		{4, 6, 1, 0, []int{3, 3}, "leaves 3 shards"},
		{4, 6, 0, 0, []int{2, 2}, "only 4 are configured"},
		{1, 3, 0, 0, []int{3}, "at least 2"},
		{0, 3, 0, 0, []int{3}, "at least 2"},
		{3, 3, 0, 0, []int{3}, "nothing to lose"},
		{5, 3, 0, 0, []int{3}, "nothing to lose"},
		{200, 257, 0, 0, []int{300}, "more than the 256"},
		{4, 6, 3, 0, []int{2, 2, 2}, "nothing would be left"},
		{4, 6, 0, 1, []int{2, 2, 2}, "redundant_nodes: 4-of-6"},
		{4, 6, -1, 0, []int{2, 2, 2}, "below zero"},
		{2, 3, 0, 0, nil, "only 0 are configured"},
	} {
		err := Check(Policy{tc.k, tc.n, tc.rg, tc.rn}, topology(tc.sizes...))
		if got := fmt.Sprint(err); (tc.want == "") != (err == nil) || !strings.Contains(got, tc.want) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}

func TestFallback(t *testing.T) {
	six, main := topology(2, 2, 2), Policy{4, 6, 1, 0}
	for _, tc := range []struct {
		f       *Fallback
		secrecy int
		want    string
	}{
		{nil, 0, ""},
		{&Fallback{3, 4}, 3, ""},
		{&Fallback{3, 4}, 2, ""},
		{&Fallback{3, 4}, 0, "min_secrecy is 4"},
		{&Fallback{3, 4}, 4, "min_secrecy is 4"},
		{&Fallback{1, 4}, 2, "at least 2"},
		{&Fallback{3, 3}, 3, "nothing to lose"},
		{&Fallback{3, 5}, 3, "only 4 are left"},
		{&Fallback{5, 6}, 3, "not below the main"},
		{nil, 5, "above minimal_shards"},
		{nil, 1, "at least 2"},
	} {
		err := CheckFallback(main, tc.f, tc.secrecy, six)
		if (tc.want == "") != (err == nil) || !strings.Contains(fmt.Sprint(err), tc.want) {
			t.Errorf("%+v secrecy %d: %v", tc.f, tc.secrecy, err)
		}
	}
}

func TestQuorums(t *testing.T) {
	want := []Quorum{{1, 1}, {2, 1}, {2, 2}, {3, 2}, {3, 3}, {4, 3}, {4, 4}}
	for m := 1; m <= MaxMeta; m++ {
		if got := DefaultQuorum(m); got != want[m-1] || got.Write+got.Read != m+1 {
			t.Errorf("DefaultQuorum(%d) = %v", m, got)
		}
	}
	for _, tc := range []struct {
		q      Quorum
		groups []int
		rg     int
		want   string
	}{
		{Quorum{4, 3}, []int{2, 2, 2}, 1, ""},
		{Quorum{2, 2}, []int{1, 1, 1}, 1, ""},
		{Quorum{1, 1}, []int{1}, 0, ""},
		{Quorum{3, 2}, []int{2, 1, 1}, 1, "2 would be left and 3 are needed"},
		{Quorum{3, 3}, []int{2, 2, 2}, 1, "more than the 6"},
		{Quorum{4, 3}, []int{3, 3}, 1, "3 would be left and 4 are needed"},
		{Quorum{7, 7}, []int{2, 2, 2}, 0, "between 1 and the 6"},
		{Quorum{5, 4}, []int{2, 2, 2, 2}, 0, "more than 7"},
		{Quorum{1, 1}, nil, 0, "no metadata node"},
	} {
		err := CheckQuorum(tc.q, tc.groups, tc.rg)
		if (tc.want == "") != (err == nil) || !strings.Contains(fmt.Sprint(err), tc.want) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}

// compositions calls f with every way to put n shards into groups.
func compositions(n int, capacities, counts []int, g int, f func([]int)) {
	if g == len(capacities) {
		if n == 0 {
			f(counts)
		}
		return
	}
	for c := 0; c <= min(n, capacities[g]); c++ {
		counts[g] = c
		compositions(n-c, capacities, counts, g+1, f)
	}
	counts[g] = 0
}

// worstCase tries every loss that a policy names, one by one.
func worstCase(p Policy, counts []int) int {
	least := 1 << 30
	for set := range 1 << len(counts) {
		lost, left := 0, 0
		for g, c := range counts {
			if set>>g&1 == 1 {
				lost++
			} else {
				left += max(c-p.RedundantNodes, 0)
			}
		}
		if lost == p.RedundantGroups {
			least = min(least, left)
		}
	}
	return least
}

// Counts is as good as trying everything.
func TestCountsAreOptimal(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		capacities := make([]int, rng.IntN(5)+1)
		for g := range capacities {
			capacities[g] = rng.IntN(5)
		}
		p := Policy{K: rng.IntN(5) + 2, RedundantGroups: rng.IntN(3), RedundantNodes: rng.IntN(3)}
		p.N = p.K + 1 + rng.IntN(6)
		if p.RedundantGroups >= len(capacities) {
			continue
		}
		best := -1
		compositions(p.N, capacities, make([]int, len(capacities)), 0, func(c []int) { best = max(best, worstCase(p, c)) })
		counts, left, ok := Counts(p, capacities)
		if best < 0 {
			if counts != nil || ok {
				t.Fatalf("%+v over %v: counts %v though nothing fits", p, capacities, counts)
			}
			continue
		}
		if left != best || ok != (best >= p.K) || worstCase(p, counts) != best {
			t.Fatalf("%+v over %v: counts %v leave %d, the best is %d", p, capacities, counts, left, best)
		}
	}
}

// Whatever a policy tolerates leaves k shards: every choice of groups, and of
// nodes in the groups that remain.
func TestPlacementSurvives(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	placed := 0
	for range 4000 {
		sizes := make([]int, rng.IntN(5)+1)
		for g := range sizes {
			sizes[g] = rng.IntN(5) + 1
		}
		top := topology(sizes...)
		p := Policy{K: rng.IntN(5) + 2, RedundantGroups: rng.IntN(3), RedundantNodes: rng.IntN(3)}
		p.N = p.K + 1 + rng.IntN(6)
		nodes := nodesOf(top, func(string) Health { return Health(rng.IntN(4)) })
		accepted := Check(p, top) == nil
		pl, err := Place(p, nodes, rng)
		if accepted != (err == nil) {
			t.Fatalf("%+v over %v: Check says %v, Place says %v", p, sizes, accepted, err)
		}
		if err != nil {
			if !errors.Is(err, ErrNoPlacement) {
				t.Fatal(err)
			}
			continue
		}
		placed++
		if len(pl.Nodes) != p.N || len(slices.Compact(slices.Sorted(slices.Values(pl.Nodes)))) != p.N {
			t.Fatalf("%d shards on %v", p.N, pl.Nodes)
		}
		available := 0
		for _, n := range nodes {
			if n.Health.takes() && slices.Contains(pl.Nodes, n.ID) {
				available++
			}
		}
		if available != pl.Available {
			t.Fatalf("Available = %d, want %d", pl.Available, available)
		}
		checkSurvival(t, p, top, pl)
	}
	if placed < 500 {
		t.Errorf("only %d placements were looked at", placed)
	}
}

func checkSurvival(t *testing.T, p Policy, top Topology, pl Placement) {
	t.Helper()
	for set := range 1 << len(top) {
		left, lost := 0, 0
		for g := range top {
			if set>>g&1 == 1 {
				lost++
				continue
			}
			// Of each remaining group the nodes that hurt most: those with shards.
			held := 0
			for _, id := range top[g].Nodes {
				if slices.Contains(pl.Nodes, id) {
					held++
				}
			}
			left += max(held-p.RedundantNodes, 0)
		}
		if lost <= p.RedundantGroups && left < p.K {
			t.Fatalf("%+v on %v: after losing groups %b only %d shards are left", p, pl.Nodes, set, left)
		}
	}
}

func TestHealthAndSpace(t *testing.T) {
	// Eight nodes for six shards: the two that are away are not chosen.
	top := topology(2, 2, 2, 2)
	away := func(id string) Health {
		if id == "a0" || id == "b1" {
			return Down
		}
		return Up
	}
	for seed := range uint64(50) {
		pl, err := Place(Policy{4, 6, 1, 0}, nodesOf(top, away), rand.New(rand.NewPCG(seed, 0)))
		if err != nil || pl.Available != 6 || slices.Contains(pl.Nodes, "a0") || slices.Contains(pl.Nodes, "b1") {
			t.Fatalf("%v, %v", pl, err)
		}
	}
	// A node with four times the space is chosen more often.
	nodes := nodesOf(topology(6), up)
	nodes[2].Free *= 8
	hits := 0
	rng := rand.New(rand.NewPCG(1, 1))
	index := map[int]bool{}
	for range 400 {
		pl, err := Place(Policy{2, 3, 0, 0}, nodes, rng)
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.Index(pl.Nodes, "a2"); i >= 0 {
			hits++
			index[i] = true
		}
	}
	if hits < 300 || len(index) != 3 {
		t.Errorf("the empty node was chosen %d times of 400, for indexes %v", hits, index)
	}
	for i := range nodes {
		nodes[i].Excluded = i > 1
	}
	if _, err := Place(Policy{2, 3, 0, 0}, nodes, nil); !errors.Is(err, ErrNoPlacement) {
		t.Errorf("excluded nodes were used: %v", err)
	}
}

func TestChoose(t *testing.T) {
	top, main, fb := topology(2, 2, 2), Policy{4, 6, 1, 0}, &Fallback{3, 4}
	down := func(ids ...string) []Node {
		return nodesOf(top, func(id string) Health {
			if slices.Contains(ids, id) {
				return Down
			}
			return Up
		})
	}
	pl, err := Choose(main, 5, fb, down("a0"), nil)
	if err != nil || pl.Fallback || pl.Available != 5 {
		t.Errorf("one node down: %+v, %v", pl, err)
	}
	if _, err = Choose(main, 5, nil, down("a0", "a1"), nil); !errors.Is(err, ErrNoPlacement) || !strings.Contains(err.Error(), "4 of the 6 nodes") {
		t.Errorf("group down, no fallback: %v", err)
	}
	pl, err = Choose(main, 5, fb, down("a0", "a1"), nil)
	if err != nil || !pl.Fallback || pl.Policy.K != 3 || len(pl.Nodes) != 4 || pl.Available != 4 || slices.Contains(pl.Nodes, "a0") {
		t.Errorf("group down, fallback: %+v, %v", pl, err)
	}
	if _, err = Choose(main, 5, fb, down("a0", "a1", "b0"), nil); !errors.Is(err, ErrNoPlacement) || !strings.Contains(err.Error(), "fallback 3-of-4 needs 4") {
		t.Errorf("three down: %v", err)
	}
}

func TestReplace(t *testing.T) {
	top := topology(3, 3, 3)
	groupOf := func(id string) string { return id[:1] }
	current := []string{"a0", "a1", "b0", "b1", "c0", "c1"}
	nodes := nodesOf(top, up)
	node, kept, err := Replace(Policy{4, 6, 1, 0}, current, 2, groupOf, nodes, nil)
	if err != nil || !kept || node != "b2" {
		t.Errorf("b0 is replaced by %q, %v, %v", node, kept, err)
	}
	for i := range nodes {
		nodes[i].Excluded = nodes[i].ID == "b2"
	}
	node, kept, err = Replace(Policy{4, 6, 1, 0}, current, 2, groupOf, nodes, nil)
	if err != nil || kept || (node != "a2" && node != "c2") {
		t.Errorf("without b2: %q, %v, %v", node, kept, err)
	}
	for i := range nodes {
		nodes[i].Health = Down
	}
	if _, _, err = Replace(Policy{4, 6, 1, 0}, current, 2, groupOf, nodes, nil); !errors.Is(err, ErrNoPlacement) {
		t.Errorf("all down: %v", err)
	}
}

func TestLosses(t *testing.T) {
	if got := Survivable(4, []int{2, 2, 2}); got != (Losses{2, 1}) {
		t.Errorf("healthy: %+v", got)
	}
	if got := Survivable(4, []int{0, 2, 2}); got != (Losses{0, 0}) {
		t.Errorf("group lost: %+v", got)
	}
	if got := Survivable(4, []int{0, 1, 2}); got.Shards != -1 || got.Groups != 0 {
		t.Errorf("unreadable: %+v", got)
	}
	if got := CanRead(4, []int{2, 2, 2}); got != (Power{4, 2}) {
		t.Errorf("CanRead = %+v", got)
	}
	if got := CanDestroy(4, []int{2, 2, 2}); got != (Power{3, 2}) {
		t.Errorf("CanDestroy = %+v", got)
	}
}
