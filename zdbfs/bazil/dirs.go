package bazil

import (
	"bazil.org/fuse"

	"qsfs/zdbfs"
)

// opendir does not let the kernel cache the listing: it would look for the cookie of an entry that
// has been removed since, not find it, and end the listing early.
func (s *server) opendir(r *fuse.OpenRequest) {
	h, err := s.fs.Opendir(background, zdbfs.Ino(r.Node))
	release(r.Header)
	if err != nil {
		s.fail(r.ID, errno(err))
		return
	}
	var b [openOutSize]byte
	if s.send(r.ID, appendOpen(b[:0], uint64(h), 0)) != nil {
		_ = s.fs.Releasedir(background, h)
	}
}

func (s *server) readdir(r *fuse.ReadRequest) {
	release(r.Header)
	bp := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(bp)
	max := min(r.Size, maxRead)
	b := (*bp)[:0]
	err := s.fs.Readdir(background, zdbfs.Ino(r.Node), uint64(r.Offset), func(d zdbfs.Dirent, _ func() (zdbfs.Attr, error)) bool {
		var fits bool
		b, fits = appendDirent(b, max, uint64(d.Ino), d.Cookie, d.Type>>12, d.Name)
		return fits
	})
	if err != nil {
		s.fail(r.ID, errno(err))
		return
	}
	_ = s.send(r.ID, b)
}
