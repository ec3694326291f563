package zdbfs

import (
	"context"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// nodeSpec is what a new inode shall be.
type nodeSpec struct {
	mode, rdev uint32
	target     string
	exist      bool // an existing regular file will do (Create)
}

// newInode prepares an inode with its row in t, pinned and locked, unknown to others until the commit. The caller calls
// settle after it.
func (t *txn) newInode(c Caller, dir *inode, s nodeSpec) (*inode, error) {
	ino, err := t.fs.numbers.ino(t.fs)
	if err != nil {
		return nil, err
	}
	in := t.fs.table.pin(ino)
	in.op.Lock()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.a = meta.Inode{
		Mode: s.mode & (syscall.S_IFMT | 0o7777), Nlink: 1, Uid: c.Uid, Gid: c.Gid, Rdev: s.rdev,
		Size: uint64(len(s.target)), Target: s.target,
		Atime: t.now, Mtime: t.now, Ctime: t.now, Btime: t.now,
	}
	in.stored = in.a.Size
	if in.a.IsDir() {
		in.a.Nlink, in.a.Flags = 2, meta.FlagLinks
	}
	if d := dir.view(); d.Mode&syscall.S_ISGID != 0 {
		in.a.Gid = d.Gid
		if in.a.IsDir() {
			in.a.Mode |= syscall.S_ISGID
		}
	}
	in.loaded = true
	t.update(in, func(*meta.Inode) {})
	t.files++
	return in, nil
}

// settle ends what newInode began; it unpins.
func (fs *FS) settle(in *inode, err error) {
	if err != nil {
		in.mu.Lock()
		in.gone = true
		in.mu.Unlock()
	}
	in.op.Unlock()
	fs.table.unpin(in)
}

// makeNode makes a name and an inode for it: two rows, four for a directory.
func (fs *FS) makeNode(ctx context.Context, c Caller, parent Ino, name string, s nodeSpec) (a Attr, made bool, err error) {
	if err := checkName(name); err != nil {
		if name == "." || name == ".." {
			err = syscall.EEXIST
		}
		return Attr{}, false, err
	}
	dir, err := fs.dir(ctx, parent)
	if err != nil {
		return Attr{}, false, err
	}
	defer fs.table.unpin(dir)
	dir.op.Lock()
	defer dir.op.Unlock()
	if dir.view().Nlink == 0 {
		return Attr{}, false, syscall.ENOENT
	}
	p, err := fs.find(ctx, nil, parent, name)
	if err != nil {
		return Attr{}, false, err
	}
	if p.found() {
		if !s.exist {
			return Attr{}, false, syscall.EEXIST
		}
		a, err := fs.lookupIno(ctx, Ino(p.entry.Ino))
		return a, false, err
	}
	if err := fs.room(0); err != nil {
		return Attr{}, false, err
	}
	t := fs.begin()
	in, err := t.newInode(c, dir, s)
	if err != nil {
		return Attr{}, false, fs.errno(err)
	}
	isDir := s.mode&syscall.S_IFMT == syscall.S_IFDIR
	t.name(parent, p.cookie, in.ino, s.mode, name)
	t.moveName(in, 0, 0, parent, p.cookie)
	if isDir {
		t.update(dir, func(d *meta.Inode) { d.Nlink++; d.Mtime, d.Ctime = t.now, t.now })
	}
	fs.table.count(in.ino) // before the name can be seen, and a removal free the inode
	err = t.commit()
	if err != nil {
		fs.table.drop(in.ino, 1, 0)
	}
	a = in.attr()
	fs.settle(in, err)
	if err != nil {
		return Attr{}, false, fs.errno(err)
	}
	if !isDir {
		fs.touch(dir, t.now)
	}
	return a, true, nil
}

// Mknod makes a file of any type but a directory or a link. Like Mkdir, Symlink, Link, Create and Tmpfile it counts one
// lookup of what it returns. It is stable with Fsync of the file or Fsyncdir of the parent, or FlushInterval later.
func (fs *FS) Mknod(ctx context.Context, c Caller, parent Ino, name string, mode, rdev, umask uint32) (Attr, error) {
	switch mode & syscall.S_IFMT {
	case 0:
		mode |= syscall.S_IFREG
	case syscall.S_IFREG, syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFCHR, syscall.S_IFBLK:
	default:
		return Attr{}, syscall.EINVAL
	}
	if t := mode & syscall.S_IFMT; t != syscall.S_IFCHR && t != syscall.S_IFBLK {
		rdev = 0
	}
	a, _, err := fs.makeNode(ctx, c, parent, name, nodeSpec{mode: mode &^ (umask & 0o777), rdev: rdev})
	return a, err
}

// Mkdir makes a directory.
func (fs *FS) Mkdir(ctx context.Context, c Caller, parent Ino, name string, mode, umask uint32) (Attr, error) {
	a, _, err := fs.makeNode(ctx, c, parent, name, nodeSpec{mode: syscall.S_IFDIR | mode&0o7777&^umask})
	return a, err
}

// Symlink makes a symbolic link.
func (fs *FS) Symlink(ctx context.Context, c Caller, parent Ino, name, target string) (Attr, error) {
	switch {
	case target == "":
		return Attr{}, syscall.ENOENT
	case len(target) > MaxSymlink:
		return Attr{}, syscall.ENAMETOOLONG
	}
	a, _, err := fs.makeNode(ctx, c, parent, name, nodeSpec{mode: syscall.S_IFLNK | 0o777, target: target})
	return a, err
}

// Create makes and opens a regular file, or opens the one that is there, unless fl has O_EXCL.
func (fs *FS) Create(ctx context.Context, c Caller, parent Ino, name string, mode, umask uint32, fl OpenFlags) (Attr, Handle, error) {
	spec := nodeSpec{mode: syscall.S_IFREG | mode&0o7777&^umask, exist: fl&syscall.O_EXCL == 0}
	a, made, err := fs.makeNode(ctx, c, parent, name, spec)
	if err != nil {
		return Attr{}, 0, err
	}
	if made {
		fl &^= syscall.O_TRUNC
	}
	h, err := fs.Open(ctx, c, a.Ino, fl)
	if err == nil && fl&syscall.O_TRUNC != 0 {
		a, err = fs.Getattr(ctx, a.Ino)
		if err != nil {
			fs.Release(ctx, h)
		}
	}
	if err != nil {
		fs.Forget(a.Ino, 1)
		return Attr{}, 0, err
	}
	return a, h, nil
}

// Tmpfile makes and opens a regular file without a name; Link can give it one.
func (fs *FS) Tmpfile(ctx context.Context, c Caller, parent Ino, mode, umask uint32) (Attr, Handle, error) {
	dir, err := fs.dir(ctx, parent)
	if err != nil {
		return Attr{}, 0, err
	}
	defer fs.table.unpin(dir)
	if err := fs.room(0); err != nil {
		return Attr{}, 0, err
	}
	t := fs.begin()
	in, err := t.newInode(c, dir, nodeSpec{mode: syscall.S_IFREG | mode&0o7777&^umask})
	if err != nil {
		return Attr{}, 0, fs.errno(err)
	}
	t.update(in, func(a *meta.Inode) { a.Nlink = 0 })
	t.set(meta.OrphanKey(uint64(in.ino)), nil)
	fs.table.count(in.ino)
	fs.table.open(in.ino)
	err = t.commit()
	if err != nil {
		fs.table.drop(in.ino, 1, 1)
	} else {
		fs.table.orphan(in.ino)
	}
	a := in.attr()
	fs.settle(in, err)
	return a, Handle(in.ino), fs.errno(err)
}
