package zdbfs

import (
	"context"
	"strings"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// maxXattrList bounds the names of one inode's attributes together, as the kernel does for listxattr(2).
const maxXattrList = 64 << 10

func checkXattr(name string) error {
	switch {
	case name == "" || len(name) > MaxXattrName:
		return syscall.ERANGE
	case strings.HasPrefix(name, "system.posix_acl_"):
		// Stored and not enforced would be worse than refused.
		return syscall.EOPNOTSUPP
	case strings.IndexByte(name, 0) >= 0:
		return syscall.EINVAL
	}
	return nil
}

// Getxattr returns the value of an extended attribute, or ENODATA.
func (fs *FS) Getxattr(ctx context.Context, ino Ino, name string) ([]byte, error) {
	if err := checkXattr(name); err != nil {
		return nil, err
	}
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return nil, err
	}
	defer fs.table.unpin(in)
	if v := in.view(); v.Flags&meta.FlagXattr == 0 {
		return nil, syscall.ENODATA
	}
	e, err := fs.meta.Get(context.WithoutCancel(ctx), meta.XattrKey(uint64(ino), name))
	if isNotFound(err) {
		return nil, syscall.ENODATA
	} else if err != nil {
		return nil, fs.errno(err)
	}
	return append([]byte(nil), e.Value...), nil
}

// Setxattr sets an extended attribute; flags are XattrCreate and XattrReplace. killSgid asks to clear setgid too, as a
// change of an ACL by a user who is not in the group must.
func (fs *FS) Setxattr(ctx context.Context, ino Ino, name string, value []byte, flags uint32, killSgid bool) error {
	if err := checkXattr(name); err != nil {
		return err
	}
	if len(value) > MaxXattrValue {
		return syscall.E2BIG
	}
	if flags&^(XattrCreate|XattrReplace) != 0 || flags == XattrCreate|XattrReplace {
		return syscall.EINVAL
	}
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return err
	}
	defer fs.table.unpin(in)
	if err := fs.room(len(value)); err != nil {
		return err
	}
	in.op.Lock()
	defer in.op.Unlock()
	names, err := fs.xattrs(ctx, in)
	if err != nil {
		return fs.errno(err)
	}
	total, found := len(name)+1, false
	for _, n := range names {
		if n == name {
			found = true
		} else {
			total += len(n) + 1
		}
	}
	switch {
	case found && flags&XattrCreate != 0:
		return syscall.EEXIST
	case !found && flags&XattrReplace != 0:
		return syscall.ENODATA
	case total > maxXattrList:
		return syscall.ENOSPC
	}
	t := fs.begin()
	t.set(meta.XattrKey(uint64(ino), name), append([]byte(nil), value...))
	t.update(in, func(a *meta.Inode) {
		a.Flags |= meta.FlagXattr
		a.Ctime = t.now
		if killSgid && a.Mode&syscall.S_IXGRP != 0 {
			a.Mode &^= syscall.S_ISGID
		}
	})
	return fs.errno(t.commit())
}

// xattrs lists the names.
func (fs *FS) xattrs(ctx context.Context, in *inode) ([]string, error) {
	if v := in.view(); v.Flags&meta.FlagXattr == 0 {
		return nil, nil
	}
	from, to := meta.XattrKey(uint64(in.ino), ""), meta.XattrKey(uint64(in.ino)+1, "")
	it, err := fs.meta.iter(context.WithoutCancel(ctx), from, to, true)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var names []string
	for ok := it.Seek(from); ok; ok = it.Next() {
		k, err := meta.ParseKey(it.Key())
		if err != nil {
			return nil, err
		}
		names = append(names, k.Name)
	}
	return names, it.Err()
}

// Listxattr returns the names of all extended attributes, in byte order.
func (fs *FS) Listxattr(ctx context.Context, ino Ino) ([]string, error) {
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return nil, err
	}
	defer fs.table.unpin(in)
	names, err := fs.xattrs(ctx, in)
	return names, fs.errno(err)
}

// Removexattr removes an extended attribute, or returns ENODATA.
func (fs *FS) Removexattr(ctx context.Context, ino Ino, name string) error {
	if err := checkXattr(name); err != nil {
		return err
	}
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return err
	}
	defer fs.table.unpin(in)
	in.op.Lock()
	defer in.op.Unlock()
	names, err := fs.xattrs(ctx, in)
	if err != nil {
		return fs.errno(err)
	}
	left := len(names)
	for _, n := range names {
		if n == name {
			left--
		}
	}
	if left == len(names) {
		return syscall.ENODATA
	}
	t := fs.begin()
	t.frees = true
	t.del(meta.XattrKey(uint64(ino), name))
	t.update(in, func(a *meta.Inode) {
		if left == 0 {
			a.Flags &^= meta.FlagXattr
		}
		a.Ctime = t.now
	})
	return fs.errno(t.commit())
}
