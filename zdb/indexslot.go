package zdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/wal"
	"qsfs/zdb/segfile"
)

// badgerDir holds one directory for each time the index was begun; only the highest counts.
const badgerDir = "badger"

// acquireIndex gives the index, opened and up to base, with one user more.
func (n *Namespace) acquireIndex(ctx context.Context) (*index.Index, error) {
	for {
		n.idxMu.Lock()
		if n.gone {
			n.idxMu.Unlock()
			return nil, ErrClosed
		}
		if n.idx != nil && n.idx.Broken() {
			broken := n.idx
			n.idx = nil
			n.leaving = append(n.leaving, broken)
			n.rebuilt.Add(1)
			n.idxMu.Unlock()
			n.logger.Warn("index does not check and is rebuilt", "namespace", n.name)
			if err := broken.Retire(true); err != nil {
				n.logger.Warn("remove broken index", "namespace", n.name, "error", err)
			}
			continue
		}
		if n.idx != nil && n.idx.Retain() {
			x := n.idx
			n.idxMu.Unlock()
			n.used()
			return x, nil
		}
		if wait := n.opening; wait != nil {
			n.idxMu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		done := make(chan struct{})
		n.opening = done
		n.idxMu.Unlock()
		x, err := n.openIndex(ctx)
		n.idxMu.Lock()
		n.opening = nil
		close(done)
		if err == nil {
			n.idx = x
			x.Retain()
		}
		n.idxMu.Unlock()
		if err != nil {
			return nil, err
		}
		n.dropMemory()
		for _, v := range n.db.indexes.opened(n) {
			v.closeIdleIndex()
		}
		return x, nil
	}
}

// used tells the bound on open indexes, at most once a second.
func (n *Namespace) used() {
	now := time.Now().Unix()
	if last := n.lastUsed.Load(); last != now && n.lastUsed.CompareAndSwap(last, now) {
		n.db.indexes.touch(n)
	}
}

// closeIdleIndex closes the index if nobody uses it. It does not wait for that: whoever wants the index meanwhile does, for
// Badger holds its files until it is closed, and so does closeIndex.
func (n *Namespace) closeIdleIndex() {
	if errors.Is(n.space.forIndex(), ErrNoSpace) {
		return // closing writes
	}
	n.idxMu.Lock()
	defer n.idxMu.Unlock()
	x := n.idx
	if x == nil || n.opening != nil || !x.Idle() {
		return
	}
	done := make(chan struct{})
	n.idx, n.opening = nil, done
	n.db.indexes.closed(n)
	go func() {
		if err := x.Retire(false); err != nil {
			n.logger.Warn("close index", "namespace", n.name, "error", err)
		}
		n.idxMu.Lock()
		defer n.idxMu.Unlock()
		n.opening = nil
		close(done)
	}()
}

// closeIndex closes it for good; iterators that are still open keep the files open.
func (n *Namespace) closeIndex() error {
	n.idxMu.Lock()
	n.gone = true
	for n.opening != nil {
		wait := n.opening
		n.idxMu.Unlock()
		<-wait
		n.idxMu.Lock()
	}
	x, leaving := n.idx, n.leaving
	n.idx = nil
	n.idxMu.Unlock()
	n.db.indexes.closed(n)
	n.db.linger(n.name, leaving...)
	if x == nil {
		return nil
	}
	if err := n.space.forIndex(); errors.Is(err, ErrNoSpace) {
		n.logger.Warn("index is left without closing it", "namespace", n.name, "error", err)
		x.Abandon()
		return nil
	}
	err := x.Retire(x.Broken())
	n.db.linger(n.name, x)
	return err
}

// openIndex opens what is there and replays what is missing, or begins anew.
func (n *Namespace) openIndex(ctx context.Context) (*index.Index, error) {
	for fresh := false; ; fresh = true {
		dir, err := n.currentIndex(fresh)
		if err != nil {
			return nil, err
		}
		if err := n.space.forOpening(index.Dirty(dir)); err != nil {
			return nil, err
		}
		x, err := index.Open(dir, n.logger)
		if err == nil {
			if err = n.catchUp(ctx, x); err == nil {
				err = n.dangling(x)
			}
			if err == nil {
				return x, nil
			}
			if rerr := x.Retire(false); rerr != nil {
				n.logger.Warn("close index", "namespace", n.name, "error", rerr)
			}
		}
		if fresh || !errors.Is(err, index.ErrBroken) {
			return nil, fmt.Errorf("open index: %w", err)
		}
		n.rebuilt.Add(1)
		n.logger.Warn("index is dropped and rebuilt", "namespace", n.name, "error", err)
	}
}

// currentIndex names the directory of the index and removes all others. fresh begins a new one.
func (n *Namespace) currentIndex(fresh bool) (string, error) {
	parent := filepath.Join(n.indexDir, badgerDir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return "", err
	}
	used := n.usedIndexes()
	highest := uint64(0)
	for _, e := range entries {
		if g, err := strconv.ParseUint(e.Name(), 10, 64); err == nil {
			highest = max(highest, g)
		}
	}
	if fresh || highest == 0 || used[strconv.FormatUint(highest, 10)] {
		highest++
	}
	keep := strconv.FormatUint(highest, 10)
	for _, e := range entries {
		if e.Name() != keep && !used[e.Name()] && (fresh || e.IsDir()) {
			if err := os.RemoveAll(filepath.Join(parent, e.Name())); err != nil {
				return "", err
			}
		}
	}
	return filepath.Join(parent, keep), nil
}

// usedIndexes names the directories of indexes that somebody still uses, broken ones and those of an earlier opening: Badger
// would try for ever to write a table into one that is gone. The last user of a broken one removes it.
func (n *Namespace) usedIndexes() map[string]bool {
	list := n.db.lingering(n.name)
	n.idxMu.Lock()
	defer n.idxMu.Unlock()
	n.leaving = slices.DeleteFunc(n.leaving, (*index.Index).Closed)
	used := make(map[string]bool)
	for _, x := range append(list, n.leaving...) {
		used[filepath.Base(x.Dir())] = true
	}
	return used
}

// catchUp replays what the log has between the place where the index is and base.
func (n *Namespace) catchUp(ctx context.Context, x *index.Index) error {
	n.idxMu.Lock()
	base := n.base
	n.idxMu.Unlock()
	applied, known := x.Applied()
	from, err := n.resumeFrom(applied, known, base)
	if err != nil {
		return err
	}
	to := wal.Pos{Segment: base.Segment, Offset: base.Offset}
	if known && !from.Before(to) {
		return nil
	}
	// What is removed meanwhile would be missed, or its file not be found.
	n.replayMu.RLock()
	defer n.replayMu.RUnlock()
	a := x.NewApplier(!known, n.policy())
	defer a.Discard()
	seq := applied.Seq
	err = n.log.Replay(ctx, from, to, n.o.InlineMax > 0,
		func(it wal.Item) error {
			seq = max(seq, it.Seq)
			c := n.change(it)
			// What the index has seen it has; a rebuild may meet the moved one first.
			c.Relocate = it.Moved && known
			return a.Add(c)
		},
		func(p wal.Pos, inc segfile.Incarnation) error {
			// A rebuild that is interrupted starts over: it needs the tombstones it has seen.
			if !known || a.Pending() < replayFlush {
				return nil
			}
			return a.Flush(index.Position{Segment: p.Segment, Offset: p.Offset, Incarnation: inc, Seq: seq})
		})
	if err != nil {
		return err
	}
	if err := a.Flush(base); err != nil {
		return err
	}
	if known {
		return nil
	}
	if err := n.pruneAll(ctx, x); err != nil {
		return err
	}
	return x.Forget()
}

// dangling gives an error when the index refers to a segment that was removed, which one of another day may do in what it
// keeps of the past. While something is lost no other one could be made.
func (n *Namespace) dangling(x *index.Index) error {
	if len(n.log.Lost()) > 0 {
		return nil
	}
	for id := range x.Live() {
		if _, _, ok := n.log.Locate(id); !ok {
			return fmt.Errorf("%w: it refers to segment %d, which is removed", index.ErrBroken, id)
		}
	}
	return nil
}

// pruneAll drops what a rebuild kept beyond the policy, before the index is used.
func (n *Namespace) pruneAll(ctx context.Context, x *index.Index) error {
	if x.Versions() == 0 {
		return nil
	}
	for place := (*index.Place)(nil); ; {
		next, _, _, err := x.Prune(place, n.policy(), pruneStep)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || next == nil {
			return err
		}
		place = next
	}
}

// replayFlush is how many bytes of changes a replay collects before it notes how far it has come.
const replayFlush = 512 << 10

func (n *Namespace) change(it wal.Item) index.Change {
	c := index.Change{Key: it.Key, Delete: it.Delete}
	c.Location, c.Seq, c.Time, c.Moved, c.Given = it.Location, it.Seq, it.Time, it.Moved, it.Given
	if it.HasValue && !it.Delete && int(it.Location.Length) <= n.o.InlineMax {
		c.Inline, c.Value = true, it.Value
	}
	return c
}

// resumeFrom finds the place in the log where the index goes on. An index that
// knows more than the log, or another log, is broken.
func (n *Namespace) resumeFrom(p index.Position, known bool, base index.Position) (wal.Pos, error) {
	if !known {
		return n.log.First(), nil
	}
	inc, length, ok := n.log.Locate(p.Segment)
	if !ok || inc != p.Incarnation {
		return wal.Pos{}, fmt.Errorf("%w: it has seen a segment %d that the log does not have", index.ErrBroken, p.Segment)
	}
	from := wal.Pos{Segment: p.Segment, Offset: p.Offset}
	if p.Offset > length {
		// Batches that were durable without a witness are now in the next segment, with
		// their sequences. Replaying them brings their new places.
		from.Offset = length
	}
	if p.Seq > base.Seq || (wal.Pos{Segment: base.Segment, Offset: base.Offset}).Before(from) {
		return wal.Pos{}, fmt.Errorf("%w: it is ahead of the log", index.ErrBroken)
	}
	if n.log.RemovedBetween(p.Segment, base.Segment) {
		// What was moved out of them it has never seen, and would take for something that it had dropped.
		return wal.Pos{}, fmt.Errorf("%w: it has not seen segments that are removed", index.ErrBroken)
	}
	return from, nil
}

// recoverIndex brings the index in order after an unclean stop, before new
// sequences are given out: only now can be seen whether it knows what the log lost.
func (n *Namespace) recoverIndex(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(n.indexDir, badgerDir)); errors.Is(err, os.ErrNotExist) {
		return nil // it will be built when it is asked for
	}
	x, err := n.acquireIndex(ctx)
	if err == nil {
		return x.Release()
	}
	if ctx.Err() != nil {
		return err
	}
	n.logger.Warn("index cannot be opened now", "namespace", n.name, "error", err)
	if !n.log.Found().Cut {
		return nil // it holds nothing that the log does not have; the next use tries again
	}
	return os.RemoveAll(filepath.Join(n.indexDir, badgerDir))
}
