package zdbfs

import (
	"context"
	"errors"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// maxLinks bounds the names of one file; Nlink has 32 bits.
const maxLinks = 1 << 30

// Link gives an inode another name; a directory has only one. From the second on, each name has a P row.
func (fs *FS) Link(ctx context.Context, c Caller, ino, parent Ino, name string) (Attr, error) {
	if name == "." || name == ".." {
		return Attr{}, syscall.EEXIST
	}
	dir, err := fs.dir(ctx, parent)
	if err != nil {
		return Attr{}, err
	}
	defer fs.table.unpin(dir)
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return Attr{}, err
	}
	defer fs.table.unpin(in)
	unlock := lockOps(dir, in)
	defer unlock()
	v := in.view()
	switch {
	case v.IsDir():
		return Attr{}, syscall.EPERM
	case v.Nlink >= maxLinks:
		return Attr{}, syscall.EMLINK
	case dir.view().Nlink == 0:
		return Attr{}, syscall.ENOENT
	case v.Nlink == 0 && v.Parent != 0:
		return Attr{}, syscall.ENOENT // removed, not made by Tmpfile
	}
	p, err := fs.find(ctx, nil, parent, name)
	if err != nil {
		return Attr{}, err
	}
	if p.found() {
		return Attr{}, syscall.EEXIST
	}
	if err := fs.room(0); err != nil {
		return Attr{}, err
	}
	t := fs.begin()
	t.name(parent, p.cookie, ino, v.Mode, name)
	adopt := v.Nlink == 0
	if adopt {
		t.del(meta.OrphanKey(uint64(ino)))
		t.moveName(in, 0, 0, parent, p.cookie)
	} else {
		if v.Flags&meta.FlagLinks == 0 {
			t.set(meta.ParentKey(uint64(ino), v.Parent, v.Cookie), nil)
		}
		t.set(meta.ParentKey(uint64(ino), uint64(parent), p.cookie), nil)
		t.update(in, func(a *meta.Inode) { a.Flags |= meta.FlagLinks })
	}
	t.update(in, func(a *meta.Inode) { a.Nlink++; a.Ctime = t.now })
	if !fs.table.count(ino) {
		return Attr{}, syscall.ESTALE
	}
	if err := t.commit(); err != nil {
		fs.Forget(ino, 1)
		return Attr{}, fs.errno(err)
	}
	if adopt {
		fs.table.adopt(ino)
	}
	fs.touch(dir, t.now)
	return in.attr(), nil
}

// resolved is a name with its inodes, pinned and locked.
type resolved struct {
	dir, in *inode
	place   place
}

// resolveName finds name, which must exist, and locks the directory and the inode. Locks go in order of inodes, so a name
// of an older inode is looked up before and again behind them.
func (fs *FS) resolveName(ctx context.Context, parent Ino, name string) (resolved, func(), error) {
	dir, err := fs.dir(ctx, parent)
	if err != nil {
		return resolved{}, nil, err
	}
	for {
		r, done, err := fs.resolveIn(ctx, dir, name)
		if err == nil && done == nil {
			continue // it changed in between
		}
		if err != nil {
			fs.table.unpin(dir)
			return resolved{}, nil, err
		}
		return r, func() { done(); fs.table.unpin(dir) }, nil
	}
}

// resolveIn is one try; done is nil if the name changed while the locks were waited for.
func (fs *FS) resolveIn(ctx context.Context, dir *inode, name string) (r resolved, done func(), err error) {
	dir.op.Lock()
	p, err := fs.find(ctx, nil, dir.ino, name)
	if err == nil && !p.found() {
		err = syscall.ENOENT
	}
	var in *inode
	if err == nil {
		in, err = fs.inode(ctx, Ino(p.entry.Ino))
		if errors.Is(err, syscall.ESTALE) {
			err = syscall.EIO // a name without an inode: damage, not absence
		}
	}
	if err != nil {
		dir.op.Unlock()
		return resolved{}, nil, err
	}
	if in.ino > dir.ino { // as nearly always: made after its directory
		in.op.Lock()
		return resolved{dir, in, p}, func() {
			in.op.Unlock()
			dir.op.Unlock()
			fs.table.unpin(in)
		}, nil
	}
	dir.op.Unlock()
	unlock := lockOps(dir, in)
	done = func() { unlock(); fs.table.unpin(in) }
	again, err := fs.find(ctx, nil, dir.ino, name)
	if err != nil || again.entry.Ino != p.entry.Ino {
		done()
		return resolved{}, nil, err
	}
	return resolved{dir, in, again}, done, nil
}

