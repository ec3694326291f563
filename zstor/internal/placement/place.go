package placement

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Health is how far a node can be counted on, the best first.
type Health uint8

// Values of Health.
const (
	Up      Health = iota // answers, and well
	Suspect               // answers slowly or with errors, or was not asked yet
	Full                  // answers, and takes no more data
	Down                  // does not answer
)

// String gives the word for status output.
func (h Health) String() string {
	switch h {
	case Up:
		return "up"
	case Suspect:
		return "suspect"
	case Full:
		return "full"
	}
	return "down"
}

// takes reports whether a shard could be stored on the node now.
func (h Health) takes() bool { return h <= Suspect }

// Node is what placement knows of a node.
type Node struct {
	ID       string
	Group    string
	Health   Health
	Free     int64 // bytes; 0 when unknown
	Excluded bool  // draining, distrusted, or already used: never chosen
}

// Placement says which node gets which shard of an object.
type Placement struct {
	Policy    Policy
	Nodes     []string // by shard index
	Available int      // how many of them can take a shard now
	Fallback  bool
}

// ErrNoPlacement is matched when no placement is possible at present. It does
// not mean that the policy is wrong; that is Check's to say.
var ErrNoPlacement = errors.New("no placement")

// group is the nodes of one group that may be chosen, the best first.
type group struct {
	nodes     []Node
	available int
}

// grouped sorts nodes into groups and each group by preference: health, then a
// draw weighted by free space, so that nodes fill alike and two objects placed
// at once do not both go to the emptiest.
func grouped(nodes []Node, rng *rand.Rand) []group {
	byName, weight := map[string][]Node{}, map[string]float64{}
	for _, n := range nodes {
		if n.Excluded {
			continue
		}
		byName[n.Group] = append(byName[n.Group], n)
		// Efraimidis and Spirakis 2006: the largest u^(1/w) win, here by logarithm.
		weight[n.ID] = math.Log(random(rng)) / max(float64(n.Free), 1)
	}
	var out []group
	for _, members := range byName {
		slices.SortFunc(members, func(a, b Node) int {
			return cmp.Or(cmp.Compare(a.Health, b.Health), cmp.Compare(weight[b.ID], weight[a.ID]), cmp.Compare(a.ID, b.ID))
		})
		g := group{nodes: members}
		for _, n := range members {
			if n.Health.takes() {
				g.available++
			}
		}
		out = append(out, g)
	}
	// Groups that can take more come first; among these the order is drawn.
	slices.SortFunc(out, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.available, a.available), cmp.Compare(weight[b.nodes[0].ID], weight[a.nodes[0].ID]), cmp.Compare(a.nodes[0].ID, b.nodes[0].ID))
	})
	return out
}

func random(rng *rand.Rand) float64 {
	if rng == nil {
		return rand.Float64()
	}
	return rng.Float64()
}

// Place chooses n nodes such that the policy holds. Healthy ones come first; a
// node that is away is chosen only where the policy needs it, and gets its shard
// when it is back. rng may be nil.
func Place(p Policy, nodes []Node, rng *rand.Rand) (Placement, error) {
	groups := grouped(nodes, rng)
	for _, worst := range []Health{Up, Suspect, Down} {
		if pl, ok := placeWithin(p, groups, worst, rng); ok {
			return pl, nil
		}
	}
	usable := 0
	for _, g := range groups {
		usable += len(g.nodes)
	}
	return Placement{}, fmt.Errorf("%w: %s with the loss of %s cannot be kept with the %d nodes that may be used", ErrNoPlacement, p, orNothing(lossText(p)), usable)
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// placeWithin places on nodes whose health is at least as good as worst.
func placeWithin(p Policy, groups []group, worst Health, rng *rand.Rand) (Placement, bool) {
	capacities := make([]int, len(groups))
	for i, g := range groups {
		for _, n := range g.nodes {
			if n.Health <= worst {
				capacities[i]++
			}
		}
	}
	var best []int
	bestAvailable, bestLeft := -1, -1
	for _, counts := range spreads(p.N, capacities) {
		left, available := Remaining(p, counts), 0
		for i, c := range counts {
			available += min(c, groups[i].available)
		}
		if left >= p.K && (available > bestAvailable || available == bestAvailable && left >= bestLeft) {
			best, bestAvailable, bestLeft = counts, available, left
		}
	}
	if best == nil {
		return Placement{}, false
	}
	pl := Placement{Policy: p, Available: bestAvailable}
	for i, c := range best {
		for _, n := range groups[i].nodes[:c] {
			pl.Nodes = append(pl.Nodes, n.ID)
		}
	}
	// Data and parity land anywhere, so that reading loads all nodes alike.
	swap := func(i, j int) { pl.Nodes[i], pl.Nodes[j] = pl.Nodes[j], pl.Nodes[i] }
	if rng == nil {
		rand.Shuffle(len(pl.Nodes), swap)
	} else {
		rng.Shuffle(len(pl.Nodes), swap)
	}
	return pl, true
}

// Choose places with the main policy when at least floor of its nodes can take
// a shard now, else with the fallback on what lives. When neither is possible
// the object waits: the error says for what.
func Choose(p Policy, floor int, f *Fallback, nodes []Node, rng *rand.Rand) (Placement, error) {
	pl, err := Place(p, nodes, rng)
	if err == nil && pl.Available >= floor {
		return pl, nil
	}
	if err == nil {
		err = fmt.Errorf("%w: %d of the %d nodes for %s can take a shard now, and %d are needed before it counts as stored", ErrNoPlacement, pl.Available, p.N, p, floor)
	}
	if f == nil {
		return Placement{}, err
	}
	fp := Policy{K: f.K, N: f.N}
	if pl, ok := placeWithin(fp, grouped(nodes, rng), Suspect, rng); ok {
		pl.Fallback = true
		return pl, nil
	}
	live := 0
	for _, n := range nodes {
		if !n.Excluded && n.Health.takes() {
			live++
		}
	}
	return Placement{}, fmt.Errorf("%w; the fallback %s needs %d nodes and %d can take a shard", err, fp, f.N, live)
}

// Replace chooses a node for a shard whose node is gone. Nodes that ever held an
// index of this generation are to be Excluded. It takes the node that leaves
// most after the policy's worst loss; kept tells whether the policy holds with
// it. groupOf gives the groups of the nodes in the present placement.
func Replace(p Policy, current []string, index int, groupOf func(node string) string, nodes []Node, rng *rand.Rand) (node string, kept bool, err error) {
	counts := map[string]int{}
	for i, n := range current {
		if i != index {
			counts[groupOf(n)]++
		}
	}
	bestLeft := -1
	free := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return slices.Contains(current, n.ID) })
	for _, g := range grouped(free, rng) {
		n := g.nodes[0]
		if !n.Health.takes() {
			continue
		}
		counts[n.Group]++
		var list []int
		for _, c := range counts {
			list = append(list, c)
		}
		counts[n.Group]--
		if left := Remaining(p, list); left > bestLeft {
			node, bestLeft = n.ID, left
		}
	}
	if bestLeft < 0 {
		return "", false, fmt.Errorf("%w: no node is left that can take a shard and never held one of this generation", ErrNoPlacement)
	}
	return node, bestLeft >= p.K, nil
}
