package zstor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/segfile"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// maxPieces is how many delta pieces a tail collects before one piece replaces many.
const maxPieces = 24

// shipTail brings the active segment to the nodes up to a durable head: whole stripes into its
// generation, the rest as one delta piece. The tail that it returns is what a cut may name; nil when
// there is nothing below the head. Only rounds call it.
func (g *segment) shipTail(ctx context.Context, head record.Head) (*record.Tail, error) {
	if head.Offset == 0 {
		return nil, nil
	}
	var err error
	for range attempts {
		if err = g.shipTailOnce(ctx, head); err == nil {
			return g.tailNow(), nil
		}
		if !errors.Is(err, transfer.ErrBelowFloor) {
			return nil, err
		}
		g.s.log.Warn("a tail ended below the floor, beginning again", "object", segmentObject(g.key), "error", err)
	}
	return nil, err
}

// tailNow copies the tail for a cut.
func (g *segment) tailNow() *record.Tail {
	t := *g.tail
	t.Pieces = slices.Clone(t.Pieces)
	return &t
}

func (g *segment) shipTailOnce(ctx context.Context, head record.Head) error {
	f, err := os.Open(g.s.dataPath(g.key))
	if err != nil {
		return fmt.Errorf("open active segment: %w", err)
	}
	defer f.Close()
	h, err := segfile.ReadHeader(f)
	if err != nil {
		return fmt.Errorf("active segment %s: %w", segmentObject(g.key), err)
	}
	if h.Incarnation != segfile.Incarnation(head.Incarnation) {
		return fmt.Errorf("active segment %s: incarnation %v was announced, the file has %v", segmentObject(g.key), segfile.Incarnation(head.Incarnation), h.Incarnation)
	}
	t := g.tail
	anew := t != nil && (g.isBad() || t.Session != head.Session || t.Incarnation != head.Incarnation || t.End() > head.Offset)
	if t != nil && !anew && !g.shipped() && g.far(head.Offset-t.End(), head.Offset) {
		// The whole stripes that the tail stands on are of a generation that has ended, or a node has lost some of
		// them. Another one makes up for them beside the rounds; until it has, the cut goes on with pieces.
		if err := g.shipPiece(ctx, f, head.Offset, maxPieces); err != nil {
			return err
		}
		g.behind.Store(head.Offset)
		kick(g.s.kickBehind)
		return nil
	}
	return g.shipWhole(ctx, f, head, anew)
}

// far reports whether bringing whole stripes up to an offset takes much more than a piece of some bytes.
func (g *segment) far(piece, to int64) bool {
	at := g.at.Load()
	if gen := g.now.Load(); gen != nil && len(gen.Renewed()) > 0 {
		at = 0
	}
	return to-at > piece+3*g.s.stripeSize()
}

// stripeSize is that of the main policy.
func (s *Store) stripeSize() int64 {
	return int64(codec.StripeSize(s.cfg.MinimalShards, int(s.cfg.QSFS.Slice)))
}

// shipWhole brings whole stripes into the generation, and what is left into a piece.
func (g *segment) shipWhole(ctx context.Context, f *os.File, head record.Head, anew bool) error {
	g.lockSoon()
	defer g.mu.Unlock()
	if err := g.prepareTail(ctx, head, anew); err != nil {
		return err
	}
	// The stripe that ends exactly at the head is not whole yet: it could be the last one, and the
	// last one says so in its shards.
	whole := uint32((head.Offset - 1) / int64(g.gen.Spec().StripeSize))
	if g.obj == nil { // otherwise the segment was sealed behind the head, and has been shipped whole
		if err := g.writeWhole(ctx, f, whole, nil); err != nil {
			if g.gen.Err() != nil {
				g.restart()
			}
			return err
		}
	}
	if err := g.noteWhole(whole); err != nil {
		return err
	}
	return g.shipPiece(ctx, f, head.Offset, maxPieces)
}

// prepareTail decides whether the tail goes on or starts again in a new generation.
func (g *segment) prepareTail(ctx context.Context, head record.Head, anew bool) error {
	if g.obj != nil {
		// The object stands on this generation and waits for its cut: only the tail starts again, on the stripes of
		// the object, which holds the whole file.
		if g.inc != head.Incarnation {
			return fmt.Errorf("active segment %s: it was sealed and shipped as another incarnation", segmentObject(g.key))
		}
		if anew || g.renewed() {
			g.setTail(nil)
		}
	} else {
		if anew {
			g.restart()
			g.setTail(nil)
		}
		weak := g.renewed()
		g.freshen()
		if err := g.ensure(ctx, head.Incarnation, head.Offset); err != nil {
			return err
		}
		if weak {
			g.setTail(nil) // what is far was made up for: the rest leaves once more, in full
		}
	}
	if g.tail == nil {
		g.setTail(&record.Tail{SegmentKey: g.key, Incarnation: head.Incarnation, Session: head.Session})
	}
	return nil
}

// freshen ends a generation of which a node has lost something, so that the next one is whole. The caller holds mu.
func (g *segment) freshen() {
	if g.obj == nil && g.gen != nil && len(g.gen.Renewed()) > 0 {
		g.restart()
	}
}

