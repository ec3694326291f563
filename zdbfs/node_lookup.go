package zdbfs

import (
	"context"
	"errors"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// Lookup finds name in parent ("." and ".." too) and counts one lookup of what it returns, to be given back by Forget.
func (fs *FS) Lookup(ctx context.Context, c Caller, parent Ino, name string) (Attr, error) {
	if name == "." {
		return fs.lookupIno(ctx, parent)
	}
	dir, err := fs.dir(ctx, parent)
	if err != nil {
		return Attr{}, err
	}
	defer fs.table.unpin(dir)
	if name == ".." {
		return fs.lookupIno(ctx, Ino(dir.view().Parent))
	}
	for range 8 {
		p, err := fs.find(ctx, nil, parent, name)
		if err != nil {
			return Attr{}, err
		}
		if !p.found() {
			return Attr{}, syscall.ENOENT
		}
		a, err := fs.lookupIno(ctx, Ino(p.entry.Ino))
		if !errors.Is(err, syscall.ESTALE) {
			return a, err
		}
		// Removed and freed since it was found, or replaced by another: look again.
	}
	return Attr{}, syscall.ESTALE
}

// lookupIno counts a lookup of ino and returns its attributes.
func (fs *FS) lookupIno(ctx context.Context, ino Ino) (Attr, error) {
	if !fs.table.count(ino) {
		return Attr{}, syscall.ESTALE
	}
	in, err := fs.inode(ctx, ino)
	if err != nil {
		fs.Forget(ino, 1)
		return Attr{}, err
	}
	defer fs.table.unpin(in)
	return in.attr(), nil
}

// Forget gives back n lookups. It never waits.
func (fs *FS) Forget(ino Ino, n uint64) {
	if fs.table.drop(ino, n, 0) {
		fs.reap.orphaned(ino)
	}
}

// Getattr returns the attributes of an inode.
func (fs *FS) Getattr(ctx context.Context, ino Ino) (Attr, error) {
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return Attr{}, err
	}
	defer fs.table.unpin(in)
	return in.attr(), nil
}

// Readlink returns the target of a symbolic link.
func (fs *FS) Readlink(ctx context.Context, ino Ino) (string, error) {
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return "", err
	}
	defer fs.table.unpin(in)
	v := in.view()
	if !v.IsSymlink() {
		return "", syscall.EINVAL
	}
	return v.Target, nil
}

// Opendir counts an open of a directory until Releasedir.
func (fs *FS) Opendir(ctx context.Context, ino Ino) (Handle, error) {
	in, err := fs.dir(ctx, ino)
	if err != nil {
		return 0, err
	}
	defer fs.table.unpin(in)
	if !fs.table.open(ino) {
		return 0, syscall.ESTALE
	}
	return Handle(ino), nil
}

// Releasedir gives back an Opendir.
func (fs *FS) Releasedir(ctx context.Context, h Handle) error { return fs.Release(ctx, h) }

// Positions of the two entries that are not in rows.
const (
	cookieDot    = 1
	cookieDotDot = 2
)

// Readdir emits the entries behind cookie (0: from the start, "." and ".." first) until emit returns false. attr, if
// called, returns the entry's attributes and counts a lookup (not for "." and ".."): Forget it if the entry is not sent.
// An entry that is there during the whole walk is emitted once, whatever comes and goes beside it.
func (fs *FS) Readdir(ctx context.Context, ino Ino, cookie uint64, emit func(d Dirent, attr func() (Attr, error)) bool) error {
	in, err := fs.dir(ctx, ino)
	if err != nil {
		return err
	}
	defer fs.table.unpin(in)
	v := in.view()
	dots := [...]Dirent{
		{Name: ".", Ino: ino, Type: syscall.S_IFDIR, Cookie: cookieDot},
		{Name: "..", Ino: Ino(v.Parent), Type: syscall.S_IFDIR, Cookie: cookieDotDot},
	}
	for _, d := range dots {
		if d.Cookie > cookie && !emit(d, func() (Attr, error) { return fs.Getattr(ctx, d.Ino) }) {
			return nil
		}
	}
	if v.Nlink == 0 {
		return nil
	}
	from := meta.DirentKey(uint64(ino), max(cookie, cookieDotDot)+1)
	it, err := fs.meta.iter(context.WithoutCancel(ctx), from, meta.DirentKey(uint64(ino)+1, 0), false)
	if err != nil {
		return fs.errno(err)
	}
	defer it.Close()
	for ok := it.Seek(from); ok; ok = it.Next() {
		k, err := meta.ParseKey(it.Key())
		if err != nil {
			return fs.errno(err)
		}
		value, err := it.Value()
		if err != nil {
			return fs.errno(err)
		}
		e, err := meta.DecodeDirent(value)
		if err != nil {
			return fs.errno(err)
		}
		if e.IsGap() {
			continue
		}
		d := Dirent{Name: e.Name, Ino: Ino(e.Ino), Type: e.Type, Cookie: k.B}
		if !emit(d, func() (Attr, error) { return fs.lookupIno(ctx, d.Ino) }) {
			return nil
		}
	}
	return fs.errno(it.Err())
}
