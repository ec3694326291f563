package zstor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/segfile"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// maxPieces is how many delta pieces a tail collects before one piece replaces them all.
const maxPieces = 24

// shipTail brings the active segment to the nodes up to a durable head: whole stripes into its
// generation, the rest as one delta piece. The tail that it returns is what a cut may name; nil when
// there is nothing below the head.
func (g *segment) shipTail(ctx context.Context, head record.Head) (*record.Tail, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if head.Offset == 0 {
		return nil, nil
	}
	var err error
	for range attempts {
		if err = g.shipTailOnce(ctx, head); err == nil {
			t := *g.tail
			t.Pieces = slices.Clone(t.Pieces)
			return &t, nil
		}
		if !errors.Is(err, transfer.ErrBelowFloor) {
			return nil, err
		}
		g.s.log.Warn("a tail ended below the floor, beginning again", "object", segmentObject(g.key), "error", err)
	}
	return nil, err
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
	if err := g.prepareTail(ctx, head); err != nil {
		return err
	}
	// The stripe that ends exactly at the head is not whole yet: it could be the last one, and the
	// last one says so in its shards.
	whole := uint32((head.Offset - 1) / int64(g.gen.Spec().StripeSize))
	if g.obj == nil { // otherwise the segment was sealed behind the head, and has been shipped whole
		if err := g.writeWhole(ctx, f, whole); err != nil {
			if g.gen.Err() != nil {
				g.restart()
			}
			return err
		}
	}
	if err := g.noteWhole(whole); err != nil {
		return err
	}
	return g.shipPiece(ctx, f, head.Offset)
}

// prepareTail decides whether the tail goes on or starts again in a new generation.
func (g *segment) prepareTail(ctx context.Context, head record.Head) error {
	t := g.tail
	anew := t != nil && (t.Session != head.Session || t.Incarnation != head.Incarnation || t.End() > head.Offset || g.renewed())
	if g.obj != nil {
		// The object stands on this generation and waits for its cut: only the tail starts again, on the stripes of
		// the object, which holds the whole file.
		if g.inc != head.Incarnation {
			return fmt.Errorf("active segment %s: it was sealed and shipped as another incarnation", segmentObject(g.key))
		}
		if anew {
			g.drop(t.Pieces)
			g.tail = nil
		}
	} else {
		if anew {
			g.restart()
		}
		if err := g.ensure(ctx, head.Incarnation, head.Offset); err != nil {
			return err
		}
	}
	if g.tail == nil {
		g.tail = &record.Tail{SegmentKey: g.key, Incarnation: head.Incarnation, Session: head.Session}
	}
	return nil
}

// renewed reports whether some node of the tail has turned out to be another one.
func (g *segment) renewed() bool {
	for _, p := range g.own {
		if len(p.Renewed()) > 0 {
			return true
		}
	}
	return g.gen != nil && len(g.gen.Renewed()) > 0
}

// noteWhole puts the whole stripes into the tail and drops the pieces that they cover.
func (g *segment) noteWhole(whole uint32) error {
	if whole == 0 {
		return nil
	}
	m, err := g.gen.Manifest(int64(whole)*int64(g.gen.Spec().StripeSize), 0)
	if err != nil {
		return err
	}
	g.tail.Whole = m
	g.drop(g.tail.Superseded())
	return nil
}

// drop gives up the generations of pieces; they are deleted after the cut that does not name them.
func (g *segment) drop(pieces []record.Piece) {
	for _, p := range pieces {
		g.s.intents.release(g.own[p.Manifest.Generation])
		delete(g.own, p.Manifest.Generation)
	}
}

// shipPiece sends what lies between the end of the tail and to. When too many pieces have come
// together, one piece from the last whole stripe on takes the place of all.
func (g *segment) shipPiece(ctx context.Context, f *os.File, to int64) error {
	from := g.tail.End()
	if from == to {
		return nil
	}
	next := *g.tail
	if len(next.Pieces) >= maxPieces {
		from, next.Pieces = next.WholeEnd(), nil
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
	if len(next.Pieces) == 1 {
		g.drop(g.tail.Pieces)
	}
	g.own[man.Generation] = gen
	*g.tail = next
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
