package overlay

import (
	"bytes"
	"cmp"
	"slices"
)

// loose is a node with what decides most comparisons, so that sorting does not visit the nodes.
type loose struct {
	prefix [2]uint64
	node   *node
}

func compare(a, b loose) int {
	if c := cmp.Compare(a.prefix[0], b.prefix[0]); c != 0 {
		return c
	}
	if c := cmp.Compare(a.prefix[1], b.prefix[1]); c != 0 {
		return c
	}
	if c := bytes.Compare(a.node.Key, b.node.Key); c != 0 {
		return c
	}
	return cmp.Compare(b.node.Version, a.node.Version) // the newest first
}

// unordered gives all nodes, sorted, if nobody has wanted the order yet, and leaves them loose: who goes through them once need not thread
// them into the list. Else it gives nil.
func (t *Table) unordered() []loose {
	nodes := t.stillLoose()
	slices.SortFunc(nodes, compare)
	return nodes
}

func (t *Table) stillLoose() []loose {
	t.orderMu.Lock()
	defer t.orderMu.Unlock()
	if t.head.next[0].Load() != nil {
		return nil
	}
	nodes := make([]loose, 0, t.Len())
	for n := t.loose.Load(); n != nil; n = n.later {
		nodes = append(nodes, loose{n.prefix, n})
	}
	return nodes
}

// order brings everything that was added before the call into the list.
func (t *Table) order() {
	// Taken even if nothing is loose: somebody may be at work on what was.
	t.orderMu.Lock()
	defer t.orderMu.Unlock()
	var nodes []loose
	for n := t.loose.Swap(nil); n != nil; {
		next := n.later
		n.later = nil
		nodes = append(nodes, loose{n.prefix, n})
		n = next
	}
	slices.SortFunc(nodes, compare)
	var prev [maxHeight]*node
	for h := range prev {
		prev[h] = &t.head
	}
	for i := range nodes {
		t.insert(nodes[i].node, &prev)
	}
}

// insert puts n into the list. prev are the predecessors of the node that was inserted before, which n comes after; from there
// it is not far. orderMu is held.
func (t *Table) insert(n *node, prev *[maxHeight]*node) {
	height := len(n.next)
	x, moved := &t.head, false
	for h := max(int(t.height.Load()), height) - 1; h >= 0; h-- {
		if !moved {
			x = prev[h]
		}
		for next := x.next[h].Load(); next != nil && next.before(n.Key, &n.prefix, n.Version); next = x.next[h].Load() {
			x, moved = next, true
		}
		prev[h] = x
	}
	for h := range height {
		n.next[h].Store(prev[h].next[h].Load())
	}
	// Bottom up: a reader that meets the node above finds it below too.
	for h := range height {
		prev[h].next[h].Store(n)
		prev[h] = n
	}
	if int(t.height.Load()) < height {
		t.height.Store(int32(height))
	}
}
