package quorum

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"qsfs/zstor/internal/record"
)

// MaxEpoch is the highest epoch: sequences have 16 bits for it.
const MaxEpoch = 1<<16 - 1

// look reads the states of the nodes. Each answer is as it came; only the unreachable are in bad.
func (s *Set) look(ctx context.Context, need int) ([]answer[State], []NodeReason) {
	return gather(ctx, s, s.all(), need, s.o.Patience, func(ctx context.Context, i int) (st State, err error) {
		err = s.call(ctx, i, func(ctx context.Context, n Node) (err error) {
			st, err = n.State(ctx)
			return err
		})
		return st, err
	})
}

// claim takes over: it raises the epoch key on all nodes, above all that it sees, and is the owner once it reads its
// own id from max(W, R) nodes that are complete. It fences whoever owned before. The caller must then read.
//
// The claim itself changes nothing but epoch keys: above all it never writes a complete mark, for it may land on a
// node that was wiped a moment ago.
func (s *Set) claim(ctx context.Context) (record.Owner, error) {
	need := max(s.w, s.r)
	if !s.keeps(ruleClaimQuorum) {
		need = 1
	}
	var highest uint64
	for pause := s.o.Backoff; ; pause = min(2*pause, 32*s.o.Backoff) {
		owner, err := s.claimOnce(ctx, need, &highest)
		if err == nil {
			s.log.Info("claimed", "epoch", owner.Epoch, "id", owner.ID.String())
			return owner, nil
		}
		if !errors.Is(err, ErrFenced) {
			return record.Owner{}, err
		}
		s.log.Info("claim lost, trying one higher", "err", err)
		// A random pause, so that two who claim at once do not do so for ever.
		t := time.NewTimer(time.Duration(s.random64() % uint64(pause)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return record.Owner{}, err
		case <-s.life.Done():
			t.Stop()
			return record.Owner{}, ErrClosed
		}
	}
}

// claimOnce tries one epoch. highest is the highest epoch seen so far; it is kept up to date.
func (s *Set) claimOnce(ctx context.Context, need int, highest *uint64) (record.Owner, error) {
	states, bad := s.look(ctx, need)
	if len(states) < need {
		return record.Owner{}, quorumError("claim", len(states), need, bad)
	}
	for _, a := range states {
		if o, err := s.shown(a.v); err == nil {
			*highest = max(*highest, o.Epoch)
		}
	}
	owner := record.Owner{Epoch: *highest + 1, Time: now(), Host: s.o.Host}
	if !s.keeps(ruleTryHigher) && *highest > 0 {
		owner.Epoch = *highest
	}
	if owner.Epoch > MaxEpoch {
		return record.Owner{}, fmt.Errorf("claim: epoch %d is the last one", MaxEpoch)
	}
	if s.keeps(ruleRandomID) {
		s.random(owner.ID[:])
	} else {
		owner.Time, owner.Host = time.Time{}, ""
	}
	value, err := s.sealer.SealOwner(owner)
	if err != nil {
		return record.Owner{}, err
	}
	*highest = owner.Epoch // should it come to another try, then above this one

	raised, refused := gather(ctx, s, s.all(), need, s.o.Patience, func(ctx context.Context, i int) (struct{}, error) {
		var seen []byte
		for _, a := range states {
			if a.i == i {
				seen = a.v.Epoch
			}
		}
		err := s.raise(ctx, i, owner, value, seen, false)
		if err == nil && !s.keeps(ruleMarkNotByClaim) {
			err = s.writeMark(ctx, i)
		}
		return struct{}{}, err
	})
	for _, b := range refused {
		if f, ok := b.Err.(*FencedError); ok {
			*highest = max(*highest, f.By.Epoch)
		}
	}
	if len(raised) < need {
		return record.Owner{}, quorumError("claim", len(raised), need, refused)
	}
	// Whoever reads its own id is the owner; that an own write succeeded is not asked.
	shown, others := gather(ctx, s, s.all(), need, s.o.Patience, func(ctx context.Context, i int) (State, error) {
		return s.ask(ctx, i, owner, value, func(ctx context.Context, n Node) (State, error) { return n.State(ctx) })
	})
	if len(shown) < need {
		return record.Owner{}, quorumError("claim", len(shown), need, others)
	}
	return owner, nil
}

// writeMark marks node i complete for the incarnation it has now; only format may, and rebuild with its own setMark.
func (s *Set) writeMark(ctx context.Context, i int) error {
	var st State
	err := s.call(ctx, i, func(ctx context.Context, n Node) (err error) {
		st, err = n.State(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return s.setMark(ctx, i, st.Incarnation, st.Mark)
}

// setMark writes the mark for an incarnation in place of what was last seen there. It is a compare-and-set, because a
// plain write that comes late would replace the good mark of a node that was wiped and rebuilt since; two such nodes,
// and nobody could take over any more.
func (s *Set) setMark(ctx context.Context, i int, inc record.Incarnation, seen []byte) error {
	mark, err := s.sealer.SealMark(inc)
	if err != nil {
		return err
	}
	for range 8 {
		var current []byte
		err := s.call(ctx, i, func(ctx context.Context, n Node) (err error) {
			current, err = n.CompareAndSet(ctx, record.MarkName, mark, seen)
			return err
		})
		if err != nil {
			return err
		}
		if bytes.Equal(current, mark) {
			return nil
		}
		// Somebody else's mark came in between. It is replaced only if the namespace is still the one that was filled.
		var st State
		err = s.call(ctx, i, func(ctx context.Context, n Node) (err error) {
			st, err = n.State(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if st.Incarnation != inc {
			return errIncomplete
		}
		seen = st.Mark
	}
	return errIncomplete
}

// Verify asks whether this owner still is one: W nodes that count show its id. A *FencedError says who took over,
// a *QuorumError that it cannot be told now.
func (s *Set) Verify(ctx context.Context) error {
	mine, value := s.ownerValueOf()
	if mine.Epoch == 0 {
		return ErrNotOwner
	}
	shown, others := gather(ctx, s, s.all(), s.w, s.o.Patience, func(ctx context.Context, i int) (State, error) {
		return s.ask(ctx, i, mine, value, func(ctx context.Context, n Node) (State, error) { return n.State(ctx) })
	})
	if len(shown) < s.w {
		return quorumError("verify owner", len(shown), s.w, others)
	}
	return nil
}