// renewed reports whether some node of the tail has turned out to be another one: what it held is gone.
func (g *segment) renewed() bool {
	if g.weak.Load() {
		return true
	}
	g.tmu.Lock()
	defer g.tmu.Unlock()
	for _, p := range g.own {
		if len(p.Renewed()) > 0 {
			return true
		}
	}
	gen := g.now.Load()
	return gen != nil && len(gen.Renewed()) > 0
}

// standsOnRenewed is renewed for what the tail stands on alone.
func (g *segment) standsOnRenewed() bool {
	g.tmu.Lock()
	defer g.tmu.Unlock()
	if g.tail == nil {
		return false
	}
	if g.weak.Load() {
		return true
	}
	gen := g.now.Load()
	weak := false
	g.tail.Generations(func(id record.Generation) {
		if p := g.own[id]; p != nil {
			weak = weak || len(p.Renewed()) > 0
		} else if gen != nil && gen.ID() == id {
			weak = weak || len(gen.Renewed()) > 0
		}
	})
	return weak
}

// setTail replaces the tail, and gives up the generations of this process that it does not stand on;
// they are deleted after the cut that does not name them.
func (g *segment) setTail(t *record.Tail) {
	named := map[record.Generation]bool{}
	if t != nil {
		t.Generations(func(id record.Generation) { named[id] = true })
	}
	g.tmu.Lock()
	defer g.tmu.Unlock()
	g.tail, g.bad = t, g.bad && t != nil
	if t == nil {
		g.weak.Store(false) // of what comes now this process knows the nodes
	}
	for id, gen := range g.own {
		if !named[id] {
			g.s.intents.release(gen)
			delete(g.own, id)
		}
	}
}

// isBad reports whether the file was found to differ from the tail.
func (g *segment) isBad() bool { g.tmu.Lock(); defer g.tmu.Unlock(); return g.bad }

// noteWhole puts the whole stripes into the tail and drops the pieces that they cover.
func (g *segment) noteWhole(whole uint32) error {
	end := int64(whole) * int64(g.gen.Spec().StripeSize)
	if whole == 0 || end < g.tail.WholeEnd() {
		return nil // what is there already reaches further: it is of an earlier generation with other stripes
	}
	m, err := g.gen.Manifest(end, 0)
	if err != nil {
		return err
	}
	next := *g.tail
	next.Pieces = slices.Clone(next.Pieces)
	next.Whole = m
	next.Superseded()
	g.setTail(&next)
	return nil
}

// shipPiece sends what lies between the end of the tail and to. When too many pieces have come
// together, it takes the place of the last of them, of as many as are small beside it: so a tail of
// any length has few pieces, and no byte is sent again often.
func (g *segment) shipPiece(ctx context.Context, f io.ReaderAt, to int64, most int) error {
	from := g.tail.End()
	if from == to {
		return nil
	}
	next := *g.tail
	next.Pieces = slices.Clone(next.Pieces)
	if len(next.Pieces) >= most {
		i := len(next.Pieces) - 1
		for i > 0 && (i >= most || next.Pieces[i].From-next.Pieces[i-1].From <= 2*(to-next.Pieces[i].From)) {
			i--
		}
		if i == 0 {
			from = next.WholeEnd()
		} else {
			from = next.Pieces[i].From
		}
		next.Pieces = next.Pieces[:i]
	}
	gen, man, err := g.s.putBytes(ctx, pieceObject(g.key, from), to-from, func(p []byte, off int64) error { return readFull(f, p, from+off) })
	if err != nil {
		return err
	}
	if err := next.Append(from, to, *man); err != nil {
		g.s.intents.release(gen)
		return err
	}
	crashpoint.Hit("zstor.tail.piece")
	g.tmu.Lock()
	g.own[man.Generation] = gen
	g.tmu.Unlock()
	g.setTail(&next)
	return nil
}

// putBytes disperses a byte sequence as an object of its own, in one generation. The generation is
// in use until it is released. The manifest is not put on record.
func (s *Store) putBytes(ctx context.Context, object string, length int64, read func(p []byte, off int64) error) (*transfer.Generation, *record.Manifest, error) {
	stripes := func(size int) uint32 { return max(codec.Stripes(length, size), 1) }
	gen, err := s.begin(ctx, object, stripes)
	if err != nil {
		return nil, nil, err
	}
	size := gen.Spec().StripeSize
	last := stripes(size) - 1
	g := &segment{s: s, gen: gen}
	err = g.parallel(ctx, 0, codec.Stripes(length, size), func(ctx context.Context, stripe uint32) error {
		var end codec.End
		if stripe == last {
			end = codec.EndOfData | codec.EndOfObject
		}
		off, n := codec.StripeSpan(stripe, length, size)
		return gen.WriteStripe(ctx, stripe, end, int(n), func(p []byte) error { return read(p, off) })
	})
	if err != nil {
		s.intents.release(gen)
		return nil, nil, err
	}
	man, err := gen.Manifest(length, 0)
	if err != nil {
		s.intents.release(gen)
		return nil, nil, err
	}
	return gen, man, nil
}
