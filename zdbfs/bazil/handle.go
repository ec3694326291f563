package bazil

import (
	"context"
	"errors"
	"syscall"

	"bazil.org/fuse"

	"qsfs/zdbfs"
)

// background is the context of everything that an interrupt must not stop half-way.
var background = context.Background()

// handle answers one request.
func (s *server) handle(req fuse.Request) {
	if s.refused(req) {
		return
	}
	switch r := req.(type) {
	case *fuse.LookupRequest:
		s.lookup(r)
	case *fuse.ForgetRequest:
		s.fs.Forget(zdbfs.Ino(r.Node), r.N)
		r.Respond()
	case *fuse.BatchForgetRequest:
		for _, f := range r.Forget {
			s.fs.Forget(zdbfs.Ino(f.NodeID), f.N)
		}
		r.Respond()
	case *fuse.GetattrRequest:
		s.getattr(r)
	case *fuse.SetattrRequest:
		s.setattr(r)
	case *fuse.ReadRequest:
		if r.Dir {
			s.readdir(r)
		} else {
			s.read(r)
		}
	case *fuse.WriteRequest:
		s.writeFile(r)
	case *fuse.OpenRequest:
		if r.Dir {
			s.opendir(r)
		} else {
			s.open(r)
		}
	case *fuse.ReleaseRequest:
		s.release(r)
	case *fuse.FlushRequest:
		s.finish(r, s.fs.Flush(background, zdbfs.Ino(r.Node), zdbfs.Handle(r.Handle)))
	case *fuse.FsyncRequest:
		s.fsync(r)
	case *fuse.FAllocateRequest:
		s.fallocate(r)
	case *fuse.StatfsRequest:
		s.statfs(r)
	case *fuse.InterruptRequest:
		s.interrupts.interrupt(r.IntrID)
		r.Respond()
	case *fuse.DestroyRequest:
		r.Respond()
	default:
		s.handleName(req)
	}
}

// handleName answers the requests that make, remove or read names and attributes by name.
func (s *server) handleName(req fuse.Request) {
	switch r := req.(type) {
	case *fuse.CreateRequest:
		s.create(r)
	case *fuse.MknodRequest:
		s.mknod(r)
	case *fuse.MkdirRequest:
		s.mkdir(r)
	case *fuse.SymlinkRequest:
		s.symlink(r)
	case *fuse.LinkRequest:
		s.link(r)
	case *fuse.RemoveRequest:
		s.remove(r)
	case *fuse.RenameRequest:
		s.finish(r, s.fs.Rename(background, caller(r.Header), zdbfs.Ino(r.Node), r.OldName, zdbfs.Ino(r.NewDir), r.NewName, 0))
	case *fuse.ReadlinkRequest:
		s.readlink(r)
	case *fuse.GetxattrRequest:
		s.getxattr(r)
	case *fuse.SetxattrRequest:
		s.setxattr(r)
	case *fuse.ListxattrRequest:
		s.listxattr(r)
	case *fuse.RemovexattrRequest:
		s.removexattr(r)
	default:
		// POLL, IOCTL, BMAP, ACCESS, locks and everything newer than the library: the kernel does what it
		// can without us and does not ask again.
		s.finish(r, syscall.ENOSYS)
	}
}

// refused answers what would change a filesystem that has been made read-only.
func (s *server) refused(req fuse.Request) bool {
	if !s.readOnly.Load() {
		return false
	}
	switch r := req.(type) {
	case *fuse.OpenRequest:
		if r.Dir || r.Flags.IsReadOnly() && r.Flags&fuse.OpenTruncate == 0 {
			return false
		}
	case *fuse.SetattrRequest, *fuse.WriteRequest, *fuse.FAllocateRequest, *fuse.CreateRequest,
		*fuse.MknodRequest, *fuse.MkdirRequest, *fuse.SymlinkRequest, *fuse.LinkRequest,
		*fuse.RemoveRequest, *fuse.RenameRequest, *fuse.SetxattrRequest, *fuse.RemovexattrRequest:
	default:
		return false
	}
	s.finish(req, syscall.EROFS)
	return true
}

// finish answers a request that has nothing to say but how it went.
func (s *server) finish(req fuse.Request, err error) {
	h := req.Hdr()
	id := h.ID
	release(*h)
	if err != nil {
		s.fail(id, errno(err))
		return
	}
	_ = s.send(id)
}

// reply finishes a request that makes a name, or fails. A lookup that the kernel did not hear of is
// given back.
func (s *server) reply(h fuse.Header, a *zdbfs.Attr, err error) {
	release(h)
	if err != nil {
		s.fail(h.ID, errno(err))
		return
	}
	if s.sendEntry(h.ID, a) != nil {
		s.fs.Forget(a.Ino, 1)
	}
}

func caller(h fuse.Header) zdbfs.Caller {
	return zdbfs.Caller{Uid: h.Uid, Gid: h.Gid, Pid: h.Pid}
}

// errno gives the number that the kernel shows to the program. The core returns plain numbers; what
// else could come (a cancelled context) has one as well, and EIO is for what should not happen.
func errno(err error) syscall.Errno {
	var no syscall.Errno
	switch {
	case errors.As(err, &no):
		if no == 0 || no >= 512 { // what the kernel takes for an answer
			return syscall.EIO
		}
		return no
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	}
	return syscall.EIO
}
