package zstor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/segfile"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// Limits of one segment's transfer.
const (
	// stripesAtOnce bounds the stripes of one segment in flight; the memory budget bounds all.
	stripesAtOnce = 8
	// spareStripes is declared beyond a growing segment's size for what its i<N> will need.
	spareStripes = 64
	// attempts is how often a round begins a generation again after nodes went away under it.
	attempts = 3
)

// segment is the way of one segment to the nodes: a generation that grows with the file, pieces
// behind its last whole stripe, and, once the segment is sealed, the rest of both files.
type segment struct {
	s   *Store
	key record.SegmentKey

	// up is held by an upload, which takes mu for some stripes at a time: a round gets in between.
	up     sync.Mutex
	want   atomic.Int32 // rounds that wait for mu
	needed atomic.Int32 // rounds that wait for the upload

	// mu is held while stripes of the generation ship. It guards what follows.
	mu   sync.Mutex
	gen  *transfer.Generation // nil: none yet, or the last one has ended
	inc  [16]byte             // of the file that gen was made from
	max  uint32               // highest stripe on record for gen
	sums [][32]byte           // BLAKE3 of each whole stripe that was shipped; never leaves the process
	man  *record.Manifest     // sealed, and every stripe of it is written; its record may not be
	obj  *object              // sealed, and at the floor

	now    atomic.Pointer[transfer.Generation] // gen, for those who do not hold mu
	at     atomic.Int64                        // bytes that the whole stripes of gen cover
	done   atomic.Bool                         // obj is set
	behind atomic.Int64                        // how far whole stripes should be made up for, beside the rounds

	// Rounds alone change what follows, one at a time; tmu is for those who look at it meanwhile.
	tmu  sync.Mutex
	tail *record.Tail                               // what a cut may name; its whole stripes may be of an earlier generation
	own  map[record.Generation]*transfer.Generation // generations of this process that tail stands on, gen apart
	bad  bool                                       // the file is not what tail was made from: the tail cannot go on
	good bool                                       // the sealed file was checked, and is what tail ends with

	weak atomic.Bool // a node has lost what it had, perhaps of a generation of the tail that an earlier process made

	again bool // ship although a cut names the segment; guarded by Store.mu
}

type segmentKey = record.SegmentKey

func (s *Store) segment(k record.SegmentKey) *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segmentLocked(k)
}

// segmentAnew is segment for one that shall be shipped although a cut names it. Whoever finds it in the table ships it, too.
func (s *Store) segmentAnew(k record.SegmentKey) *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segmentLocked(k)
	g.again = true
	return g
}

func (s *Store) segmentLocked(k record.SegmentKey) *segment {
	g := s.segments[k]
	if g == nil {
		g = &segment{s: s, key: k, own: map[record.Generation]*transfer.Generation{}}
		s.segments[k] = g
	}
	return g
}

// shipped reports whether the sealed segment has reached the floor and waits for its cut.
func (g *segment) shipped() bool { return g.done.Load() }

// forget takes a segment out of the table.
func (s *Store) forget(g *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.segments[g.key] == g {
		delete(s.segments, g.key)
	}
}

// needless takes a segment out of the table that a cut names and nobody wants anew, and reports whether it was one.
func (s *Store) needless(g *segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.again || s.ledger == nil || !s.ledger.Has(g.key) {
		return false
	}
	if s.segments[g.key] == g {
		delete(s.segments, g.key)
	}
	return true
}

// errOrphan: another cut became the truth while a segment was shipped; what was shipped of it belongs to nothing.
var errOrphan = errors.New("another cut is continued by now")

// begin starts a generation of an object, on nodes that can take it now, and puts it on record.
func (s *Store) begin(ctx context.Context, object string, stripes func(stripeSize int) uint32) (*transfer.Generation, error) {
	pl, err := s.place()
	if err != nil {
		return nil, err
	}
	g, err := s.mover.Begin(transfer.Spec{
		Object: object, K: pl.Policy.K, N: pl.Policy.N, Nodes: pl.Nodes, KeyEpoch: uint32(s.ring.Epoch()),
		StripeSize:  codec.StripeSize(pl.Policy.K, int(s.cfg.QSFS.Slice)),
		Compression: s.compression(), Writer: s.set.Writer(), Fallback: pl.Fallback,
	})
	if err != nil {
		return nil, err
	}
	g.SetFloor(s.floor(pl.Policy.K))
	if err := s.intents.declare(ctx, max(stripes(g.Spec().StripeSize), 1)-1, g); err != nil {
		s.intents.release(g)
		return nil, err
	}
	return g, nil
}

