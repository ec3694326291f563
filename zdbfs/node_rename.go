package zdbfs

import (
	"context"
	"errors"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// renaming is a Rename with everything it touches pinned and locked. dst is nil if the new name is free.
type renaming struct {
	fs               *FS
	odir, ndir       *inode
	src, dst         *inode
	from, to         place
	oldName, newName string
	flags            uint32
}

// Rename moves on of op to nn of np, replacing what is there: one batch, so that at every moment, after a crash too, the
// new name is the old file or the new one. Flags are RenameNoReplace, RenameExchange, RenameWhiteout.
func (fs *FS) Rename(ctx context.Context, c Caller, op Ino, on string, np Ino, nn string, flags uint32) error {
	const known = RenameNoReplace | RenameExchange | RenameWhiteout
	switch {
	case flags&^known != 0, flags&RenameExchange != 0 && flags&^RenameExchange != 0:
		return syscall.EINVAL
	case on == "." || on == ".." || nn == "." || nn == "..":
		return syscall.EBUSY
	}
	if err := errors.Join(checkName(on), checkName(nn)); err != nil {
		return fs.errno(err)
	}
	if op != np {
		// Parents stay what they are while ancestors are looked at.
		fs.renameMu.Lock()
		defer fs.renameMu.Unlock()
	}
	for {
		r, done, err := fs.resolveRename(ctx, op, on, np, nn)
		if err != nil {
			return err
		}
		if r == nil {
			continue // something changed in between
		}
		r.flags = flags
		err = r.run(ctx, c)
		done()
		return fs.errno(err)
	}
}

// resolveRename pins and locks; r is nil if names changed meanwhile.
func (fs *FS) resolveRename(ctx context.Context, op Ino, on string, np Ino, nn string) (r *renaming, done func(), err error) {
	var pinned []*inode
	unlock := func() {}
	done = func() {
		unlock()
		for _, in := range pinned {
			fs.table.unpin(in)
		}
	}
	defer func() {
		if r == nil {
			done()
		}
	}()
	pin := func(ino Ino) (*inode, error) {
		in, err := fs.inode(ctx, ino)
		if err == nil {
			pinned = append(pinned, in)
		}
		return in, err
	}
	out := &renaming{fs: fs, oldName: on, newName: nn}
	if out.odir, err = pin(op); err != nil {
		return nil, done, err
	}
	if out.ndir, err = pin(np); err != nil {
		return nil, done, err
	}
	if a, b := out.odir.view(), out.ndir.view(); !a.IsDir() || !b.IsDir() {
		return nil, done, syscall.ENOTDIR
	}
	find := func() (from, to place, err error) {
		if from, err = fs.find(ctx, nil, op, on); err == nil {
			to, err = fs.find(ctx, nil, np, nn)
		}
		return from, to, err
	}
	from, to, err := find()
	if err != nil {
		return nil, done, err
	}
	if !from.found() {
		return nil, done, syscall.ENOENT
	}
	if out.src, err = pin(Ino(from.entry.Ino)); err == nil && to.found() {
		out.dst, err = pin(Ino(to.entry.Ino))
	}
	if errors.Is(err, syscall.ESTALE) {
		again, to2, err := find()
		if err == nil && (again.entry.Ino != from.entry.Ino || to2.entry.Ino != to.entry.Ino) {
			return nil, done, nil
		}
		return nil, done, syscall.EIO
	}
	if err != nil {
		return nil, done, err
	}
	if out.dst != nil {
		// Whoever replaces a file by a new one means both or neither: its content goes into the log before the name.
		// Without success the rename goes on, for it promises nothing about content.
		if v := out.src.view(); v.IsRegular() {
			if err := fs.flush(ctx, out.src, flushBlobs); err != nil {
				fs.complain("written data cannot be made stable now and stays in memory", err)
			}
		}
	}
	unlock = lockOps(out.odir, out.ndir, out.src, out.dst)
	if out.from, out.to, err = find(); err != nil {
		return nil, done, err
	}
	if out.from.entry.Ino != from.entry.Ino || out.to.entry.Ino != to.entry.Ino {
		return nil, done, nil
	}
	return out, done, nil
}

// check refuses what must not be.
func (r *renaming) check(ctx context.Context, t *txn) error {
	src := r.src.view()
	if r.ndir.view().Nlink == 0 {
		return syscall.ENOENT
	}
	if r.flags&RenameExchange != 0 {
		if r.dst == nil {
			return syscall.ENOENT
		}
		if dst := r.dst.view(); dst.IsDir() {
			if err := r.outside(ctx, r.dst, r.odir); err != nil {
				return err
			}
		}
	} else if r.dst != nil {
		dst := r.dst.view()
		switch {
		case r.flags&RenameNoReplace != 0:
			return syscall.EEXIST
		case src.IsDir() && !dst.IsDir():
			return syscall.ENOTDIR
		case !src.IsDir() && dst.IsDir():
			return syscall.EISDIR
		case dst.IsDir():
			if empty, err := r.fs.emptyDir(ctx, t, r.dst.ino); err != nil {
				return err
			} else if !empty {
				return syscall.ENOTEMPTY
			}
		}
	}
	if src.IsDir() {
		return r.outside(ctx, r.src, r.ndir)
	}
	return nil
}

// outside refuses to move a directory to where it would be its own ancestor. FS.renameMu is held if that can be.
func (r *renaming) outside(ctx context.Context, dir, to *inode) error {
	if r.odir == r.ndir && dir != to {
		return nil
	}
	for at := to.ino; ; {
		if at == dir.ino {
			return syscall.EINVAL
		}
		if at == RootIno {
			return nil
		}
		in, err := r.fs.inode(ctx, at)
		if err != nil {
			return err
		}
		at = Ino(in.view().Parent)
		r.fs.table.unpin(in)
	}
}

func (r *renaming) run(ctx context.Context, c Caller) error {
	if r.src == r.dst {
		// Two names of one file: POSIX wants nothing done.
		if r.flags&RenameNoReplace != 0 {
			return syscall.EEXIST
		}
		return nil
	}
	t := r.fs.begin()
	t.frees = true // a rename takes no room of its own
	if err := r.check(ctx, t); err != nil {
		return err
	}
	committed := func() {}
	src := r.src.view()
	op, np := r.odir.ino, r.ndir.ino
	links := map[*inode]int{} // changes of the directories' link counts
	ctime := func(a *meta.Inode) { a.Ctime = t.now }

	t.name(np, r.to.cookie, r.src.ino, src.Mode, r.newName)
	t.moveName(r.src, op, r.from.cookie, np, r.to.cookie)
	t.update(r.src, ctime)
	if src.IsDir() {
		links[r.odir]--
		links[r.ndir]++
	}
	var white *inode
	var err error
	switch {
	case r.flags&RenameExchange != 0:
		dst := r.dst.view()
		t.name(op, r.from.cookie, r.dst.ino, dst.Mode, r.oldName)
		t.moveName(r.dst, np, r.to.cookie, op, r.from.cookie)
		t.update(r.dst, ctime)
		if dst.IsDir() {
			links[r.ndir]--
			links[r.odir]++
		}
	case r.flags&RenameWhiteout != 0:
		if white, err = t.newInode(c, r.odir, nodeSpec{mode: syscall.S_IFCHR}); err != nil {
			return err
		}
		t.name(op, r.from.cookie, white.ino, syscall.S_IFCHR, r.oldName)
		t.moveName(white, 0, 0, op, r.from.cookie)
	default:
		if err := t.unname(ctx, op, r.from.cookie); err != nil {
			return err
		}
	}
	if r.dst != nil && r.flags&RenameExchange == 0 {
		if dst := r.dst.view(); dst.IsDir() {
			links[r.ndir]--
		}
		committed = t.dropLink(r.dst, np, r.to.cookie)
	}
	for dir, n := range links {
		if n != 0 {
			t.update(dir, func(a *meta.Inode) { a.Nlink += uint32(n) })
		}
	}
	err = t.commit()
	if white != nil {
		r.fs.settle(white, err)
	}
	if err != nil {
		return err
	}
	r.fs.touch(r.odir, t.now)
	if r.ndir != r.odir {
		r.fs.touch(r.ndir, t.now)
	}
	committed()
	return nil
}
