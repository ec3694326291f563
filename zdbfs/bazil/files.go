package bazil

import (
	"bytes"
	"context"
	"sync"
	"syscall"

	"bazil.org/fuse"

	"qsfs/zdbfs"
)

// maxRead is what one READ asks for at most: the library negotiates 32 pages.
const maxRead = 128 << 10

// readBuffers hold the answers of reads.
var readBuffers = sync.Pool{New: func() any {
	b := make([]byte, maxRead)
	return &b
}}

// fdatasync is the flag of FSYNC that leaves times alone.
const fdatasync = 1

func (s *server) open(r *fuse.OpenRequest) {
	ino := zdbfs.Ino(r.Node)
	h, err := s.fs.Open(background, caller(r.Header), ino, zdbfs.OpenFlags(r.Flags))
	if err == nil && r.OpenFlags&fuse.OpenKillSUIDGID != 0 {
		if _, err = s.fs.Setattr(background, caller(r.Header), ino, zdbfs.SetattrIn{Valid: zdbfs.SetKillPriv}); err != nil {
			_ = s.fs.Release(background, h)
		}
	}
	release(r.Header)
	if err != nil {
		s.fail(r.ID, errno(err))
		return
	}
	var b [openOutSize]byte
	if s.send(r.ID, appendOpen(b[:0], uint64(h), s.openFlags(r.Flags))) != nil {
		_ = s.fs.Release(background, h)
	}
}

// openFlags lets the kernel keep what it has cached: nobody else changes the file. While room is
// short, a file that is only written bypasses the cache; one that can be read as well may be mapped,
// and a mapping needs it.
func (s *server) openFlags(f fuse.OpenFlags) fuse.OpenResponseFlags {
	if f.IsWriteOnly() && (s.fs.LowSpace() || s.opt.DirectWrites()) {
		return fuse.OpenDirectIO
	}
	return fuse.OpenKeepCache
}

func (s *server) release(r *fuse.ReleaseRequest) {
	h := zdbfs.Handle(r.Handle)
	if r.Dir {
		s.finish(r, s.fs.Releasedir(background, h))
		return
	}
	s.finish(r, s.fs.Release(background, h))
}

// read may wait for a node. It gives the buffer of its request back before, and can be interrupted.
func (s *server) read(r *fuse.ReadRequest) {
	ctx := s.interrupts.begin(r.ID)
	defer s.interrupts.finish(r.ID)
	release(r.Header)
	size := min(r.Size, maxRead)
	if err := s.reads.Acquire(ctx, int64(size)); err != nil {
		s.fail(r.ID, syscall.EINTR)
		return
	}
	defer s.reads.Release(int64(size))
	bp := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(bp)
	p := (*bp)[:size]
	n, err := s.fs.Read(ctx, zdbfs.Ino(r.Node), zdbfs.Handle(r.Handle), r.Offset, p)
	if err != nil {
		s.fail(r.ID, errno(err))
		return
	}
	_ = s.send(r.ID, p[:n])
}

// writeFile hands the data on in the buffer of the request: Write has copied it when it returns. While room is short, when
// hundreds may wait for it, a small write takes its data along and gives back the buffer, which is as large as the largest.
func (s *server) writeFile(r *fuse.WriteRequest) {
	fl := zdbfs.WriteFlags{Cache: r.Flags&fuse.WriteCache != 0, KillPriv: r.Flags&fuse.WriteKillSUIDGID != 0}
	h, id, file, off, data := r.Header, r.ID, zdbfs.Handle(r.Handle), r.Offset, r.Data
	copied := len(data) <= maxRead/2 && s.opt.DirectWrites()
	if copied {
		data = bytes.Clone(data)
		release(h)
	}
	n, err := s.fs.Write(background, zdbfs.Ino(h.Node), file, off, data, fl)
	if !copied {
		release(h)
	}
	if err != nil {
		s.fail(id, errno(err))
		return
	}
	var b [8]byte
	native.PutUint32(b[:], uint32(n))
	_ = s.send(id, b[:])
}

func (s *server) fsync(r *fuse.FsyncRequest) {
	ino, data := zdbfs.Ino(r.Node), r.Flags&fdatasync != 0
	ctx := s.interrupts.begin(r.ID)
	defer s.interrupts.finish(r.ID)
	id := r.ID
	dir := r.Dir
	release(r.Header)
	var err error
	if dir {
		err = s.fs.Fsyncdir(background, ino, data)
	} else {
		err = s.fs.Fsync(background, ino, data)
	}
	if err == nil && s.opt.RemoteSync != nil {
		err = remoteErrno(ctx, s.opt.RemoteSync(ctx))
	}
	if err != nil {
		s.fail(id, errno(err))
		return
	}
	_ = s.send(id)
}

// remoteErrno is what fsync says when the nodes do not have everything: EIO, whatever number a socket
// gave as the reason, or EINTR when the caller gave up.
func remoteErrno(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return syscall.EINTR
	}
	return syscall.EIO
}

func (s *server) fallocate(r *fuse.FAllocateRequest) {
	if r.Offset > zdbfs.MaxFileSize || r.Length > zdbfs.MaxFileSize-r.Offset {
		s.finish(r, syscall.EFBIG)
		return
	}
	s.finish(r, s.fs.Fallocate(background, zdbfs.Ino(r.Node), zdbfs.Handle(r.Handle),
		uint32(r.Mode), int64(r.Offset), int64(r.Length)))
}
