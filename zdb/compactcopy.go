package zdb

import (
	"context"
	"errors"
	"time"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/wal"
)

const (
	// A batch of moved entries holds the commit lock for as long as this takes to write.
	moveBytes   = 256 << 10
	moveEntries = 1024
	// moveSync bytes are copied between two fsyncs, so that nobody's own has to carry much.
	moveSync = 4 << 20
	// moveApply bytes or entries are copied before the index is told.
	moveApply = 16 << 20
)

// copier writes the live entries of segments again at the end of the log.
type copier struct {
	n     *Namespace
	ctx   context.Context
	rate  int64
	batch *Batch
	moves []index.Change

	carried  int64       // bytes of the deletes in the batch that nothing but other segments needs
	because  []SegmentID // where something older may be
	copied   int64
	unsynced int64
	untold   int64
	tombs    tombstones
	plain    bool // no superseded version is kept
}

// segment copies what the index refers to in one segment, and the deletes that are still needed.
func (c *copier) segment(s SegmentInfo) error {
	x, err := c.n.acquireIndex(c.ctx)
	if err != nil {
		return err
	}
	c.tombs = tombstones{id: s.ID}
	// One moment for the whole segment: a version and the delete above it are both live in it, or neither.
	at := x.Snapshot()
	c.plain = x.Versions() == 0 // after it: what comes later is still present in the snapshot
	err = c.n.log.Entries(s.ID, func(it wal.Item) error { return c.entry(at, it) })
	if err == nil {
		err = c.deletes(at)
	}
	return errors.Join(err, at.Close(), x.Release())
}

func (c *copier) entry(x *index.Snapshot, it wal.Item) error {
	live, err := c.isLive(x, it)
	if err != nil {
		return err
	}
	switch {
	case live:
		return c.move(it)
	case it.Delete:
		if c.tombs.add(it) {
			return nil
		}
		return c.deletes(x)
	}
	return nil
}

// isLive says whether the index refers to an entry, as the present version or as one that is kept.
func (c *copier) isLive(x *index.Snapshot, it wal.Item) (bool, error) {
	if !it.Delete {
		e, ok, err := x.Get(it.Key)
		if err != nil || ok && e.Location == it.Location {
			return err == nil, err
		}
	}
	if c.plain {
		return false, nil
	}
	v, ok, err := x.Version(it.Key, it.Seq)
	return ok && v.Location == it.Location, err
}

// move adds an entry to the batch.
func (c *copier) move(it wal.Item) error {
	if !c.batch.Fits(len(it.Key), int(it.Location.Length)+16) || c.batch.Len() >= moveEntries || c.batch.Size() >= moveBytes {
		if err := c.flush(); err != nil {
			return err
		}
	}
	m := batch.Moved{Key: it.Key, Seq: it.Seq, Time: it.Time, Delete: it.Delete, Given: it.Given}
	ch := index.Change{Delete: it.Delete, Relocate: true}
	ch.Seq, ch.Time, ch.Moved, ch.Given = it.Seq, it.Time, true, it.Given
	err := c.batch.b.Move(m, it.Location.Length, func(p []byte) error {
		if err := c.n.log.ReadValue(c.ctx, it.Location, 0, p); err != nil {
			return err
		}
		if !it.Delete && len(p) <= c.n.o.InlineMax {
			ch.Inline, ch.Value = true, append([]byte{}, p...)
		}
		return nil
	})
	ch.Key = append([]byte(nil), it.Key...)
	if err == nil {
		c.moves = append(c.moves, ch)
	}
	return err
}

// flush commits the batch, and keeps to the rate.
func (c *copier) flush() error {
	if c.batch.Len() == 0 {
		return nil
	}
	size := int64(c.batch.Size())
	id, err := c.n.commitMoves(c.ctx, c.batch, c.moves)
	if err != nil {
		return err
	}
	if c.carried > 0 {
		c.n.compactor.noteNeeded(id, c.carried, c.because)
		c.carried = 0
	}
	c.batch.Reset()
	c.moves = c.moves[:0]
	c.copied, c.unsynced, c.untold = c.copied+size, c.unsynced+size, c.untold+size
	if c.unsynced >= moveSync {
		c.unsynced = 0
		if err := c.n.log.Sync(c.ctx); err != nil {
			return err
		}
	}
	if c.untold >= moveApply {
		c.untold = 0
		if err := c.n.apply(c.ctx); err != nil {
			return err
		}
		if c.n.o.Compaction.Auto {
			c.n.lookAtDebt()
		}
	}
	return c.pause(size)
}

// pause waits for as long as n bytes may take.
func (c *copier) pause(n int64) error {
	if c.rate <= 0 {
		return c.ctx.Err()
	}
	t := time.NewTimer(time.Duration(n) * time.Second / time.Duration(c.rate))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// commitMoves appends moved entries to the log. They become visible in the index only, which
// takes them if it still has those entries: nobody has to wait for anything to be looked up.
func (n *Namespace) commitMoves(ctx context.Context, b *Batch, moves []index.Change) (SegmentID, error) {
	b.b.Prepare()
	if err := n.waitRoom(ctx, false); err != nil {
		return 0, err
	}
	// What the index cannot take frees nothing, and would be copied again and again, into the reserve.
	if err := n.space.forMakingRoom(); err != nil {
		return 0, err
	}
	n.commitMu.Lock()
	defer n.commitMu.Unlock()
	if n.isClosed() {
		return 0, ErrClosed
	}
	// Without a hook the room comes back at once: it may be taken from the reserve.
	urgent := n.o.Compaction.Release == nil
	if err := n.space.take(int64(b.Size()), urgent); err != nil {
		return 0, err
	}
	a, err := n.log.Append(ctx, &b.b, 0, 0)
	if wal.IsNoSpace(err) && urgent && n.space.release() {
		a, err = n.log.Append(ctx, &b.b, 0, 0)
	}
	if err != nil {
		return 0, noSpace(err)
	}
	g := n.view.Load().tables[0]
	for i, it := range b.b.Items() {
		m := moves[i]
		m.Location = Location{Segment: a.Segment, Offset: a.Offset + int64(it.Value), Length: it.Length}
		g.moves = append(g.moves, m)
		g.moved.Add(int64(len(m.Key)+len(m.Value)) + moveOverhead)
	}
	return a.Segment, nil
}

// moveOverhead is what a moved entry takes in memory beside key and value.
const moveOverhead = 160
