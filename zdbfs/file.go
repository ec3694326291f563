package zdbfs

import (
	"context"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// Open counts an open of ino until Release, and truncates with O_TRUNC.
func (fs *FS) Open(ctx context.Context, c Caller, ino Ino, fl OpenFlags) (Handle, error) {
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return 0, err
	}
	defer fs.table.unpin(in)
	if !fs.table.open(ino) {
		return 0, syscall.ESTALE
	}
	if v := in.view(); fl&syscall.O_TRUNC != 0 && v.IsRegular() {
		if err := fs.setattr(ctx, in, SetattrIn{Valid: SetSize | SetMtimeNow}); err != nil {
			fs.table.drop(ino, 0, 1)
			return 0, fs.errno(err)
		}
	}
	return Handle(ino), nil
}

// Release gives back an Open.
func (fs *FS) Release(ctx context.Context, h Handle) error {
	if fs.table.drop(Ino(h), 0, 1) {
		fs.reap.orphaned(Ino(h))
	}
	return nil
}

// Fallocate allocates a range, with FallocKeepSize without growing the file, removes one (FallocPunchHole with
// FallocKeepSize) or makes it zeros (FallocZeroRange). What is allocated is counted, and refused when there is no room,
// but not taken from the disk: a log has no place to reserve.
func (fs *FS) Fallocate(ctx context.Context, ino Ino, h Handle, mode uint32, off, n int64) error {
	switch {
	case off < 0 || n <= 0:
		return syscall.EINVAL
	case uint64(off)+uint64(n) > MaxFileSize:
		return syscall.EFBIG
	}
	switch mode {
	case 0, FallocKeepSize, FallocZeroRange, FallocZeroRange | FallocKeepSize, FallocPunchHole | FallocKeepSize:
	default:
		return syscall.EOPNOTSUPP
	}
	in, err := fs.regular(ctx, ino)
	if err != nil {
		return err
	}
	defer fs.table.unpin(in)
	if mode&FallocPunchHole == 0 {
		if err := fs.room(int(n)); err != nil {
			return err
		}
	}
	return fs.errno(fs.fallocate(context.WithoutCancel(ctx), in, mode, uint64(off), uint64(off)+uint64(n)))
}

func (fs *FS) fallocate(ctx context.Context, in *inode, mode uint32, a, z uint64) error {
	in.io.Lock()
	defer in.io.Unlock()
	// Everything is in rows then, and rows alone decide.
	if err := fs.flushLocked(ctx, in, flushBlobs); err != nil {
		return err
	}
	if err := fs.finishTruncate(ctx, in); err != nil {
		return err
	}
	in.op.Lock()
	defer in.op.Unlock()
	for at := a; at < z; {
		t := fs.begin()
		t.frees = mode&FallocPunchHole != 0
		to, alloc, err := fs.fallocateStep(ctx, t, in, mode, at, z)
		if err != nil {
			t.close()
			return err
		}
		keep := mode&FallocKeepSize != 0
		t.update(in, func(i *meta.Inode) {
			i.Alloc = uint64(int64(i.Alloc) + alloc)
			i.Mtime, i.Ctime = t.now, t.now
			if !keep {
				i.Size = max(i.Size, to)
			}
		})
		if mode&(FallocPunchHole|FallocZeroRange) != 0 {
			t.after(in, func() { in.drops++ })
		}
		if !keep {
			t.storeSize(in, max(in.storedSize(), to))
		}
		if err := t.commit(); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// fallocateStep puts into t what fits of the range and returns where it ends.
func (fs *FS) fallocateStep(ctx context.Context, t *txn, in *inode, mode uint32, a, z uint64) (uint64, int64, error) {
	if mode&(FallocPunchHole|FallocZeroRange) == 0 {
		return fs.fillHoles(ctx, t, in, a, z)
	}
	p := t.planExtents(ctx, in)
	defer p.close()
	to, err := p.replace(a, z, nil)
	if err != nil {
		return a, 0, err
	}
	if mode&FallocZeroRange != 0 && to > a {
		p.add(&meta.Extent{Kind: meta.ExtentZero, Start: a, End: to})
	}
	if err := p.finish(); err != nil {
		return a, 0, err
	}
	return to, p.alloc, nil
}

// fillHoles puts a zero extent into each hole from a to z.
func (fs *FS) fillHoles(ctx context.Context, t *txn, in *inode, a, z uint64) (uint64, int64, error) {
	ino := uint64(in.ino)
	it, err := fs.meta.iter(ctx, meta.ExtentKey(ino, a+1), meta.ExtentKey(ino+1, 0), false)
	if err != nil {
		return a, 0, err
	}
	defer it.Close()
	var alloc int64
	fill := func(from, to uint64) {
		e := meta.Extent{Kind: meta.ExtentZero, Start: from, End: to}
		t.set(meta.ExtentKey(ino, to), e.Append(nil))
		alloc += int64(to - from)
	}
	for ok := it.Seek(meta.ExtentKey(ino, a+1)); ok; ok = it.Next() {
		e, err := extentAt(it)
		if err != nil {
			return a, 0, err
		}
		if e.Start >= z || len(t.rows) >= batchRows {
			if e.Start < z { // the batch is full
				return a, alloc, nil
			}
			break
		}
		if e.Start > a {
			fill(a, e.Start)
		}
		a = e.End
	}
	if err := it.Err(); err != nil {
		return a, 0, err
	}
	if a < z {
		fill(a, z)
		a = z
	}
	return min(a, z), alloc, nil
}

// Seek finds data or a hole from off on (SeekData, SeekHole); ENXIO from the end on, or if there is no data behind off.
// Data in memory counts as data; what the kernel still holds is not known here.
func (fs *FS) Seek(ctx context.Context, ino Ino, h Handle, off int64, whence int) (int64, error) {
	if whence != SeekData && whence != SeekHole {
		return 0, syscall.EINVAL
	}
	in, err := fs.regular(ctx, ino)
	if err != nil {
		return 0, err
	}
	defer fs.table.unpin(in)
	ctx = context.WithoutCancel(ctx)
	// With the buffers in rows there is one map to walk. Flushing is what an application asks for that cares.
	if err := fs.flush(ctx, in, flushBlobs); err != nil {
		return 0, fs.errno(err)
	}
	size := in.view().Size
	at := uint64(off)
	if off < 0 || at >= size {
		return 0, syscall.ENXIO
	}
	cut, dead := fs.table.cut(ino)
	n := uint64(ino)
	it, err := fs.meta.iter(ctx, meta.ExtentKey(n, at+1), meta.ExtentKey(n+1, 0), false)
	if err != nil {
		return 0, fs.errno(err)
	}
	defer it.Close()
	for ok := it.Seek(meta.ExtentKey(n, at+1)); ok; ok = it.Next() {
		e, err := extentAt(it)
		if err != nil {
			return 0, fs.errno(err)
		}
		if dead && e.End > cut || e.Start >= size {
			break
		}
		if e.Kind == meta.ExtentZero {
			continue
		}
		if whence == SeekData {
			return int64(max(at, e.Start)), nil
		}
		if e.Start > at {
			break
		}
		at = e.End
	}
	if err := it.Err(); err != nil {
		return 0, fs.errno(err)
	}
	if whence == SeekData {
		return 0, syscall.ENXIO
	}
	return int64(min(at, size)), nil
}
