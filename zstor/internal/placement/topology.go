package placement

import (
	"fmt"
	"slices"
	"strings"
)

// Group is a set of nodes that can fail together, by the names of the nodes.
type Group struct {
	Name  string
	Nodes []string
}

// Topology is all groups there are.
type Topology []Group

// Size is the number of nodes.
func (t Topology) Size() int {
	n := 0
	for _, g := range t {
		n += len(g.Nodes)
	}
	return n
}

// GroupOf gives the index of the group of a node, or -1.
func (t Topology) GroupOf(node string) int {
	return slices.IndexFunc(t, func(g Group) bool { return slices.Contains(g.Nodes, node) })
}

func (t Topology) capacities() []int {
	caps := make([]int, len(t))
	for i, g := range t {
		caps[i] = len(g.Nodes)
	}
	return caps
}

// largest is the number of nodes in the n largest groups.
func (t Topology) largest(n int) int { return sumLargest(t.capacities(), n) }

func sumLargest(sizes []int, n int) int {
	sorted := slices.Clone(sizes)
	slices.Sort(sorted)
	slices.Reverse(sorted)
	sum := 0
	for _, s := range sorted[:min(n, len(sorted))] {
		sum += s
	}
	return sum
}

// describe gives "3 groups of 2 nodes", or the sizes when they differ.
func (t Topology) describe() string {
	caps := t.capacities()
	if len(slices.Compact(slices.Clone(caps))) == 1 {
		return fmt.Sprintf("%s of %s", plural(len(caps), "group"), plural(caps[0], "node"))
	}
	return fmt.Sprintf("%s of %s nodes", plural(len(caps), "group"), strings.Trim(fmt.Sprint(caps), "[]"))
}
