package zdbfs

import (
	"context"
	"fmt"
	"time"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

// flushMode says what a flush takes and where it puts it.
type flushMode int

const (
	flushBlobs  flushMode = iota // everything, in blobs
	flushFull                    // only whole blocks, and what lies before them: what is behind may still grow
	flushInline                  // everything; in rows if it is little, so that one fsync of one log is enough
)

const (
	inlineMax      = 64 << 10 // most dirty bytes that flushInline puts in rows
	inlineRuns     = 64       // and most pieces
	dataBatchBytes = 7 << 20
)

// flush commits what in has in memory. It does not sync. On error the data stays in memory and queued.
func (fs *FS) flush(ctx context.Context, in *inode, mode flushMode) error {
	in.io.Lock()
	defer in.io.Unlock()
	return fs.flushLocked(ctx, in, mode)
}

func (fs *FS) flushLocked(ctx context.Context, in *inode, mode flushMode) error {
	ctx = context.WithoutCancel(ctx)
	started := time.Now()
	in.mu.Lock()
	if in.gone {
		in.runs = runSet{}
		fs.recountLocked(in)
		in.mu.Unlock()
		return nil
	}
	if mode == flushFull {
		in.flushing = in.runs.takeFull(in.stored)
	} else {
		in.flushing = in.runs.take()
	}
	taken := in.flushing
	attrs := in.ver != in.saved
	in.mu.Unlock()
	if taken.empty() && (!attrs || mode == flushFull) {
		return nil
	}

	err := fs.commitRuns(ctx, in, taken, mode)
	in.mu.Lock()
	if err != nil {
		in.runs.under(in.flushing)
	}
	in.flushing = runSet{}
	fs.recountLocked(in)
	dirty := in.dirtyLocked()
	in.mu.Unlock()
	if dirty {
		fs.dirty.addSince(in, started)
	}
	if err != nil {
		return fmt.Errorf("flush inode %d: %w", in.ino, err)
	}
	return nil
}

// commitRuns writes runs and attributes: content first, then the extents that refer to it, with the size in the same
// batch. Several batches go in ascending order, so that a crash leaves an appended file with a shorter tail, not a hole.
func (fs *FS) commitRuns(ctx context.Context, in *inode, set runSet, mode flushMode) error {
	if !set.empty() {
		if err := fs.finishTruncate(ctx, in); err != nil {
			return err
		}
	}
	inline := mode == flushInline && set.bytes <= inlineMax && len(set.runs) <= inlineRuns
	var needs zdb.Seq
	extents := make([]meta.Extent, len(set.runs))
	for i := range set.runs {
		r := &set.runs[i]
		extents[i] = meta.Extent{Kind: meta.ExtentInline, Start: r.off, End: r.end(), Inline: r.data()}
	}
	if !inline && len(extents) > 0 {
		var err error
		if needs, err = fs.writeBlobs(ctx, in, set.runs, extents); err != nil {
			return err
		}
	}
	in.op.Lock()
	defer in.op.Unlock()
	for {
		// What one batch does not take goes into the next.
		n, err := fs.commitExtents(ctx, in, extents, needs)
		if err != nil {
			return err
		}
		if extents = extents[n:]; len(extents) == 0 {
			return nil
		}
	}
}

// writeBlobs puts each run in a blob of its own and makes the extents refer to them.
func (fs *FS) writeBlobs(ctx context.Context, in *inode, runs []run, extents []meta.Extent) (zdb.Seq, error) {
	first, err := fs.numbers.blobs(fs, len(runs))
	if err != nil {
		return 0, err
	}
	var last zdb.Seq
	var b batch
	for i := range runs {
		r := &runs[i]
		blob := first + uint64(i)
		meta.BlobHeader{Ino: uint64(in.ino), Offset: r.off}.Append(r.buf[:0])
		extents[i] = meta.Extent{Kind: meta.ExtentBlob, Start: r.off, End: r.end(), Blob: blob, BlobLen: uint32(len(r.data()))}
		b.set(meta.BlobKey(blob), r.buf)
		if i == len(runs)-1 || b.size+len(runs[i+1].buf) > dataBatchBytes || len(b.rows) == batchRows {
			c, err := fs.data.commit(ctx, &b, 0)
			if err != nil {
				return 0, fmt.Errorf("write content: %w", err)
			}
			last = c.Last
			b = batch{}
		}
	}
	return last, nil
}

// commitExtents commits as many of the extents as one batch takes, with the attributes, and returns how many. The caller
// holds in.io and in.op.
func (fs *FS) commitExtents(ctx context.Context, in *inode, extents []meta.Extent, needs zdb.Seq) (int, error) {
	t := fs.begin()
	defer t.close()
	t.needs = needs
	n := 0
	var alloc int64
	size := in.storedSize()
	if len(extents) > 0 {
		p := t.planExtents(ctx, in)
		defer p.close()
		for n < len(extents) && !p.full() {
			e := &extents[n]
			at, err := p.replace(e.Start, e.End, e)
			if err != nil {
				return 0, err
			}
			size = max(size, at)
			if at < e.End { // it replaces more than a batch takes: the rest of it follows
				*e = e.Slice(at, e.End)
				break
			}
			n++
		}
		if err := p.finish(); err != nil {
			return 0, err
		}
		alloc = p.alloc
	}
	t.update(in, func(a *meta.Inode) { a.Alloc = uint64(int64(a.Alloc) + alloc) })
	t.storeSize(in, size)
	return n, t.commit()
}
