package zdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/internal/wal"
)

const (
	compactTick  = 2 * time.Second
	compactRetry = 5 * time.Second
	// failedRetry is how long a segment is left alone that could not be compacted.
	failedRetry = 10 * time.Minute
	// tinyShare of SegmentSize or less is a tiny segment; so many of them are merged.
	tinyShare = 8
	tinyRun   = 8
)

// compactor copies live entries forward and removes segments.
type compactor struct {
	wake chan struct{}

	mu      sync.Mutex // one at a time
	waiting []waiting  // nothing refers to them any more, but they are not removed
	// needed tombstones that were found in a segment; what looks dead in it is not.
	needed map[SegmentID]needed
	failed map[SegmentID]time.Time // when they could not be read; the background leaves them alone for a while

	// entries are the bytes that the entries of a segment take in it, dead ones too, of those that were walked for it.
	entries map[SegmentID]int64

	pace    pace
	ceiling ceiling // under mu

	// Since the namespace was opened, see Stats.
	groups, segments atomic.Uint64
	copied, freed    atomic.Int64
}

// waiting is a segment whose live entries are elsewhere.
type waiting struct {
	id    SegmentID
	since uint64 // number of holds: who is older may still read it
}

// segmentError says which segment could not be compacted, where others may be.
type segmentError struct {
	id  SegmentID
	err error
}

func (e *segmentError) Error() string { return fmt.Sprintf("compact segment %d: %v", e.id, e.err) }
func (e *segmentError) Unwrap() error { return e.err }

func newCompactor() compactor {
	return compactor{
		wake: make(chan struct{}, 1), needed: make(map[SegmentID]needed), failed: make(map[SegmentID]time.Time),
		entries: make(map[SegmentID]int64),
	}
}

// compactLoop sweeps history, and compacts if the options say so.
func (n *Namespace) compactLoop() {
	timer := time.NewTimer(compactTick)
	defer timer.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.compactor.wake:
		case <-timer.C:
		}
		wait := compactTick
		if err := n.maintain(); err != nil && n.ctx.Err() == nil {
			n.logger.Warn("compaction", "namespace", n.name, "error", err)
			wait = compactRetry
			n.compactor.pace.look(noDebt, 1) // nobody waits for what does not come
		}
		timer.Reset(wait)
	}
}

func (n *Namespace) maintain() error {
	for n.ctx.Err() == nil && n.log.Err() == nil {
		sweeping, err := n.sweepIfDue()
		if err != nil {
			return err
		}
		if !n.o.Compaction.Auto {
			if !sweeping {
				return nil
			}
			continue
		}
		if n.applyBehind() {
			if err := n.apply(n.ctx); err != nil {
				return err
			}
		}
		if err := n.follow(n.ctx); err != nil && !errors.Is(err, errReplaced) {
			return err
		}
		done, err := n.compactNext()
		if err != nil || !done && !sweeping {
			return err
		}
	}
	return nil
}

// behindSegments of log that the index does not know are too much: nothing in them can be compacted, and what they overwrite
// counts as live. Where values are large that is much less than half an overlay.
const behindSegments = 2

func (n *Namespace) applyBehind() bool {
	n.idxMu.Lock()
	applied := n.base.Segment
	n.idxMu.Unlock()
	return n.log.Head().Segment >= applied+behindSegments
}

// sealed wakes the compactor beside whoever wants to be told.
func (n *Namespace) sealed(id SegmentID) {
	n.compactor.poke()
	if n.o.OnSeal != nil {
		n.o.OnSeal(id)
	}
}

func (c *compactor) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// compactNext does one step of the background work and says whether there may be another.
func (n *Namespace) compactNext() (bool, error) {
	n.compactor.mu.Lock()
	defer n.compactor.mu.Unlock()
	var res CompactResult
	if err := n.removeWaiting(n.ctx, &res); err != nil {
		return false, err
	}
	plan, ok := n.plan()
	if !ok {
		return false, nil
	}
	if err := n.compactGroup(n.ctx, plan.victims, plan.rate, &res); err != nil {
		return false, err
	}
	return true, n.removeWaiting(n.ctx, &res)
}

// Compact copies what is live in the segments that are worth it to the end of the log and removes them. Readers and
// writers go on meanwhile. After an error everything can still be read, and another run goes on.
func (n *Namespace) Compact(ctx context.Context, o CompactOptions) (CompactResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	n.compactor.mu.Lock()
	defer n.compactor.mu.Unlock()
	defer n.compactor.pace.look(noDebt, 1) // nobody waits for what does not come
	res, err := n.compactRun(ctx, o)
	if err != nil && n.isClosed() {
		err = ErrClosed
	}
	return res, n.public(err)
}

// compactRun is Compact. compactor.mu is held.
func (n *Namespace) compactRun(ctx context.Context, o CompactOptions) (res CompactResult, err error) {
	if err := n.bringUp(ctx, o.All); err != nil {
		return res, err
	}
	clear(n.compactor.failed)
	if err := n.removeWaiting(ctx, &res); err != nil {
		return res, err
	}
	var progress CompactProgress
	for group := range n.worthwhile(o.All, &progress.Total) {
		progress.Segment = group[0].ID
		if gerr := n.compactGroup(ctx, group, 0, &res); gerr != nil {
			var one *segmentError
			if err = errors.Join(err, gerr); !errors.As(gerr, &one) {
				return res, err
			}
			continue // the damage of one segment is no reason to leave the others
		}
		if err := n.removeWaiting(ctx, &res); err != nil {
			return res, err
		}
		for _, v := range group {
			progress.Done += v.Length
		}
		if o.Progress != nil {
			o.Progress(progress)
		}
	}
	for _, w := range n.compactor.waiting {
		res.Kept = append(res.Kept, w.id)
	}
	return res, err
}

