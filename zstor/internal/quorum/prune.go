package quorum

import (
	"context"
	"fmt"
	"slices"

	"qsfs/zstor/internal/record"
)

// Prune removes superseded versions of a record from all nodes: all but the newest keep ones. Only versions below one
// that W nodes hold are removed. Nodes that are away keep theirs until a later Prune. It returns how many versions it
// removed somewhere.
func (s *Set) Prune(ctx context.Context, kind record.Kind, object string, keep int) (int, error) {
	mine, value := s.ownerValueOf()
	if mine.Epoch == 0 {
		return 0, ErrNotOwner
	}
	if err := s.maintain.lockCtx(ctx); err != nil {
		return 0, err
	}
	defer s.maintain.unlock()
	newest, err := s.newest(ctx, kind, object, mine, value)
	if newest.Version.IsZero() {
		return 0, err
	}
	if !newest.Settled {
		return 0, &QuorumError{Op: "prune", Have: newest.Answered, Want: s.w}
	}
	names, err := s.familyNames(ctx, kind, object, s.r, mine, value)
	if err != nil {
		return 0, err
	}
	// Newest first; a version above the one that is settled may be in flight and counts as kept.
	var drop [][]byte
	for k, n := range names {
		if k >= max(keep, 1) && n != newest.Name && newest.Version.Compare(n.Version()) > 0 {
			drop = append(drop, slices.Clone(n[:]))
		}
	}
	if len(drop) == 0 {
		return 0, nil
	}
	done, bad := gather(ctx, s, s.all(), s.w, s.o.Patience, func(ctx context.Context, i int) (State, error) {
		return s.ask(ctx, i, mine, value, func(ctx context.Context, n Node) (State, error) { return n.Delete(ctx, drop) })
	})
	if len(done) < s.w {
		return 0, quorumError(fmt.Sprintf("prune %v", kind), len(done), s.w, bad)
	}
	return len(drop), nil
}

// familyNames lists the versions of a record under the key epoch in use, newest first, over at least need answers.
func (s *Set) familyNames(ctx context.Context, kind record.Kind, object string, need int, mine record.Owner, value []byte) ([]record.Name, error) {
	perNode, err := s.familyByNode(ctx, kind, object, need, mine, value)
	if err != nil {
		return nil, err
	}
	var names []record.Name
	for _, l := range perNode {
		names = append(names, l...)
	}
	slices.SortFunc(names, func(a, b record.Name) int { return b.Version().Compare(a.Version()) })
	return slices.Compact(names), nil
}

func (s *Set) familyByNode(ctx context.Context, kind record.Kind, object string, need int, mine record.Owner, value []byte) ([][]record.Name, error) {
	family := s.sealer.Family(s.sealer.KeyEpoch(), kind, object)
	ok, bad := gather(ctx, s, s.all(), need, s.o.Patience, func(ctx context.Context, i int) ([]record.Name, error) {
		names, _, err := s.listOn(ctx, i, family[:], mine, value)
		return names, err
	})
	if len(ok) < need {
		return nil, quorumError(fmt.Sprintf("list versions of %v", kind), len(ok), need, bad)
	}
	var out [][]record.Name
	for _, a := range ok {
		out = append(out, a.v)
	}
	return out, nil
}

// Forget ends the life of a tombstone. It returns true once nothing of the record is left. Until all nodes have the
// tombstone, and TombstoneGrace has passed since it was written, it only brings the tombstone to those that lack it
// and removes what it hides; call it again later.
func (s *Set) Forget(ctx context.Context, kind record.Kind, object string) (bool, error) {
	mine, value := s.ownerValueOf()
	if mine.Epoch == 0 {
		return false, ErrNotOwner
	}
	if err := s.maintain.lockCtx(ctx); err != nil {
		return false, err
	}
	defer s.maintain.unlock()
	f, err := s.newest(ctx, kind, object, mine, value)
	if f.Version.IsZero() {
		if f.Settled {
			return true, nil // R nodes have nothing
		}
		return false, err
	}
	if !f.Tombstone {
		return false, fmt.Errorf("forget %v %q: it is not deleted", kind, object)
	}
	t, err := record.DecodeTombstone(f.Body)
	if err != nil {
		return false, err
	}
	m := len(s.nodes)
	need := m
	if !s.keeps(ruleTombstoneStays) {
		need = s.w
	}
	// Bring it to all; each answer says that the node counts and has it.
	on, bad := gather(ctx, s, s.all(), need, s.o.Patience, func(ctx context.Context, i int) (State, error) {
		return s.ask(ctx, i, mine, value, func(ctx context.Context, n Node) (State, error) { return n.Put(ctx, f.Name[:], f.Sealed) })
	})
	if len(on) < need {
		return false, quorumError("forget "+kind.String(), len(on), need, bad)
	}
	names, err := s.familyNames(ctx, kind, object, s.r, mine, value)
	if err != nil {
		return false, err
	}
	var below [][]byte
	for _, n := range names {
		switch c := n.Version().Compare(f.Version); {
		case c > 0:
			return false, nil // made again meanwhile
		case c < 0:
			below = append(below, slices.Clone(n[:]))
		}
	}
	if err := s.deleteOnAll(ctx, below, need, mine, value); err != nil {
		return false, err
	}
	if now().Sub(t.Time) < s.o.TombstoneGrace && s.keeps(ruleTombstoneStays) {
		return false, nil
	}
	// Only a listing of every node shows that nothing is left but the tombstone.
	lists, err := s.familyByNode(ctx, kind, object, need, mine, value)
	if err != nil {
		return false, err
	}
	for _, l := range lists {
		if len(l) != 1 || l[0] != f.Name {
			return false, nil
		}
	}
	return true, s.deleteOnAll(ctx, [][]byte{f.Name[:]}, need, mine, value)
}

func (s *Set) deleteOnAll(ctx context.Context, names [][]byte, need int, mine record.Owner, value []byte) error {
	if len(names) == 0 {
		return nil
	}
	done, bad := gather(ctx, s, s.all(), need, s.o.Patience, func(ctx context.Context, i int) (State, error) {
		return s.ask(ctx, i, mine, value, func(ctx context.Context, n Node) (State, error) { return n.Delete(ctx, names) })
	})
	if len(done) < need {
		return quorumError("delete", len(done), need, bad)
	}
	return nil
}
