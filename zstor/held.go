package zstor

import (
	"context"
	"os"
	"time"

	"qsfs/zdb/segfile"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// Limits of what cuts hold by their tails: each tail takes room in the cut, which is one record.
const (
	heldAtOnce = 2 // of a namespace
	heldPieces = 8 // of such a tail
)

// hold keeps a sealed segment in the cut by its tail while its object is not at the floor yet. That
// pays when the tail lacks little and the object much: zstor was restarted, or nodes went away and the
// generation ended, so that everything has to leave once more. Nil means: ship it. Only rounds call it.
func (g *segment) hold(ctx context.Context) (*record.Tail, error) {
	t := g.tail
	if t == nil || g.shipped() || g.isBad() {
		return nil, nil
	}
	if t.Sealed && g.good {
		return g.tailNow(), nil
	}
	src, err := openSealed(g.s, g.key) // what is damaged must not count as complete
	if err != nil {
		return nil, err
	}
	defer src.close()
	length := src.footer.DataLength
	if t.Incarnation != [16]byte(src.footer.Incarnation) || t.Session != src.footer.Session || t.End() > length || t.Sealed && t.End() < length {
		return nil, nil // it does not continue the tail
	}
	piece, object := length-t.End(), length+src.indexLen-g.at.Load()
	if 4*piece > object || object-piece < 3*g.s.stripeSize()+src.indexLen {
		return nil, nil
	}
	if err := g.shipPiece(ctx, src.data, length, heldPieces); err != nil {
		return nil, err
	}
	next := *g.tail
	next.Sealed = true
	g.setTail(&next)
	g.good = true
	g.s.log.Info("a sealed segment stays in the cut by its tail until its object is dispersed", "segment", segmentObject(g.key), "object", object, "piece", piece)
	return g.tailNow(), nil
}

// held reports whether a cut holds the segment by its tail.
func (g *segment) held() bool {
	g.tmu.Lock()
	defer g.tmu.Unlock()
	return g.tail != nil && g.tail.Sealed
}

// adoptTailsLocked takes over the tails of a cut that this process continues: what an earlier one shipped is
// on the nodes. Whether a tail can go on shows when it is needed; its session and its file must be the same.
func (s *Store) adoptTailsLocked(cut *record.Cut) {
	if cut == nil {
		return
	}
	for i := range cut.Tails {
		t := cut.Tails[i]
		if s.ledger.Has(t.SegmentKey) {
			continue
		}
		s.segments[t.SegmentKey] = &segment{s: s, key: t.SegmentKey, tail: &t, own: map[record.Generation]*transfer.Generation{}}
	}
}

// runBehind makes up for whole stripes of active segments whose tails stand on generations that have
// ended, beside the rounds.
func (s *Store) runBehind() {
	tries := 0
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.kickBehind:
		}
		s.mu.Lock()
		var todo []*segment
		for _, g := range s.segments {
			if g.behind.Load() > 0 {
				todo = append(todo, g)
			}
		}
		s.mu.Unlock()
		failed := 0
		for _, g := range todo {
			if !s.shipping() {
				break
			}
			err := g.catchUp(s.life)
			if err == nil {
				s.forceRound() // the tail moves over
			} else if s.life.Err() == nil {
				s.noteFenced(err)
				s.log.Info("the whole stripes of a tail are made up for later", "segment", segmentObject(g.key), "error", err)
				failed++
			}
		}
		if failed == 0 {
			tries = 0
			continue
		}
		// Nobody may write any more: then no round comes that would ask again.
		s.pause(min(time.Second<<min(tries, 6), time.Minute))
		tries++
		kick(s.kickBehind)
	}
}

// catchUp ships whole stripes of an active segment until a round can go on with them.
func (g *segment) catchUp(ctx context.Context) error {
	g.up.Lock()
	defer g.up.Unlock()
	f, err := os.Open(g.s.dataPath(g.key))
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := segfile.ReadHeader(f)
	if err != nil {
		return err
	}
	for {
		to := g.behind.Load()
		if to == 0 || g.shipped() || ctx.Err() != nil {
			return ctx.Err()
		}
		if g.orphan() {
			return errOrphan
		}
		done, err := g.catchUpSome(ctx, f, h.Incarnation, to)
		if err != nil {
			return err
		}
		if done && g.behind.CompareAndSwap(to, 0) {
			return nil
		}
		g.letPass(ctx)
	}
}

// orphan ends the generation of a segment that was taken out of the table, and reports whether it was: another cut became
// the truth, and nothing will name it.
func (g *segment) orphan() bool {
	g.s.mu.Lock()
	here := g.s.segments[g.key] == g
	g.s.mu.Unlock()
	if here {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.restart()
	g.behind.Store(0)
	return true
}

func (g *segment) catchUpSome(ctx context.Context, f *os.File, inc segfile.Incarnation, to int64) (done bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tmu.Lock()
	same := g.tail != nil && g.tail.Incarnation == [16]byte(inc)
	g.tmu.Unlock()
	if !same || g.obj != nil {
		return true, nil
	}
	g.freshen()
	if err := g.ensure(ctx, [16]byte(inc), to); err != nil {
		return false, err
	}
	whole := uint32((to - 1) / int64(g.gen.Spec().StripeSize))
	if err := g.writeWhole(ctx, f, whole, g.yield); err != nil {
		if g.gen.Err() != nil {
			g.restart()
		}
		return false, err
	}
	return uint32(len(g.sums)) >= whole, nil
}