// bringUp makes the figures right that a run goes by.
func (n *Namespace) bringUp(ctx context.Context, all bool) error {
	if n.isClosed() {
		return ErrClosed
	}
	if all {
		// On a full disk the active segment grows on; what can go without room goes.
		if _, err := n.log.Seal(ctx); err != nil && !errors.Is(err, ErrEmpty) && !wal.IsNoSpace(err) {
			return err
		}
	}
	if err := n.apply(ctx); err != nil {
		return err
	}
	if err := n.follow(ctx); err != nil && !errors.Is(err, errReplaced) {
		return err
	}
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return err
	}
	if x.Versions() > 0 {
		err = n.sweepForRoom(ctx)
	}
	return errors.Join(err, x.Release())
}

// compactGroup copies what is live in some segments forward and, once the index refers to nothing in
// them, puts them on the list of those to be removed. rate 0 is no bound.
func (n *Namespace) compactGroup(ctx context.Context, group []SegmentInfo, rate int64, res *CompactResult) error {
	defer n.db.working()()
	c := &copier{n: n, ctx: ctx, rate: rate, batch: NewBatch()}
	for _, s := range group {
		if err := c.segment(s); err != nil {
			if ctx.Err() == nil && !errors.Is(err, ErrNoSpace) && !wal.IsNoSpace(err) && n.log.Err() == nil {
				n.compactor.failed[s.ID] = time.Now()
				n.logger.Error("segment cannot be compacted", "namespace", n.name, "segment", s.ID, "error", err)
				return &segmentError{s.ID, err}
			}
			return fmt.Errorf("compact segment %d: %w", s.ID, err)
		}
		crashpoint.Hit("zdb.compact.copied")
	}
	if err := c.flush(); err != nil {
		return err
	}
	res.Copied += c.copied
	n.compactor.copied.Add(c.copied)
	n.compactor.groups.Add(1)
	if err := n.apply(ctx); err != nil {
		return err
	}
	for _, s := range group {
		if err := n.applyBeyond(ctx, s.ID); err != nil {
			return err
		}
	}
	crashpoint.Hit("zdb.compact.applied")
	if err := n.unreferenced(ctx, group); err != nil {
		return err
	}
	since := n.holds.advance()
	for _, s := range group {
		n.compactor.waiting = append(n.compactor.waiting, waiting{s.ID, since})
	}
	return nil
}

// unreferenced makes sure that the index has left segments. One that has not although
// everything it knew there was moved contradicts itself, and is rebuilt; but while a segment is lost nothing could be made in its place.
func (n *Namespace) unreferenced(ctx context.Context, group []SegmentInfo) error {
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return err
	}
	live := x.Live()
	for _, s := range group {
		if live[s.ID] == 0 {
			continue
		}
		why := fmt.Errorf("the index counts %d live bytes in segment %d and finds none", live[s.ID], s.ID)
		if len(n.log.Lost()) > 0 {
			n.compactor.failed[s.ID] = time.Now()
			err = errors.Join(err, &segmentError{s.ID, why})
			continue
		}
		err = x.Fail(why)
	}
	return errors.Join(err, x.Release())
}

// removeWaiting removes the segments that nobody needs any more.
func (n *Namespace) removeWaiting(ctx context.Context, res *CompactResult) error {
	c := &n.compactor
	var ids []SegmentID
	keep := c.waiting[:0:0]
	for _, w := range c.waiting {
		if !n.holds.clear(w.since) || !n.released(ctx, w.id) {
			keep = append(keep, w)
			continue
		}
		ids = append(ids, w.id)
	}
	if len(ids) == 0 || !n.replayMu.TryLock() {
		return nil // or when the index has been made
	}
	defer n.replayMu.Unlock()
	live, open := n.liveNow()
	if !open {
		return nil
	}
	// An index that was made anew since may want what the one before had dropped. It is compacted again.
	ids = slices.DeleteFunc(ids, func(id SegmentID) bool { return live[id] != 0 })
	if len(ids) == 0 {
		c.waiting = keep
		return nil
	}
	freed, err := n.log.Remove(ids)
	if err != nil && (wal.IsNoSpace(err) || errors.Is(err, ErrNoSpace)) && n.space.release() {
		freed, err = n.log.Remove(ids)
	}
	if err != nil {
		return err
	}
	c.waiting = keep
	for _, id := range ids {
		delete(c.needed, id)
		delete(c.entries, id)
	}
	res.Segments += len(ids)
	res.Freed += freed
	c.segments.Add(uint64(len(ids)))
	c.freed.Add(freed)
	n.logger.Debug("compacted", "namespace", n.name, "segments", len(ids), "bytes", freed)
	return nil
}

// liveNow gives the live bytes by segment, unless there is no index that can be believed.
func (n *Namespace) liveNow() (map[SegmentID]int64, bool) {
	n.idxMu.Lock()
	x := n.idx
	n.idxMu.Unlock()
	if x == nil || x.Broken() {
		return nil, false
	}
	return x.Live(), true
}

func (n *Namespace) released(ctx context.Context, id SegmentID) bool {
	if n.o.Compaction.Release == nil {
		return true
	}
	err := n.o.Compaction.Release(ctx, id)
	if err != nil {
		n.logger.Debug("compacted segment is kept", "namespace", n.name, "segment", id, "error", err)
	}
	return err == nil
}
