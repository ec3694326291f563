package quorum

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"qsfs/zstor/internal/record"
)

// Rebuilt says what RebuildNode did.
type Rebuilt struct {
	Records int // copied to the node
	Sources int // nodes read
	Already int // records that it had
}

// RebuildNode fills node i, which is new, was wiped, or missed records while it was away, and makes it count again.
// Only the owner can: the other nodes must each show its own id in the very answers that are copied.
//
// It forgets what it had counted on the node; reads all records from R others; copies them; raises the epoch key;
// then writes the mark for the incarnation that it found at the start. What is in flight meanwhile is sent to the node
// again. A node that is wiped in the middle fails the rebuild: run it again.
func (s *Set) RebuildNode(ctx context.Context, i int) (Rebuilt, error) {
	mine, value := s.ownerValueOf()
	if mine.Epoch == 0 {
		return Rebuilt{}, ErrNotOwner
	}
	if err := s.maintain.lockCtx(ctx); err != nil {
		return Rebuilt{}, err
	}
	defer s.maintain.unlock()
	node := s.nodes[i].ID()
	s.mu.Lock()
	missed := s.missed[i]
	s.mu.Unlock()
	s.forgetNode(i)
	defer s.forgetNode(i)

	var out Rebuilt
	var start State
	var has [][]byte
	err := s.call(ctx, i, func(ctx context.Context, n Node) (err error) {
		start, has, err = n.List(ctx, record.AllPrefix())
		return err
	})
	if err != nil {
		return out, fmt.Errorf("rebuild %s: %w", node, err)
	}
	if o, err := s.shown(start); err == nil && o.Epoch >= mine.Epoch && !o.Same(mine) {
		return out, fmt.Errorf("rebuild %s: %w", node, &FencedError{Mine: mine, By: o, Node: node})
	}
	if !s.keeps(ruleMarkLast) {
		if err := errors.Join(s.raise(ctx, i, mine, value, start.Epoch, true), s.writeMark(ctx, i)); err != nil {
			return out, err
		}
	}
	need := s.r
	if !s.keeps(ruleRebuildReadsQuorum) {
		need = min(1, len(s.nodes)-1)
	}
	err = s.copyFrom(ctx, i, need, mine, value, start.Incarnation, has, &out)
	if err != nil {
		return out, fmt.Errorf("rebuild %s: %w", node, err)
	}
	// The key before the mark. A late message may have brought an older owner's key back to a wiped node: with the
	// mark and that key it would count for the older owner, who may already count a node that was raised since.
	finish := []func() error{
		// A key that is damaged beyond reading may be replaced here: nothing is counted on this node.
		func() error { return s.raise(ctx, i, mine, value, start.Epoch, true) },
		func() error { return s.setMark(ctx, i, start.Incarnation, start.Mark) },
	}
	if !s.keeps(ruleEpochThenMark) {
		slices.Reverse(finish)
	}
	for _, step := range finish {
		if err := step(); err != nil {
			return out, fmt.Errorf("rebuild %s: %w", node, err)
		}
	}
	if _, err = s.ask(ctx, i, mine, value, func(ctx context.Context, n Node) (State, error) { return n.State(ctx) }); err != nil {
		return out, fmt.Errorf("rebuild %s: %w", node, err)
	}
	s.mu.Lock()
	s.unseen[i] = false
	s.missed[i] -= missed // what it missed since then is still to be brought
	s.mu.Unlock()
	s.log.Info("rebuilt metadata node", "node", node, "copied", out.Records, "had", out.Already, "sources", out.Sources)
	return out, nil
}

var errWipedAgain = errors.New("the node was wiped again in the middle")

// A source is a node that a rebuild reads.
type source struct {
	i     int
	inc   record.Incarnation
	names map[record.Name]bool
	bad   bool
}

