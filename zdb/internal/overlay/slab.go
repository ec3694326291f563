package overlay

import "sync/atomic"

const (
	firstSlab = 4
	maxSlab   = 128
)

// slab makes nodes by the dozen: they live and die with their table, so the allocator and the collector need not know
// each one. Towers have their own, by what most of them need.
type slab struct {
	nodes  []node
	towers []atomic.Pointer[node]
	size   int
}

func (s *slab) node(height int) *node {
	if len(s.nodes) == 0 {
		s.size = min(max(firstSlab, 2*s.size), maxSlab)
		s.nodes = make([]node, s.size)
	}
	n := &s.nodes[0]
	s.nodes = s.nodes[1:]
	if len(s.towers) < height {
		s.towers = make([]atomic.Pointer[node], max(s.size*3/2, maxHeight))
	}
	n.next = s.towers[:height:height]
	s.towers = s.towers[height:]
	return n
}
