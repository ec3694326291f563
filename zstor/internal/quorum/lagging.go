package quorum

import (
	"context"
	"math/bits"

	"qsfs/zstor/internal/record"
)

// FindLagging finds the nodes that lack records which they missed before this run: their number is lost with the process
// that counted them, and one that was killed had not counted what it had under way. Such a node is counted as one
// that missed records in this run, so that it is rebuilt.
//
// No record is lost by it, nor is such a node wrongly counted: what was acknowledged is on W other nodes, and any R
// answers include one of them. But a record stays on fewer nodes than it could be, and what needs all nodes waits.
//
// It compares the names that the nodes list, each node once in a run, when it answers; what was written in this run is
// counted as it is missed. It does nothing when every node that answers was looked at.
func (s *Set) FindLagging(ctx context.Context) error {
	mine, value := s.ownerValueOf()
	if mine.Epoch == 0 {
		return ErrNotOwner
	}
	if err := s.maintain.lockCtx(ctx); err != nil { // nothing is removed meanwhile
		return err
	}
	defer s.maintain.unlock()
	s.mu.Lock()
	began := s.began
	s.mu.Unlock()

	type newestOn struct {
		v  record.Version
		on uint8 // bits of nodes
	}
	newest := make(map[record.Family]newestOn)
	var looked uint8
	var bad []NodeReason
	// One after the other: a large filesystem has many names.
	for i := range s.nodes {
		names, _, err := s.listOn(ctx, i, record.AllPrefix(), mine, value)
		if err != nil {
			bad = append(bad, NodeReason{s.nodes[i].ID(), err})
			continue
		}
		looked |= 1 << i
		for _, n := range names {
			x, v := newest[n.Family()], n.Version()
			switch c := v.Compare(x.v); {
			case x.on == 0 || c > 0:
				x = newestOn{v, 1 << i}
			case c == 0:
				x.on |= 1 << i
			}
			newest[n.Family()] = x
		}
	}
	if have := bits.OnesCount8(looked); have < s.r {
		return quorumError("compare metadata nodes", have, s.r, bad)
	}
	lacks := make([]int, len(s.nodes))
	for _, x := range newest {
		if x.v.Compare(began) >= 0 {
			continue
		}
		for i := range lacks {
			if (looked&^x.on)>>i&1 != 0 {
				lacks[i]++
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.owner.Same(mine) || s.began != began {
		return ErrNotOwner
	}
	for i, n := range lacks {
		if looked>>i&1 != 0 && s.unseen[i] {
			s.unseen[i] = false
			s.missed[i] += n
			if n > 0 {
				s.log.Info("a metadata node lacks records", "node", s.nodes[i].ID(), "records", n)
			}
		}
	}
	return nil
}
