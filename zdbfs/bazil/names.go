package bazil

import (
	"os"
	"syscall"

	"bazil.org/fuse"

	"qsfs/zdbfs"
)

func (s *server) lookup(r *fuse.LookupRequest) {
	a, err := s.fs.Lookup(background, caller(r.Header), zdbfs.Ino(r.Node), r.Name)
	if err != nil && errno(err) == syscall.ENOENT {
		release(r.Header)
		s.sendNoEntry(r.ID)
		return
	}
	s.reply(r.Header, &a, err)
}

func (s *server) create(r *fuse.CreateRequest) {
	a, h, err := s.fs.Create(background, caller(r.Header), zdbfs.Ino(r.Node), r.Name,
		unixMode(r.Mode), umask(r.Umask), zdbfs.OpenFlags(r.Flags))
	release(r.Header)
	if err != nil {
		s.fail(r.ID, errno(err))
		return
	}
	if s.sendCreate(r.ID, &a, uint64(h), s.openFlags(r.Flags)) != nil {
		_ = s.fs.Release(background, h)
		s.fs.Forget(a.Ino, 1)
	}
}

func (s *server) mknod(r *fuse.MknodRequest) {
	a, err := s.fs.Mknod(background, caller(r.Header), zdbfs.Ino(r.Node), r.Name,
		unixMode(r.Mode), r.Rdev, umask(r.Umask))
	s.reply(r.Header, &a, err)
}

func (s *server) mkdir(r *fuse.MkdirRequest) {
	a, err := s.fs.Mkdir(background, caller(r.Header), zdbfs.Ino(r.Node), r.Name,
		unixMode(r.Mode), umask(r.Umask))
	s.reply(r.Header, &a, err)
}

func (s *server) symlink(r *fuse.SymlinkRequest) {
	a, err := s.fs.Symlink(background, caller(r.Header), zdbfs.Ino(r.Node), r.NewName, r.Target)
	s.reply(r.Header, &a, err)
}

func (s *server) link(r *fuse.LinkRequest) {
	a, err := s.fs.Link(background, caller(r.Header), zdbfs.Ino(r.OldNode), zdbfs.Ino(r.Node), r.NewName)
	s.reply(r.Header, &a, err)
}

func (s *server) remove(r *fuse.RemoveRequest) {
	if r.Dir {
		s.finish(r, s.fs.Rmdir(background, caller(r.Header), zdbfs.Ino(r.Node), r.Name))
		return
	}
	s.finish(r, s.fs.Unlink(background, caller(r.Header), zdbfs.Ino(r.Node), r.Name))
}

func (s *server) readlink(r *fuse.ReadlinkRequest) {
	target, err := s.fs.Readlink(background, zdbfs.Ino(r.Node))
	release(r.Header)
	if err != nil {
		s.fail(r.ID, errno(err))
		return
	}
	_ = s.send(r.ID, []byte(target))
}

// unixMode undoes the library's translation of a mode.
func unixMode(m os.FileMode) uint32 {
	mode := uint32(m.Perm())
	switch {
	case m&os.ModeDir != 0:
		mode |= syscall.S_IFDIR
	case m&os.ModeSymlink != 0:
		mode |= syscall.S_IFLNK
	case m&os.ModeNamedPipe != 0:
		mode |= syscall.S_IFIFO
	case m&os.ModeSocket != 0:
		mode |= syscall.S_IFSOCK
	case m&os.ModeCharDevice != 0:
		mode |= syscall.S_IFCHR
	case m&os.ModeDevice != 0:
		mode |= syscall.S_IFBLK
	default: // os.ModeIrregular too: the kernel sends no type where it can only be a file
		mode |= syscall.S_IFREG
	}
	if m&os.ModeSetuid != 0 {
		mode |= syscall.S_ISUID
	}
	if m&os.ModeSetgid != 0 {
		mode |= syscall.S_ISGID
	}
	if m&os.ModeSticky != 0 {
		mode |= syscall.S_ISVTX
	}
	return mode
}

// umask is the caller's mask. The kernel has applied it already: doing it again changes nothing.
func umask(m os.FileMode) uint32 { return uint32(m.Perm()) }
