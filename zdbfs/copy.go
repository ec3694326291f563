package zdbfs

import (
	"context"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// copyExtents is how many extents one batch of a copy takes over: each costs up to two rows, besides what it replaces.
const copyExtents = 1000

// CopyFileRange makes n bytes of dst at dstOff the same as those of src at srcOff, and returns how many. Content in blobs
// is not copied but shared: rows only, two for each blob. It ends at the end of src.
func (fs *FS) CopyFileRange(ctx context.Context, src Ino, srcOff int64, dst Ino, dstOff, n int64) (int64, error) {
	switch {
	case srcOff < 0 || dstOff < 0 || n < 0:
		return 0, syscall.EINVAL
	case uint64(dstOff)+uint64(n) > MaxFileSize || uint64(srcOff)+uint64(n) > MaxFileSize:
		return 0, syscall.EFBIG
	case src == dst && srcOff < dstOff+n && dstOff < srcOff+n && n > 0:
		return 0, syscall.EINVAL
	}
	from, err := fs.regular(ctx, src)
	if err != nil {
		return 0, err
	}
	defer fs.table.unpin(from)
	to, err := fs.regular(ctx, dst)
	if err != nil {
		return 0, err
	}
	defer fs.table.unpin(to)
	if err := fs.room(0); err != nil {
		return 0, err
	}
	first, second := from, to
	if first.ino > second.ino {
		first, second = second, first
	}
	first.io.Lock()
	defer first.io.Unlock()
	if first != second {
		second.io.Lock()
		defer second.io.Unlock()
	}
	done, err := fs.copyRange(ctx, from, to, uint64(srcOff), uint64(dstOff), uint64(n))
	if done > 0 {
		return int64(done), nil
	}
	return 0, fs.errno(err)
}

// copyRange does it, both io locks held.
func (fs *FS) copyRange(ctx context.Context, from, to *inode, so, do, n uint64) (done uint64, err error) {
	quiet := context.WithoutCancel(ctx)
	for _, in := range []*inode{from, to} {
		if err := fs.flushLocked(quiet, in, flushBlobs); err != nil {
			return 0, err
		}
		if err := fs.finishTruncate(quiet, in); err != nil {
			return 0, err
		}
	}
	from.mu.RLock()
	size, gone := from.a.Size, from.gone
	from.mu.RUnlock()
	if gone {
		return 0, syscall.ESTALE
	}
	if so >= size {
		return 0, nil
	}
	n = min(n, size-so)
	to.op.Lock()
	defer to.op.Unlock()
	for done < n {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		step, err := fs.copyStep(quiet, from, to, so+done, do+done, n-done)
		if err != nil {
			return done, err
		}
		done += step
	}
	return done, nil
}

// copyStep copies what one batch takes.
func (fs *FS) copyStep(ctx context.Context, from, to *inode, so, do, n uint64) (uint64, error) {
	pieces, n, err := fs.extentsOf(ctx, from, so, n)
	if err != nil {
		return 0, err
	}
	t := fs.begin()
	defer t.close()
	fs.anyShared.Store(true)
	t.lockShared()
	p := t.planExtents(ctx, to)
	defer p.close()
	at := do
	for i := range pieces {
		e := &pieces[i]
		if e.Kind == meta.ExtentBlob {
			if err := fs.share(ctx, t, from, e); err != nil {
				return 0, err
			}
		}
		start, end := e.Start-so+do, e.End-so+do
		if at < start { // a hole
			if at, err = p.replace(at, start, nil); err != nil {
				return 0, err
			}
		}
		if at < start || i > 0 && p.full() {
			n = at - do
			break
		}
		e.Start, e.End = start, end
		if at, err = p.replace(start, end, e); err != nil {
			return 0, err
		}
		if at < end {
			n = at - do
			break
		}
	}
	if at < do+n {
		if at, err = p.replace(at, do+n, nil); err != nil {
			return 0, err
		}
		n = at - do
	}
	if err := p.finish(); err != nil {
		return 0, err
	}
	end := do + n
	t.update(to, func(a *meta.Inode) {
		a.Alloc = uint64(int64(a.Alloc) + p.alloc)
		a.Size = max(a.Size, end)
		a.Mtime, a.Ctime = t.now, t.now
	})
	t.storeSize(to, max(to.storedSize(), end))
	t.after(to, func() { to.drops++ })
	return n, t.commit()
}

// extentsOf returns the extents of in between a and a+n, clipped, without the zero ones, and how much of n they cover.
func (fs *FS) extentsOf(ctx context.Context, in *inode, a, n uint64) ([]meta.Extent, uint64, error) {
	ino, z := uint64(in.ino), a+n
	it, err := fs.meta.iter(ctx, meta.ExtentKey(ino, a+1), meta.ExtentKey(ino+1, 0), false)
	if err != nil {
		return nil, 0, err
	}
	defer it.Close()
	var out []meta.Extent
	inline := 0
	for ok := it.Seek(meta.ExtentKey(ino, a+1)); ok; ok = it.Next() {
		e, err := extentAt(it)
		if err != nil {
			return nil, 0, err
		}
		if e.Start >= z {
			break
		}
		if len(out) == copyExtents || inline > batchBytes/2 {
			return out, max(e.Start, a) - a, nil
		}
		if e.Kind == meta.ExtentZero {
			continue
		}
		e = e.Slice(max(e.Start, a), min(e.End, z))
		inline += len(e.Inline)
		out = append(out, e)
	}
	return out, n, it.Err()
}

// share gives an unshared blob its reference count, before the plan adds to it.
func (fs *FS) share(ctx context.Context, t *txn, owner *inode, e *meta.Extent) error {
	_, found, err := t.sharedCount(ctx, e.Blob)
	if err != nil || found {
		return err
	}
	n, err := fs.countReferences(ctx, uint64(owner.ino), e)
	if err != nil {
		return err
	}
	t.set(meta.SharedKey(e.Blob), meta.AppendUint64(nil, n))
	return nil
}
