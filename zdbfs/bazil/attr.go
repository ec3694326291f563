package bazil

import (
	"time"

	"bazil.org/fuse"

	"qsfs/zdbfs"
)

func (s *server) getattr(r *fuse.GetattrRequest) {
	a, err := s.fs.Getattr(background, zdbfs.Ino(r.Node))
	s.replyAttr(r.Header, &a, err)
}

func (s *server) replyAttr(h fuse.Header, a *zdbfs.Attr, err error) {
	release(h)
	if err != nil {
		s.fail(h.ID, errno(err))
		return
	}
	s.sendAttr(h.ID, a)
}

// setattrBits pairs the kernel's bits with the core's. A file handle (and the lock owner) do not
// change anything here.
var setattrBits = []struct {
	kernel fuse.SetattrValid
	core   zdbfs.SetattrValid
}{
	{fuse.SetattrMode, zdbfs.SetMode},
	{fuse.SetattrUid, zdbfs.SetUid},
	{fuse.SetattrGid, zdbfs.SetGid},
	{fuse.SetattrSize, zdbfs.SetSize},
	{fuse.SetattrAtime, zdbfs.SetAtime},
	{fuse.SetattrMtime, zdbfs.SetMtime},
	{fuse.SetattrCTime, zdbfs.SetCtime},
	{fuse.SetattrAtimeNow, zdbfs.SetAtimeNow},
	{fuse.SetattrMtimeNow, zdbfs.SetMtimeNow},
	{fuse.SetattrKillSUIDGID, zdbfs.SetKillPriv},
}

func (s *server) setattr(r *fuse.SetattrRequest) {
	in := zdbfs.SetattrIn{
		Mode: unixMode(r.Mode) & 0o7777, Uid: r.Uid, Gid: r.Gid, Size: r.Size,
		Atime: coreTime(r.Atime), Mtime: coreTime(r.Mtime), Ctime: coreTime(r.Ctime),
	}
	for _, b := range setattrBits {
		if r.Valid&b.kernel != 0 {
			in.Valid |= b.core
		}
	}
	if r.Valid.Handle() {
		in.Handle = zdbfs.Handle(r.Handle)
	}
	a, err := s.fs.Setattr(background, caller(r.Header), zdbfs.Ino(r.Node), in)
	s.replyAttr(r.Header, &a, err)
}

func coreTime(t time.Time) zdbfs.Time { return zdbfs.TimeOf(t) }

func (s *server) statfs(r *fuse.StatfsRequest) {
	st, err := s.fs.Statfs(background)
	if err != nil {
		s.finish(r, err)
		return
	}
	r.Respond(&fuse.StatfsResponse{
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail,
		Files: st.Files, Ffree: st.Ffree,
		Bsize: st.Bsize, Frsize: st.Frsize, Namelen: st.NameLen,
	})
}
