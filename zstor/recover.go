package zstor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/segfile"
	"qsfs/zstor/client"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/note"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/receipt"
	"qsfs/zstor/internal/record"
)

// restoredAtOnce bounds the segments that a recovery restores side by side.
const restoredAtOnce = 4

// waitLine is the time between two progress lines of a recovery that waits for nodes.
const waitLine = 2 * time.Second

// roundWait is how long a recovery waits for the round that is under way: with the state directory put away it fails
// soon, but perhaps not before the calls that it has made to nodes that hang.
const roundWait = 45 * time.Second

// Recover brings the state directory back from the nodes: it claims the epoch, takes the newest cut,
// and restores exactly what that cut names: receipts, index segments, the metadata in full, the
// tails. File data stays on the nodes and comes when it is read. Killed and run again it goes on.
//
// What this process knew of a state that was put away meanwhile is forgotten first.
func (s *Store) Recover(ctx context.Context, progress func(client.Progress)) error {
	if !s.recoverMu.tryLock() {
		return fmt.Errorf("%w: another recovery runs", client.ErrBusy)
	}
	defer s.recoverMu.unlock()
	unlock, err := s.holdRounds(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.mayRecover(); err != nil {
		return err
	}
	progress(client.Progress{Phase: "claim", Message: "claiming the filesystem"})
	out, err := s.set.Recover(ctx)
	if err != nil {
		return recoverError(err)
	}
	crashpoint.Hit("zstor.claim.raised")
	s.mu.Lock()
	s.role = roleRecovering
	s.mu.Unlock()
	if !out.Resumed {
		if err := s.clearRestored(); err != nil {
			return err
		}
	}
	progress(client.Progress{Phase: "cut", Message: describeOutcome(out)})
	r := &recovery{s: s, cut: out.Cut, progress: progress}
	if out.Cut != nil {
		if err := s.checkHeads(ctx, out.Cut); err != nil {
			return err
		}
		if err := r.run(ctx); err != nil {
			return err
		}
	}
	if r.ledger == nil { // never cut: but it may have been shipped to
		r.ledger = record.NewLedger()
		if err := s.adoptIntents(ctx); err != nil {
			return err
		}
	}
	s.adoptCut(out.Cut, r.ledger)
	if err := s.saveCutNote(); err != nil {
		return err
	}
	if err := s.set.FinishRecovery(); err != nil {
		return err
	}
	s.own(out.Cut, r.ledger)
	return s.loadIncomplete(ctx)
}

// holdRounds takes the locks of rounds and comparisons, and gives what lets them go.
func (s *Store) holdRounds(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, roundWait)
	defer cancel()
	if err := s.roundMu.lockCtx(ctx); err != nil {
		return nil, fmt.Errorf("%w: a round does not end", client.ErrBusy)
	}
	if err := s.verifyMu.lockCtx(ctx); err != nil {
		s.roundMu.unlock()
		return nil, fmt.Errorf("%w: a comparison with the nodes does not end", client.ErrBusy)
	}
	return func() { s.verifyMu.unlock(); s.roundMu.unlock() }, nil
}

