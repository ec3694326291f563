package zdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/overlay"
	"qsfs/zdb/internal/wal"
)

// Commit writes a batch to the log. When it returns nil, all changes of the
// batch are visible to every reader and, after a crash of the process, there together or not at all; they
// survive a loss of power once a Sync or SyncTo that began later has returned nil.
//
// After an error nothing of the batch is visible. ErrNoSpace and ErrPoisoned are
// worth telling apart. The batch may be committed again, or used again after Reset.
func (n *Namespace) Commit(ctx context.Context, b *Batch) (Commit, error) {
	return n.CommitIf(ctx, b, nil)
}

// CommitIf is Commit under a condition: check runs while no other batch of this
// namespace can be committed, and its error is returned as it is instead of committing. check
// may add to b; it must not commit to this namespace itself.
func (n *Namespace) CommitIf(ctx context.Context, b *Batch, check func(Reader) error) (Commit, error) {
	b.b.Prepare()
	if err := n.waitRoom(ctx, b.urgent()); err != nil {
		return Commit{}, n.public(err)
	}
	if err := n.giveWay(ctx, b); err != nil {
		return Commit{}, n.public(err)
	}
	n.commitMu.Lock()
	defer n.commitMu.Unlock()
	if n.isClosed() {
		return Commit{}, n.public(ErrClosed)
	}
	if check != nil {
		if err := check(reader{n, ctx}); err != nil {
			return Commit{}, err
		}
	}
	if b.err != nil {
		return Commit{}, n.public(b.err)
	}
	if b.Len() == 0 {
		return Commit{}, nil
	}
	if err := n.space.take(int64(b.Size()), b.urgent()); err != nil {
		return Commit{}, n.public(err)
	}
	a, err := n.log.Append(ctx, &b.b, b.needs, b.time)
	if wal.IsNoSpace(err) && b.urgent() && n.space.release() {
		a, err = n.log.Append(ctx, &b.b, b.needs, b.time)
	}
	if err != nil {
		return Commit{}, n.public(err)
	}
	return n.publish(b, a), nil
}

type reader struct {
	n   *Namespace
	ctx context.Context
}

func (r reader) Get(key []byte) (Entry, error) { return r.n.Get(r.ctx, key) }
func (r reader) Has(key []byte) (bool, error)  { return r.n.Has(r.ctx, key) }

// publish puts a batch that is in the log into the overlay. commitMu is held.
func (n *Namespace) publish(b *Batch, a wal.Appended) Commit {
	g := n.view.Load().tables[0]
	first := g.Len() == 0
	keep := n.outlive
	if n.sharesBuffer(b) {
		keep = func(p []byte) []byte { return p }
	}
	seq := a.First
	for _, it := range b.b.Items() {
		loc := Location{Segment: a.Segment, Offset: a.Offset + int64(it.Value), Length: it.Length}
		n.version++
		e := overlay.Entry{
			Key: keep(b.b.Key(it)), Delete: it.Delete, Given: b.time != 0, Seq: seq, Time: a.Time,
			Location: loc, Version: n.version,
		}
		if !it.Delete && int(it.Length) <= n.o.InlineMax {
			e.Inline, e.Value = true, keep(b.b.Bytes(it))
		}
		g.Add(e)
		seq++
	}
	n.visible.Store(n.version)
	n.commits.Add(1)
	if first || g.Bytes() >= n.db.o.OverlayBytes/2 {
		n.poke()
	}
	return Commit{First: a.First, Last: a.Last}
}

// slabSize is how much memory the copied keys of batches get at a time.
const slabSize = 4 << 10

// sharesBuffer says whether the overlay may refer to the batch's buffer: when most of it stays in memory anyway. Else what stays is
// copied, so that a large value is not held by its key, nor what the buffer was large for by the next small batch.
func (n *Namespace) sharesBuffer(b *Batch) bool {
	stay := 0
	for _, it := range b.b.Items() {
		stay += len(b.b.Key(it))
		if int(it.Length) <= n.o.InlineMax {
			stay += int(it.Length)
		}
	}
	b.shared = b.b.Size() <= 2*stay+batch.HeaderSize+16*b.Len() && b.b.Held() <= 2*b.b.Size()
	return b.shared
}

// outlive copies p to where it outlives the batch. commitMu is held.
func (n *Namespace) outlive(p []byte) []byte {
	if len(p) > slabSize/4 {
		return bytes.Clone(p)
	}
	if cap(n.slab)-len(n.slab) < len(p) {
		n.slab = make([]byte, 0, slabSize)
	}
	at := len(n.slab)
	n.slab = append(n.slab, p...)
	return n.slab[at:len(n.slab):len(n.slab)]
}

func (n *Namespace) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// waitRoom waits while the overlay is full. Deletes may fill it once more while
// the disk leaves the applier no room.
func (n *Namespace) waitRoom(ctx context.Context, urgent bool) error {
	limit := n.db.o.OverlayBytes
	if urgent {
		limit *= 2
	}
	for tried := false; ; tried = true {
		n.stateMu.Lock()
		room, err, closed := n.room, n.applyErr, n.closed
		n.stateMu.Unlock()
		if closed {
			return ErrClosed
		}
		if n.overlayBytes() < limit {
			return nil
		}
		if err := n.log.Err(); err != nil {
			return err
		}
		if tried && err != nil {
			return fmt.Errorf("the index cannot take more: %w", err)
		}
		n.poke()
		select {
		case <-room:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (n *Namespace) overlayBytes() int64 {
	var sum int64
	for _, g := range n.view.Load().tables {
		sum += g.taken()
	}
	return sum
}
