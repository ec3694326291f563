package zdbfs

import (
	"context"
	"errors"
	"math"
	"time"

	"qsfs/zdb"
)

// far is later than any time at which an inode became dirty.
var far = time.Unix(math.MaxInt32, 0)

// syncHead makes everything committed so far stable: the content that the head of the metadata needs first, then the
// metadata up to that head. In the other order a batch of somebody else could slip in between, and a crash would cut it
// together with what was promised behind it.
func (fs *FS) syncHead(ctx context.Context) error { return fs.syncTo(ctx, fs.meta.Head()) }

func (fs *FS) syncTo(ctx context.Context, h zdb.Head) error {
	if err := fs.data.SyncTo(ctx, h.Needs); err != nil {
		return err
	}
	return fs.meta.SyncTo(ctx, h.Seq)
}

// Fsync returns when the file's content and size are stable, and its other attributes unless dataOnly.
func (fs *FS) Fsync(ctx context.Context, ino Ino, dataOnly bool) error {
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return err
	}
	defer fs.table.unpin(in)
	in.mu.RLock()
	skip := dataOnly && in.runs.empty() && in.flushing.empty() && in.stored == in.a.Size
	in.mu.RUnlock()
	if !skip {
		if err := fs.flush(ctx, in, flushInline); err != nil {
			return fs.errno(err)
		}
	}
	return fs.errno(fs.syncHead(context.WithoutCancel(ctx)))
}

// Fsyncdir returns when the directory's entries are stable, and its attributes unless dataOnly.
func (fs *FS) Fsyncdir(ctx context.Context, ino Ino, dataOnly bool) error {
	return fs.Fsync(ctx, ino, dataOnly)
}

// Flush is what close(2) of a handle asks for. The writes have arrived before it, and it is no fsync: there is nothing to
// do.
func (fs *FS) Flush(ctx context.Context, ino Ino, h Handle) error { return nil }

// Sync makes everything written so far stable.
func (fs *FS) Sync(ctx context.Context) error {
	if err := fs.flushAll(ctx); err != nil {
		return fs.errno(err)
	}
	return fs.errno(fs.syncHead(context.WithoutCancel(ctx)))
}

// Syncfs is Sync, for the request of that name.
func (fs *FS) Syncfs(ctx context.Context) error { return fs.Sync(ctx) }

// flushAll commits every dirty inode. One that another flusher has taken from the queue may still be uncommitted, because
// that one waits for its lock, or has failed: so it takes nothing from the queue, and waits for the locks itself. All are
// tried; errors are joined.
func (fs *FS) flushAll(ctx context.Context) error {
	var errs []error
	for _, in := range fs.dirty.all() {
		if ctx.Err() == nil {
			if err := fs.flush(ctx, in, flushBlobs); err != nil && len(errs) < 8 {
				errs = append(errs, err)
			}
		}
		fs.table.unpin(in)
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// flushOlder commits every inode dirty since before then, and says how many. All are tried; errors are joined.
func (fs *FS) flushOlder(ctx context.Context, before time.Time) (int, error) {
	var errs []error
	done := 0
	for n := fs.dirty.size(); n > 0 && ctx.Err() == nil; n-- {
		in := fs.dirty.pop(before)
		if in == nil {
			break
		}
		if err := fs.flush(ctx, in, flushBlobs); err == nil {
			done++
		} else if len(errs) < 8 {
			errs = append(errs, err)
		}
		fs.dirty.done(in)
	}
	return done, errors.Join(append(errs, ctx.Err())...)
}

const ticksPerInterval = 8

// background commits and syncs what is older than half the flush interval, so that everything is stable one interval
// after it was written, and starts what follows from it.
func (fs *FS) background(ctx context.Context) {
	tick := time.NewTicker(max(fs.o.FlushInterval/ticksPerInterval, time.Millisecond))
	defer tick.Stop()
	segment := fs.meta.Head().Segment
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		flushed, err := fs.flushOlder(ctx, time.Now().Add(-fs.o.FlushInterval/2))
		// Names and attributes are committed at once: half an interval later they are stable too.
		if flushed > 0 || n%(ticksPerInterval/2) == 0 {
			if fs.meta.Head().Seq > fs.meta.Durable().Seq {
				err = errors.Join(err, fs.syncHead(ctx))
			}
		}
		if err != nil && ctx.Err() == nil {
			fs.complain("written data cannot be made stable now and stays in memory", err)
		}
		if h := fs.meta.Head(); h.Segment != segment {
			segment = h.Segment
			fs.lodgers.moveUpTo(h.Seq)
		}
		fs.collector.poke()
	}
}

// earlyFlusher writes whole blocks of files that are being written fast, ahead of their time.
func (fs *FS) earlyFlusher(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case in := <-fs.earlies:
			if err := fs.flush(ctx, in, flushFull); err != nil {
				fs.complain("written data cannot be committed now and stays in memory", err)
			}
			fs.table.unpin(in)
		}
	}
}

// early asks for that, if there is room in the queue; the regular flush comes anyway.
func (fs *FS) early(in *inode) {
	fs.table.again(in)
	select {
	case fs.earlies <- in:
	default:
		fs.table.unpin(in)
	}
}