// mayRecover refuses a state directory that holds a filesystem. The files say what it is: a state that was put away
// while this process ran leaves an empty directory, and what this process owned went with it.
func (s *Store) mayRecover() error {
	o, err := client.ReadOwner(s.state)
	switch {
	case err == nil && o.Recovering:
		return nil
	case err == nil:
		return fmt.Errorf("%w: %w: %s is the state of a filesystem: recover into an empty directory, or move this one aside first", client.ErrBusy, ErrNotEmpty, s.state)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	has, err := s.localSegments()
	if err != nil {
		return err
	}
	if has {
		return fmt.Errorf("%w: %w: %s holds segments: move them aside first", client.ErrBusy, ErrNotEmpty, s.state)
	}
	s.forsake()
	return nil
}

// forsake forgets a state that is not here any more, as a restart would: this process owns nothing. Uploads that are
// under way end with their next record, and what they sent is on record. The caller holds the locks of holdRounds.
func (s *Store) forsake() {
	s.mu.Lock()
	none := s.role == roleNone
	s.role = roleNone // nothing in the background begins from here on
	s.mu.Unlock()
	if none {
		return
	}
	s.log.Info("the state that this process knew is not here any more")
	s.set.Disown()
	s.newBase = nil
	s.adoptCut(nil, nil)
	s.doubts.replace(s.readNodesNote())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.att, s.fenced, s.problem, s.paid = nil, nil, nil, s.owed
	close(s.cutDone) // whoever waits for a cut hears that nothing is attached
	s.cutDone = make(chan struct{})
}

func recoverError(err error) error {
	var few *quorum.QuorumError
	switch {
	case errors.As(err, &few) && few.Damaged():
		return fmt.Errorf("%w: %w", client.ErrDamaged, err)
	case errors.Is(err, quorum.ErrQuorum):
		return fmt.Errorf("%w: %w", client.ErrUnavailable, err)
	case errors.Is(err, quorum.ErrFenced):
		return fmt.Errorf("%w: %w", client.ErrFenced, err)
	case errors.Is(err, quorum.ErrInUse):
		return fmt.Errorf("%w: %w", client.ErrBusy, err)
	case errors.Is(err, record.ErrDamaged):
		return fmt.Errorf("%w: %w", client.ErrDamaged, err)
	}
	return err
}

func describeOutcome(out quorum.Outcome) string {
	if out.Cut == nil {
		return fmt.Sprintf("the filesystem is empty: it was never cut (epoch %d now)", out.Owner.Epoch)
	}
	text := fmt.Sprintf("newest cut is of %s, epoch %d now", out.Cut.Time.Format(time.RFC3339), out.Owner.Epoch)
	if out.Resumed {
		return "going on with an earlier recovery: " + text
	}
	if out.Answered < out.Of {
		text += fmt.Sprintf("; %d of %d metadata nodes answered", out.Answered, out.Of)
	}
	return text
}

// clearRestored removes what an earlier recovery had restored from another cut. It was never mounted.
func (s *Store) clearRestored() error {
	for _, dir := range []string{"data", "index"} {
		for _, ns := range []string{nsData, nsMeta} {
			if err := os.RemoveAll(filepath.Join(s.state, dir, ns)); err != nil {
				return fmt.Errorf("clear what an earlier recovery left: %w", err)
			}
		}
	}
	return nil
}

// checkHeads compares the cut with what the data nodes know: a newer head there means that the
// metadata nodes hide the newest cut, or lost it.
func (s *Store) checkHeads(ctx context.Context, cut *record.Cut) error {
	newest := cut.ID()
	if cut.Number == 0 && !cut.Origin.IsZero() {
		newest = cut.Origin
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var heads []record.CutHead
	for _, e := range s.sealer.KeyEpochs() {
		for _, id := range s.order {
			v, err := s.peers[id].Get(ctx, s.sealer.HeadName(e))
			if err != nil {
				continue // a node that is away, or never heard of a cut, says nothing
			}
			if h, err := s.sealer.OpenHead(v); err == nil {
				heads = append(heads, h)
			}
		}
	}
	if err := record.CheckHeads(newest, heads); err != nil {
		return fmt.Errorf("%w: the newest cut is missing: %w; bring the metadata nodes back that have it", client.ErrDamaged, err)
	}
	return nil
}

// recovery restores one cut.
type recovery struct {
	s        *Store
	cut      *record.Cut
	ledger   *record.Ledger
	progress func(client.Progress)
	done     atomic.Int64
	bytes    atomic.Int64
	told     atomic.Int64 // when it last said that it waits
}

func (r *recovery) run(ctx context.Context) error {
	var err error
	if r.ledger, err = r.s.loadLedger(ctx, r.cut); err != nil {
		return fmt.Errorf("read the live set: %w", err)
	}
	for _, ns := range []string{nsData, nsMeta} {
		for _, dir := range []string{"data", "index"} {
			if err := note.MakeDir(filepath.Join(r.s.state, dir, ns)); err != nil {
				return err
			}
		}
	}
	if err := r.s.adoptIntents(ctx); err != nil {
		return err
	}
	live := r.ledger.Live()
	// Metadata first: without it nothing can be listed.
	for _, ns := range []string{nsMeta, nsData} {
		r.done.Store(0)
		grp, gctx := errgroup.WithContext(ctx)
		grp.SetLimit(restoredAtOnce)
		total := int64(0)
		for _, ref := range live {
			if ref.Namespace == ns {
				total++
			}
		}
		for _, ref := range live {
			if ref.Namespace != ns {
				continue
			}
			grp.Go(func() error {
				if err := r.segment(gctx, ref); err != nil {
					return fmt.Errorf("segment %s: %w", segmentObject(ref.SegmentKey), err)
				}
				r.progress(client.Progress{Phase: ns, Items: r.done.Add(1), ItemsTotal: total, Bytes: r.bytes.Load()})
				return nil
			})
		}
		if err := grp.Wait(); err != nil {
			return err
		}
	}
	for i := range r.cut.Tails {
		t := &r.cut.Tails[i]
		if err := r.tail(ctx, t); err != nil {
			return fmt.Errorf("tail of %s: %w", segmentObject(t.SegmentKey), err)
		}
		r.progress(client.Progress{Phase: "tails", Items: int64(i + 1), ItemsTotal: int64(len(r.cut.Tails)), Bytes: r.bytes.Load()})
	}
	return nil
}

// segment restores the receipt, then, of metadata, d<N>, and i<N> last: it is what makes the segment
// a sealed one, and what a repeated recovery looks for.
func (r *recovery) segment(ctx context.Context, ref record.SegmentRef) error {
	k := ref.SegmentKey
	if r.restored(ref) {
		return nil
	}
	m, _, err := r.s.readManifest(ctx, segmentObject(k), ref.Generation)
	if err != nil {
		return err
	}
	if m.DataLen != ref.DataLen || m.IndexLen != ref.IndexLen {
		return fmt.Errorf("%w: manifest and cut disagree about the length", client.ErrDamaged)
	}
	rc := receipt.Receipt{Manifest: *m, Full: full(m), Confirmed: confirmed(m), Time: time.Now()}
	if err := receipt.Write(r.s.state, k.Namespace, k.Segment, rc); err != nil {
		return err
	}
	index := r.s.indexPath(k)
	if k.Namespace == nsMeta {
		if err := r.write(ctx, r.s.dataPath(k), m, 0, m.DataStripes, nil); err != nil {
			return err
		}
	}
	err = r.write(ctx, index, m, m.DataStripes, m.DataStripes+m.IndexStripes, func(tmp string) error {
		return r.checkIndex(tmp, k, m)
	})
	if err != nil {
		return err
	}
	crashpoint.Hit("zstor.recover.segment")
	return nil
}

// restored reports whether an earlier run of this recovery finished a segment.
func (r *recovery) restored(ref record.SegmentRef) bool {
	k := ref.SegmentKey
	rc, err := receipt.Read(r.s.state, k.Namespace, k.Segment)
	if err != nil || rc.Manifest.Generation != ref.Generation {
		return false
	}
	st, err := os.Stat(r.s.indexPath(k))
	return err == nil && st.Size() == ref.IndexLen
}

// checkIndex compares a restored i<N> with its own sums, and a restored d<N> with it.
func (r *recovery) checkIndex(path string, k record.SegmentKey, m *record.Manifest) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	footer, err := segfile.ReadFooterAt(f, m.IndexLen)
	if err != nil {
		return err
	}
	if footer.DataLength != m.DataLen || footer.Namespace != k.Namespace || uint32(footer.ID) != k.Segment {
		return fmt.Errorf("%w: i<N> is of another segment", client.ErrDamaged)
	}
	if err := footer.VerifyIndex(f); err != nil {
		return err
	}
	if k.Namespace != nsMeta {
		return nil
	}
	d, err := os.Open(r.s.dataPath(k))
	if err != nil {
		return err
	}
	defer d.Close()
	return footer.Verify(d)
}

// write restores a file from stripes [from, to) of an object: aside, synced, checked, renamed.
func (r *recovery) write(ctx context.Context, path string, m *record.Manifest, from, to uint32, check func(tmp string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".restore*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what matters is the first error
		}
	}()
	err = r.copyStripes(ctx, f, m, from, to, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if check != nil {
		if err := check(f.Name()); err != nil {
			return err
		}
	}
	if filepath.Base(filepath.Dir(filepath.Dir(path))) == "index" {
		crashpoint.Hit("zstor.recover.receipt") // the receipt is there, i<N> is not
	}
	if err := os.Chmod(f.Name(), 0o600); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return note.SyncDir(filepath.Dir(path))
}

// copyStripes writes stripes one after the other from an offset on.
func (r *recovery) copyStripes(ctx context.Context, f *os.File, m *record.Manifest, from, to uint32, at int64) error {
	for stripe := from; stripe < to; stripe++ {
		plain, release, err := r.readStripe(ctx, m, stripe)
		if err != nil {
			return err
		}
		length, s := m.DataLen, stripe
		if stripe >= m.DataStripes {
			length, s = m.IndexLen, stripe-m.DataStripes
		}
		_, want := codec.StripeSpan(s, length, int(m.StripeSize))
		if int64(len(plain)) != want {
			release()
			return fmt.Errorf("%w: stripe %d has %d bytes, %d were expected", client.ErrDamaged, stripe, len(plain), want)
		}
		_, err = f.WriteAt(plain, at)
		at += want
		release()
		if err != nil {
			return err
		}
		r.bytes.Add(want)
	}
	return nil
}

// waits says from time to time why nothing moves.
func (r *recovery) waits(why error) {
	now := time.Now().UnixNano()
	last := r.told.Load()
	if now-last < int64(waitLine) || !r.told.CompareAndSwap(last, now) {
		return
	}
	r.progress(client.Progress{Phase: "wait", Bytes: r.bytes.Load(), Message: "waiting for nodes: " + why.Error()})
}

// readStripe waits for nodes that come back, but not for ever: a recovery can be run again.
func (r *recovery) readStripe(ctx context.Context, m *record.Manifest, stripe uint32) ([]byte, func(), error) {
	plain, release, err := r.s.readTelling(ctx, m, stripe, r.waits)
	if err != nil {
		return nil, nil, wireError(err)
	}
	return plain, release, nil
}

// tail restores the active segment as far as the cut knows it: whole stripes, then the pieces.
func (r *recovery) tail(ctx context.Context, t *record.Tail) (err error) {
	path := r.s.dataPath(t.SegmentKey)
	if st, err := os.Stat(path); err == nil && st.Size() == t.End() {
		return nil // renamed into place by an earlier run
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".restore*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what matters is the first error
		}
	}()
	if t.Whole != nil {
		err = r.copyStripes(ctx, f, t.Whole, 0, t.Whole.DataStripes, 0)
	}
	for i := range t.Pieces {
		if err != nil {
			break
		}
		p := &t.Pieces[i]
		err = r.copyStripes(ctx, f, &p.Manifest, 0, p.Manifest.DataStripes, p.From)
	}
	if err == nil {
		err = r.checkTail(f, t)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Chmod(f.Name(), 0o600); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return note.SyncDir(filepath.Dir(path))
}

func (r *recovery) checkTail(f *os.File, t *record.Tail) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != t.End() {
		return fmt.Errorf("%w: %d bytes were restored, the cut says %d", client.ErrDamaged, st.Size(), t.End())
	}
	h, err := segfile.ReadHeader(f)
	if err != nil {
		return err
	}
	if h.Incarnation != segfile.Incarnation(t.Incarnation) || uint32(h.ID) != t.Segment || h.Namespace != t.Namespace {
		return fmt.Errorf("%w: the tail is of another segment", client.ErrDamaged)
	}
	return nil
}
