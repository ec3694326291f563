package zdbfs

import (
	"context"
	"fmt"
	"math"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// truncate sets the size and applies f, as one batch. Extents that do not fit into it are removed later, in a series of
// batches whose intent (a T row) is in the first. The caller holds in.io.
func (fs *FS) truncate(ctx context.Context, in *inode, size uint64, f func(*meta.Inode)) error {
	if err := fs.flushBelow(ctx, in, size); err != nil {
		return err
	}
	in.op.Lock()
	defer in.op.Unlock()
	t := fs.begin()
	defer t.close()
	var alloc int64
	more := false
	// An earlier truncation that is not finished goes on with this one: nothing above its cut was written since.
	start, pending := size, false
	if at, ok := fs.table.cut(in.ino); ok {
		start, pending = min(size, at), true
	}
	// What was allocated behind the end goes too when the size is set to what it is.
	shrink := size <= in.view().Size
	if shrink {
		t.frees = true
		p := t.planExtents(ctx, in)
		defer p.close()
		at, err := p.replace(start, math.MaxUint64, nil)
		if err != nil {
			return err
		}
		if err := p.finish(); err != nil {
			return err
		}
		alloc = p.alloc
		if more = at != math.MaxUint64; more {
			t.set(meta.TruncateKey(uint64(in.ino)), meta.AppendUint64(nil, start))
		} else if pending {
			t.del(meta.TruncateKey(uint64(in.ino)))
		}
	}
	t.update(in, func(a *meta.Inode) {
		if shrink || a.Size < size { // a write that came meanwhile may have made it larger still
			a.Size = size
		}
		a.Alloc = uint64(int64(a.Alloc) + alloc)
		f(a)
	})
	t.storeSize(in, size)
	t.after(in, func() {
		if more {
			// From now on the size can grow again: nobody may see what is left above.
			fs.table.setCut(in.ino, start)
		}
		if shrink {
			if !more && pending {
				fs.table.clearCut(in.ino)
			}
			in.runs.cut(size, math.MaxUint64)
			in.drops++
			fs.recountLocked(in)
		}
	})
	if err := t.commit(); err != nil {
		return err
	}
	if more {
		fs.reap.truncated(in.ino)
	}
	return nil
}

// flushBelow commits written data that a size set now would count, for it must not be a hole after a crash. The caller
// holds in.io.
func (fs *FS) flushBelow(ctx context.Context, in *inode, size uint64) error {
	in.mu.RLock()
	counted := size > in.stored && !in.runs.empty() && in.runs.runs[0].off < size
	shrinks := size < in.a.Size
	in.mu.RUnlock()
	if !counted {
		return nil
	}
	err := fs.flushLocked(ctx, in, flushBlobs)
	if err != nil && shrinks {
		// It gives room back, so it goes on. The data is still in memory.
		fs.complain("written data cannot be made stable now and stays in memory", err)
		return nil
	}
	return err
}

// finishTruncate removes what a truncation has left. The caller holds in.io.
func (fs *FS) finishTruncate(ctx context.Context, in *inode) error {
	for {
		more, err := fs.truncateStep(ctx, in)
		if err != nil || !more {
			return err
		}
	}
}

// truncateStep removes one batch of dead extents and says whether more are left.
func (fs *FS) truncateStep(ctx context.Context, in *inode) (bool, error) {
	at, ok := fs.table.cut(in.ino)
	if !ok {
		return false, nil
	}
	in.op.Lock()
	defer in.op.Unlock()
	t := fs.begin()
	defer t.close()
	t.frees = true
	p := t.planExtents(ctx, in)
	defer p.close()
	to, err := p.replace(at, math.MaxUint64, nil)
	if err != nil {
		return false, err
	}
	if err := p.finish(); err != nil {
		return false, err
	}
	done := to == math.MaxUint64
	if done {
		t.del(meta.TruncateKey(uint64(in.ino)))
	}
	t.update(in, func(a *meta.Inode) { a.Alloc = uint64(int64(a.Alloc) + p.alloc) })
	if err := t.commit(); err != nil {
		return false, fmt.Errorf("truncate inode %d: %w", in.ino, err)
	}
	if done {
		fs.table.clearCut(in.ino)
	}
	return !done, nil
}

// resize is truncate for SETATTR: it checks the size and the space.
func (fs *FS) resize(ctx context.Context, in *inode, size uint64, f func(*meta.Inode)) error {
	v := in.view()
	switch {
	case v.IsDir():
		return syscall.EISDIR
	case !v.IsRegular():
		return syscall.EINVAL
	case size > MaxFileSize:
		return syscall.EFBIG
	}
	ctx = context.WithoutCancel(ctx)
	in.io.Lock()
	defer in.io.Unlock()
	return fs.truncate(ctx, in, size, f)
}
