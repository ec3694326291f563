package zdbfs

import (
	"context"
	"sync"
	"sync/atomic"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

// collector deletes blobs that nothing refers to any more, in zdbfs-data. A blob becomes garbage with a G row in the batch
// that took its last reference away. Its deletion waits until nobody can go back before that batch: until it is stable
// here, and, if there is a remote copy, until the newest acknowledged cut covers it. A cut takes the head of the metadata
// first, so the content it names may be newer: a deletion in it would take bytes from files as they were.
type collector struct {
	covered atomic.Uint64 // zdb.Seq
	wake    chan struct{}

	mu   sync.Mutex // one run at a time
	done zdb.Seq    // of the last run
}

func (c *collector) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Covered says that the newest acknowledged cut holds zdbfs-meta up to seq: what was deleted up to there can go.
func (fs *FS) Covered(seq zdb.Seq) {
	for {
		old := fs.collector.covered.Load()
		if uint64(seq) <= old || fs.collector.covered.CompareAndSwap(old, uint64(seq)) {
			break
		}
	}
	fs.collector.poke()
}

func (fs *FS) collectLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-fs.collector.wake:
		}
		if err := fs.collect(ctx); err != nil && ctx.Err() == nil {
			fs.complain("content of deleted files cannot be given back now", err)
		}
	}
}

// collect deletes all garbage that may go.
func (fs *FS) collect(ctx context.Context) error {
	fs.collector.mu.Lock()
	defer fs.collector.mu.Unlock()
	upTo := fs.meta.Durable().Seq
	if !fs.o.Standalone {
		upTo = min(upTo, zdb.Seq(fs.collector.covered.Load()))
	}
	if upTo <= fs.collector.done {
		return nil
	}
	from := []byte{meta.KindGarbage}
	for from != nil && ctx.Err() == nil {
		var err error
		if from, err = fs.collectSome(ctx, from, upTo); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		fs.collector.done = upTo
	}
	return nil
}

// collectSome deletes one batch of blobs, beginning with row from, and returns where to go on.
func (fs *FS) collectSome(ctx context.Context, from []byte, upTo zdb.Seq) ([]byte, error) {
	it, err := fs.meta.iter(ctx, from, []byte{meta.KindGarbage + 1}, true)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var blobs, rows batch
	blobs.frees, rows.frees = true, true
	var next []byte
	for ok := it.Seek(from); ok; ok = it.Next() {
		if len(rows.rows) == batchRows {
			next = append([]byte(nil), it.Key()...)
			break
		}
		e, err := it.Entry()
		if err != nil {
			return nil, err
		}
		if e.Seq > upTo {
			continue
		}
		k, err := meta.ParseKey(it.Key())
		if err != nil {
			return nil, err
		}
		blobs.del(meta.BlobKey(k.A))
		rows.del(meta.GarbageKey(k.A))
	}
	if err := it.Err(); err != nil || len(rows.rows) == 0 {
		return next, err
	}
	c, err := fs.data.commit(ctx, &blobs, 0)
	if err != nil {
		return nil, err
	}
	// Needing the deletion, the rows cannot go before it does.
	return next, fs.commit(&rows, c.Last)
}