// copyFrom reads all records of need other nodes and puts them on node i.
func (s *Set) copyFrom(ctx context.Context, i, need int, mine record.Owner, value []byte, target record.Incarnation, has [][]byte, out *Rebuilt) error {
	as, asValue := mine, value
	if !s.keeps(ruleRebuildByOwner) {
		as, asValue = record.Owner{}, nil
	}
	// Of m nodes, R others are fewer than all others unless R = m; with one node there is nobody to ask.
	if need > len(s.nodes)-1 {
		return &QuorumError{Op: "read sources", Have: len(s.nodes) - 1, Want: need}
	}
	ok, bad := gather(ctx, s, s.allBut(i), need, s.o.Patience, func(ctx context.Context, j int) (*source, error) {
		names, inc, err := s.listOn(ctx, j, record.AllPrefix(), as, asValue)
		if err != nil {
			return nil, err
		}
		src := &source{i: j, inc: inc, names: make(map[record.Name]bool, len(names))}
		for _, n := range names {
			src.names[n] = true
		}
		return src, nil
	})
	if len(ok) < need {
		return quorumError("read sources", len(ok), need, bad)
	}
	var sources []*source
	missing := make(map[record.Name]bool)
	for _, a := range ok {
		sources = append(sources, a.v)
		for n := range a.v.names {
			missing[n] = true
		}
	}
	if !s.keeps(ruleRebuildReadsQuorum) {
		sources = sources[:need]
	}
	if err := s.keepGood(ctx, i, has, missing, target, out); err != nil {
		return err
	}
	for _, src := range sources {
		if err := s.copySource(ctx, i, src, missing, as, asValue, target, out); err != nil {
			return err
		}
	}
	// What nobody gave: whoever listed it has a damaged or missing record, and is one bad answer.
	for n := range missing {
		for _, src := range sources {
			src.bad = src.bad || src.names[n]
		}
	}
	good := 0
	for _, src := range sources {
		if !src.bad {
			good++
		}
	}
	out.Sources = good
	if good < need {
		return &QuorumError{Op: "read sources", Have: good, Want: need, Reasons: []NodeReason{{"records that nobody can read", fmt.Errorf("%d: %w", len(missing), record.ErrDamaged)}}}
	}
	return nil
}

// keepGood takes off the list what the node itself has already, if it is undamaged there.
func (s *Set) keepGood(ctx context.Context, i int, has [][]byte, missing map[record.Name]bool, target record.Incarnation, out *Rebuilt) error {
	var names []record.Name
	for _, b := range has {
		if n, err := record.ParseName(b); err == nil && missing[n] {
			names = append(names, n)
		}
	}
	for batch := range slices.Chunk(names, getBatch) {
		raw := make([][]byte, len(batch))
		for j := range batch {
			raw[j] = batch[j][:]
		}
		var st State
		var values [][]byte
		err := s.call(ctx, i, func(ctx context.Context, n Node) (err error) {
			st, values, err = n.Get(ctx, raw)
			return err
		})
		if err != nil {
			return err
		}
		if st.Incarnation != target || len(values) != len(batch) {
			return errWipedAgain
		}
		for j, v := range values {
			if _, err := s.sealer.Open(batch[j], v); err == nil {
				delete(missing, batch[j])
				out.Already++
			}
		}
	}
	return nil
}

// copySource copies what one source has of the missing names, and takes them off the list.
func (s *Set) copySource(ctx context.Context, i int, src *source, missing map[record.Name]bool, mine record.Owner, value []byte, target record.Incarnation, out *Rebuilt) error {
	var names []record.Name
	for n := range missing {
		if src.names[n] {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b record.Name) int { return bytes.Compare(a[:], b[:]) })
	for batch := range slices.Chunk(names, getBatch) {
		values, err := s.getOn(ctx, src.i, batch, src.inc, mine, value)
		if err != nil {
			src.bad = true
			if errors.Is(err, ErrFenced) || ctx.Err() != nil {
				return err
			}
			return nil // the others may have them
		}
		for j, v := range values {
			if v == nil {
				continue
			}
			_, err := s.sealer.Open(batch[j], v)
			if errors.Is(err, record.ErrKeyEpoch) {
				delete(missing, batch[j]) // of a master that is gone: nobody can read it, nobody needs it
				continue
			}
			if err != nil {
				continue
			}
			var st State
			err = s.call(ctx, i, func(ctx context.Context, n Node) (err error) {
				st, err = n.Put(ctx, batch[j][:], v)
				return err
			})
			if err != nil {
				return err
			}
			if st.Incarnation != target {
				return errWipedAgain
			}
			delete(missing, batch[j])
			out.Records++
		}
	}
	return nil
}