// dropLink adds to t that in loses the name at cookie of dir, and returns what to do when t is committed. The caller holds
// in.op. The last name gone, the inode is an orphan: it lives on while it is open or looked up.
func (t *txn) dropLink(in *inode, dir Ino, cookie uint64) (committed func()) {
	v := in.view()
	t.frees = true
	t.moveName(in, dir, cookie, 0, 0)
	if left := v.Nlink - 1; left > 0 && !v.IsDir() {
		t.update(in, func(a *meta.Inode) { a.Nlink, a.Ctime = left, t.now })
		return func() {}
	}
	t.set(meta.OrphanKey(uint64(in.ino)), nil)
	fs := t.fs
	return func() {
		// The O row stands for link count 0 on disk: the inode's own row need not be written.
		in.mu.Lock()
		in.a.Nlink, in.a.Ctime = 0, t.now
		in.mu.Unlock()
		if fs.table.orphan(in.ino) {
			fs.reap.orphaned(in.ino)
		}
	}
}

// Unlink removes a name of anything but a directory. Its content goes when the last name, open and lookup are gone.
func (fs *FS) Unlink(ctx context.Context, c Caller, parent Ino, name string) error {
	r, done, err := fs.resolveName(ctx, parent, name)
	if err != nil {
		return err
	}
	defer fs.assist(ctx)
	defer done()
	if v := r.in.view(); v.IsDir() {
		return syscall.EISDIR
	}
	t := fs.begin()
	if err := t.unname(ctx, parent, r.place.cookie); err != nil {
		return fs.errno(err)
	}
	committed := t.dropLink(r.in, parent, r.place.cookie)
	if err := t.commit(); err != nil {
		return fs.errno(err)
	}
	committed()
	fs.touch(r.dir, t.now)
	return nil
}

// assist makes those who remove faster than the reaper frees do some of its work.
func (fs *FS) assist(ctx context.Context) {
	if fs.reap.crowded() {
		fs.reap.mu.Lock()
		n := min(len(fs.reap.inos), 16)
		inos := append([]Ino(nil), fs.reap.inos[:n]...)
		fs.reap.inos = fs.reap.inos[n:]
		fs.reap.mu.Unlock()
		left, _ := fs.reapOrphans(context.WithoutCancel(ctx), inos)
		fs.reap.mu.Lock()
		fs.reap.inos = append(fs.reap.inos, left...)
		fs.reap.mu.Unlock()
	}
}

// Rmdir removes an empty directory.
func (fs *FS) Rmdir(ctx context.Context, c Caller, parent Ino, name string) error {
	if name == "." {
		return syscall.EINVAL
	}
	if name == ".." {
		return syscall.ENOTEMPTY
	}
	r, done, err := fs.resolveName(ctx, parent, name)
	if err != nil {
		return err
	}
	defer done()
	if v := r.in.view(); !v.IsDir() {
		return syscall.ENOTDIR
	}
	t := fs.begin()
	empty, err := fs.emptyDir(ctx, t, r.in.ino)
	if err != nil {
		return fs.errno(err)
	}
	if !empty {
		return syscall.ENOTEMPTY
	}
	if err := t.unname(ctx, parent, r.place.cookie); err != nil {
		return fs.errno(err)
	}
	committed := t.dropLink(r.in, parent, r.place.cookie)
	t.update(r.dir, func(a *meta.Inode) { a.Nlink--; a.Mtime, a.Ctime = t.now, t.now })
	if err := t.commit(); err != nil {
		return fs.errno(err)
	}
	committed()
	return nil
}