func (s *Store) compression() uint8 {
	if s.cfg.Compression == "none" {
		return uint8(codec.CompressNone)
	}
	return uint8(codec.CompressZstd)
}

// restart ends the generation: what it wrote is deleted by the intent, after a cut without it. A tail
// that stands on it stays: what a cut names, or may name, is at the floor.
func (g *segment) restart() {
	if g.gen != nil {
		g.tmu.Lock()
		if g.tail != nil && g.tail.Whole != nil && g.tail.Whole.Generation == g.gen.ID() {
			g.own[g.gen.ID()] = g.gen
		} else {
			g.s.intents.release(g.gen)
		}
		g.tmu.Unlock()
	}
	g.gen, g.sums, g.max, g.man = nil, nil, 0, nil
	g.now.Store(nil)
	g.at.Store(0)
}

// yield reports whether an upload should let a round go first: one that wants this segment, or, on a slow
// line, any that does not wait for the upload itself.
func (g *segment) yield() bool {
	return g.want.Load() > 0 || g.s.pace.slow() && g.s.rounding.Load() && g.needed.Load() == 0
}

// letPass waits while it should yield, but not for ever: an upload gets forward under any load.
func (g *segment) letPass(ctx context.Context) {
	for end := time.Now().Add(g.s.cfg.QSFS.SyncInterval); g.yield() && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// lockSoon is mu.Lock for a round: an upload that holds it lets go as soon as it can.
func (g *segment) lockSoon() {
	g.want.Add(1)
	g.mu.Lock()
	g.want.Add(-1)
}

// usable reports whether the generation can go on.
func (g *segment) usable(inc [16]byte) bool {
	return g.gen != nil && g.gen.Err() == nil && g.inc == inc
}

// ensure gives the segment a usable generation.
func (g *segment) ensure(ctx context.Context, inc [16]byte, size int64) error {
	if g.usable(inc) {
		return nil
	}
	g.restart()
	// As many stripes as a full segment may need; a larger one is declared again.
	gen, err := g.s.begin(ctx, segmentObject(g.key), func(p int) uint32 {
		return codec.Stripes(max(size, g.s.segmentSize(g.key.Namespace)), p) + spareStripes
	})
	if err != nil {
		return err
	}
	g.gen, g.inc = gen, inc
	g.now.Store(gen)
	g.max = codec.Stripes(max(size, g.s.segmentSize(g.key.Namespace)), gen.Spec().StripeSize) + spareStripes - 1
	return nil
}

func (s *Store) segmentSize(ns string) int64 {
	if ns == nsMeta {
		return int64(s.cfg.QSFS.SegmentSizeMeta)
	}
	return int64(s.cfg.QSFS.SegmentSizeData)
}

// declareUpTo puts more stripes on record than were foreseen.
func (g *segment) declareUpTo(ctx context.Context, stripes uint32) error {
	if stripes == 0 || stripes-1 <= g.max {
		return nil
	}
	if err := g.s.intents.declare(ctx, stripes-1, g.gen); err != nil {
		return err
	}
	g.max = stripes - 1
	return nil
}

// writeWhole ships the whole stripes up to one, as many as it can until stop says that it is enough.
func (g *segment) writeWhole(ctx context.Context, f io.ReaderAt, to uint32, stop func() bool) error {
	from := uint32(len(g.sums))
	if to <= from {
		return nil
	}
	if err := g.declareUpTo(ctx, to); err != nil {
		return err
	}
	size := g.gen.Spec().StripeSize
	var step uint32
	for first := true; from < to && (first || stop == nil || !stop()); from, first = from+step, false {
		step = to - from
		if stop != nil {
			step = min(step, g.s.pace.step())
		}
		sums := make([][32]byte, step)
		began := time.Now()
		err := g.parallel(ctx, from, from+step, func(ctx context.Context, stripe uint32) error {
			return g.gen.WriteStripe(ctx, stripe, 0, size, func(p []byte) error {
				err := readFull(f, p, int64(stripe)*int64(size))
				sums[stripe-from] = blake3.Sum256(p)
				return err
			})
		})
		if err != nil {
			return err
		}
		if stop != nil {
			g.s.pace.took(step, time.Since(began))
		}
		g.sums = append(g.sums, sums...)
		g.at.Store(int64(len(g.sums)) * int64(size))
	}
	return nil
}

// parallel works on stripes of the generation side by side. Any error ends the generation, also that the caller gave up
// before all were begun: what was written would be encoded a second time, or be missing.
func (g *segment) parallel(ctx context.Context, from, to uint32, f func(ctx context.Context, stripe uint32) error) error {
	grp, gctx := errgroup.WithContext(ctx)
	grp.SetLimit(stripesAtOnce)
	begun := from
	for stripe := from; stripe < to && gctx.Err() == nil; stripe++ {
		grp.Go(func() error { return f(gctx, stripe) })
		begun++
	}
	err := grp.Wait()
	if err == nil && begun < to {
		err = context.Cause(ctx)
		g.gen.End(err)
	}
	return err
}

func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// ship brings a sealed segment to the floor: whole, checked against its footer, in one
// generation, with its manifest on record. It is idempotent; what a cut names already is shipped
// again only if somebody wants it anew (segmentAnew).
func (g *segment) ship(ctx context.Context) error {
	g.up.Lock()
	defer g.up.Unlock()
	if g.shipped() {
		return nil
	}
	if g.s.needless(g) {
		return nil
	}
	var err error
	for range attempts {
		if err = g.shipOnce(ctx); err == nil || !errors.Is(err, transfer.ErrBelowFloor) {
			return err
		}
		g.s.log.Warn("generation ended below the floor, beginning again", "object", segmentObject(g.key), "error", err)
	}
	return err
}

func (g *segment) shipOnce(ctx context.Context) error {
	src, err := openSealed(g.s, g.key)
	if err != nil {
		return err
	}
	defer src.close()
	for first := true; ; first = false {
		if done, err := g.shipSome(ctx, src, first); done || err != nil {
			return err
		}
		g.letPass(ctx)
	}
}

// shipSome ships a part of a sealed segment, less when a round wants the segment; done says that it
// was the last one.
func (g *segment) shipSome(ctx context.Context, src *sealed, first bool) (done bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer func() {
		if err != nil && g.gen != nil && g.gen.Err() != nil {
			g.restart()
		}
	}()
	if err := g.continueSealed(ctx, src, [16]byte(src.footer.Incarnation), first); err != nil {
		return false, err
	}
	if g.man == nil {
		if whole, err := g.writeSealed(ctx, src); !whole || err != nil {
			return false, err
		}
	}
	// From here on only the record is missing: if it cannot be written, only that is tried again.
	g.s.intents.hasManifest(g.gen)
	v, err := g.s.putManifest(ctx, g.man)
	if err != nil {
		return false, err
	}
	crashpoint.Hit("zstor.upload.manifest")
	return true, g.atFloor(v)
}

// atFloor hands a shipped segment over, unless it was taken out of the table meanwhile: then nothing will name it.
func (g *segment) atFloor(v record.Version) error {
	s := g.s
	s.mu.Lock()
	here := s.segments[g.key] == g
	if here {
		g.obj = s.objects.add(g.key, g.man, v, g.gen)
		g.done.Store(true)
	}
	s.mu.Unlock()
	if !here {
		g.restart()
		return fmt.Errorf("segment %s: %w", segmentObject(g.key), errOrphan)
	}
	return nil
}

// writeSealed writes stripes of a sealed segment that its generation lacks, and reports whether none is missing any
// more: it stops early when a round should go first.
func (g *segment) writeSealed(ctx context.Context, src *sealed) (whole bool, err error) {
	size := g.gen.Spec().StripeSize
	dataLen, indexLen := src.footer.DataLength, src.indexLen
	data, index := codec.Stripes(dataLen, size), codec.Stripes(indexLen, size)
	if err := g.declareUpTo(ctx, data+index); err != nil {
		return false, err
	}
	if err := g.writeWhole(ctx, src.data, max(data, 1)-1, g.yield); err != nil {
		return false, err
	}
	if uint32(len(g.sums))+1 < data {
		return false, nil
	}
	err = g.parallel(ctx, uint32(len(g.sums)), data+index, func(ctx context.Context, stripe uint32) error {
		f, s, length := io.ReaderAt(src.data), stripe, dataLen
		var end codec.End
		if stripe >= data {
			f, s, length = src.index, stripe-data, indexLen
		} else if stripe == data-1 {
			end |= codec.EndOfData
		}
		if stripe == data+index-1 {
			end |= codec.EndOfObject
		}
		off, n := codec.StripeSpan(s, length, size)
		return g.gen.WriteStripe(ctx, stripe, end, int(n), func(p []byte) error { return readFull(f, p, off) })
	})
	if err != nil {
		return false, err
	}
	g.man, err = g.gen.Manifest(dataLen, indexLen)
	return err == nil, err
}

// continueSealed goes on with the generation that the tail began, if the sealed file still is what
// was shipped of it, which is looked at first; otherwise it begins a new one.
func (g *segment) continueSealed(ctx context.Context, src *sealed, inc [16]byte, first bool) error {
	if first && g.usable(inc) {
		if fallback := g.gen.Spec().Fallback; fallback && g.s.mainPossible() {
			g.restart()
		} else if err := g.matches(src); err != nil {
			g.s.log.Info("a sealed segment is not what its tail was, beginning again", "object", segmentObject(g.key), "reason", err)
			g.tmu.Lock()
			g.bad = g.tail != nil
			g.tmu.Unlock()
			g.restart()
		}
	}
	return g.ensure(ctx, inc, src.footer.DataLength+src.indexLen)
}

// mainPossible reports whether the main policy could be placed now.
func (s *Store) mainPossible() bool {
	pl, err := s.place()
	return err == nil && !pl.Fallback
}

// matches compares the whole stripes that were shipped with the sealed file.
func (g *segment) matches(src *sealed) error {
	size := g.gen.Spec().StripeSize
	if int64(len(g.sums))*int64(size) >= src.footer.DataLength && len(g.sums) > 0 {
		return fmt.Errorf("sealed at %d, %d stripes of %d were shipped", src.footer.DataLength, len(g.sums), size)
	}
	buf := make([]byte, size)
	for i, want := range g.sums {
		if err := readFull(src.data, buf, int64(i)*int64(size)); err != nil {
			return err
		}
		if blake3.Sum256(buf) != want {
			return fmt.Errorf("stripe %d differs", i)
		}
	}
	return nil
}

func (s *Store) putManifest(ctx context.Context, m *record.Manifest) (record.Version, error) {
	body, err := m.Encode()
	if err != nil {
		return record.Version{}, err
	}
	v, err := s.set.Put(ctx, record.KindManifest, record.ManifestObject(m.Object, m.Generation), body)
	if err != nil {
		return v, fmt.Errorf("write manifest of %s: %w", m.Object, err)
	}
	return v, nil
}

// sealed is a sealed segment opened for upload. Its descriptors keep the files alive.
type sealed struct {
	data, index *os.File
	indexLen    int64
	footer      segfile.Footer
}

func (x *sealed) close() { _ = errors.Join(x.data.Close(), x.index.Close()) } // only read from

// openSealed opens both files and checks them: the footer first, then i<N>, then every piece of
// d<N> against it. What is damaged here must not replace what is good elsewhere.
func openSealed(s *Store, k record.SegmentKey) (_ *sealed, err error) {
	x := &sealed{}
	if x.index, err = os.Open(s.indexPath(k)); err != nil {
		return nil, fmt.Errorf("open sealed segment: %w", err)
	}
	if x.data, err = os.Open(s.dataPath(k)); err != nil {
		_ = x.index.Close()
		return nil, fmt.Errorf("open sealed segment: %w", err)
	}
	defer func() {
		if err != nil {
			x.close()
			err = fmt.Errorf("segment %s: %w", segmentObject(k), err)
		}
	}()
	st, err := x.index.Stat()
	if err != nil {
		return nil, err
	}
	x.indexLen = st.Size()
	if x.footer, err = segfile.ReadFooterAt(x.index, x.indexLen); err != nil {
		return nil, err
	}
	if x.footer.Namespace != k.Namespace || uint32(x.footer.ID) != k.Segment {
		return nil, fmt.Errorf("its footer names %s/%d", x.footer.Namespace, x.footer.ID)
	}
	h, err := segfile.ReadHeader(x.data)
	if err != nil {
		return nil, err
	}
	if h.Incarnation != x.footer.Incarnation || h.Namespace != k.Namespace || uint32(h.ID) != k.Segment {
		return nil, errors.New("d<N> and i<N> do not belong together")
	}
	if err := x.footer.VerifyIndex(x.index); err != nil {
		return nil, err
	}
	return x, x.footer.Verify(x.data)
}
