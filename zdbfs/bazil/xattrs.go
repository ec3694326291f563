package bazil

import (
	"strings"
	"syscall"

	"bazil.org/fuse"

	"qsfs/zdbfs"
)

// aclPrefix starts the names of access control lists, which the library cannot negotiate: they
// would be stored and not enforced.
const aclPrefix = "system.posix_acl_"

func (s *server) getxattr(r *fuse.GetxattrRequest) {
	if strings.HasPrefix(r.Name, aclPrefix) {
		s.finish(r, syscall.EOPNOTSUPP)
		return
	}
	v, err := s.fs.Getxattr(background, zdbfs.Ino(r.Node), r.Name)
	s.replyValue(r.Header, r.Size, v, err)
}

func (s *server) listxattr(r *fuse.ListxattrRequest) {
	names, err := s.fs.Listxattr(background, zdbfs.Ino(r.Node))
	var b []byte
	for _, n := range names {
		b = append(append(b, n...), 0)
	}
	s.replyValue(r.Header, r.Size, b, err)
}

// replyValue answers with a value, with its length if size is 0, or with ERANGE if it does not fit.
func (s *server) replyValue(h fuse.Header, size uint32, v []byte, err error) {
	release(h)
	switch {
	case err != nil:
		s.fail(h.ID, errno(err))
	case size == 0:
		var b [8]byte
		native.PutUint32(b[:], uint32(len(v)))
		_ = s.send(h.ID, b[:])
	case len(v) > int(size):
		s.fail(h.ID, syscall.ERANGE)
	default:
		_ = s.send(h.ID, v)
	}
}

func (s *server) setxattr(r *fuse.SetxattrRequest) {
	if strings.HasPrefix(r.Name, aclPrefix) {
		s.finish(r, syscall.EOPNOTSUPP)
		return
	}
	kill := r.SetxattrFlags&fuse.SetxattrACLKillSGID != 0
	s.finish(r, s.fs.Setxattr(background, zdbfs.Ino(r.Node), r.Name, r.Xattr, r.Flags, kill))
}

func (s *server) removexattr(r *fuse.RemovexattrRequest) {
	if strings.HasPrefix(r.Name, aclPrefix) {
		s.finish(r, syscall.EOPNOTSUPP)
		return
	}
	s.finish(r, s.fs.Removexattr(background, zdbfs.Ino(r.Node), r.Name))
}
