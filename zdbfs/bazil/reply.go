package bazil

import (
	"encoding/binary"
	"sync"
	"syscall"
	"time"

	"bazil.org/fuse"
	"golang.org/x/sys/unix"

	"qsfs/zdbfs"
)

// Sizes of the kernel's structures, from linux/fuse.h.
const (
	outHeaderSize = 16
	attrSize      = 88
	entryOutSize  = 40 + attrSize
	attrOutSize   = 16 + attrSize
	openOutSize   = 16
	direntSize    = 24
)

var native = binary.NativeEndian

// blockSize is st_blksize: what one request can carry.
const blockSize = 128 << 10

// buffers are the small messages of replies.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, outHeaderSize+entryOutSize+openOutSize)
	return &b
}}

// release gives the buffer of a request back to the library without answering it. The answer is
// written with send; until then nothing of the request may be used but its copied fields.
func release(h fuse.Header) {
	// A forgotten node is the one request without an answer.
	(&fuse.ForgetRequest{Header: h}).Respond()
}

// send answers a request. An error means that the kernel did not take the answer: the request was
// given up, or the connection is gone.
func (s *server) send(id fuse.RequestID, body ...[]byte) error {
	return s.write(id, 0, body...)
}

// fail answers a request with an error number.
func (s *server) fail(id fuse.RequestID, errno syscall.Errno) {
	_ = s.write(id, -int32(errno))
}

func (s *server) write(id fuse.RequestID, status int32, body ...[]byte) error {
	n := outHeaderSize
	for _, b := range body {
		n += len(b)
	}
	hp := buffers.Get().(*[]byte)
	h := (*hp)[:outHeaderSize]
	native.PutUint32(h[0:], uint32(n))
	native.PutUint32(h[4:], uint32(status))
	native.PutUint64(h[8:], uint64(id))
	var err error
	if len(body) == 0 {
		_, err = unix.Write(s.dev, h)
	} else {
		iov := make([][]byte, 0, 3)
		iov = append(iov, h)
		iov = append(iov, body...)
		_, err = unix.Writev(s.dev, iov)
	}
	buffers.Put(hp)
	return err
}

func appendTimeout(b []byte, d time.Duration) []byte {
	return native.AppendUint64(b, uint64(d/time.Second))
}

func appendAttr(b []byte, a *zdbfs.Attr) []byte {
	b = native.AppendUint64(b, uint64(a.Ino))
	b = native.AppendUint64(b, uint64(a.Size))
	b = native.AppendUint64(b, uint64(a.Blocks))
	b = native.AppendUint64(b, uint64(a.Atime.Sec))
	b = native.AppendUint64(b, uint64(a.Mtime.Sec))
	b = native.AppendUint64(b, uint64(a.Ctime.Sec))
	b = native.AppendUint32(b, uint32(a.Atime.Nsec))
	b = native.AppendUint32(b, uint32(a.Mtime.Nsec))
	b = native.AppendUint32(b, uint32(a.Ctime.Nsec))
	b = native.AppendUint32(b, a.Mode)
	b = native.AppendUint32(b, a.Nlink)
	b = native.AppendUint32(b, a.Uid)
	b = native.AppendUint32(b, a.Gid)
	b = native.AppendUint32(b, a.Rdev)
	b = native.AppendUint32(b, blockSize)
	return native.AppendUint32(b, 0) // flags
}

// appendEntry encodes the answer of LOOKUP and of everything that makes a name.
func (s *server) appendEntry(b []byte, a *zdbfs.Attr) []byte {
	b = native.AppendUint64(b, uint64(a.Ino))
	b = native.AppendUint64(b, 1) // generation: numbers are never used again
	b = appendTimeout(b, s.opt.EntryTimeout)
	b = appendTimeout(b, s.opt.AttrTimeout)
	b = native.AppendUint32(b, uint32(s.opt.EntryTimeout%time.Second))
	b = native.AppendUint32(b, uint32(s.opt.AttrTimeout%time.Second))
	return appendAttr(b, a)
}

func (s *server) sendEntry(id fuse.RequestID, a *zdbfs.Attr) error {
	bp := buffers.Get().(*[]byte)
	b := s.appendEntry((*bp)[:0], a)
	err := s.send(id, b)
	buffers.Put(bp)
	return err
}

// sendNoEntry says that a name does not exist, and for how long the kernel need not ask again:
// node 0 with a timeout. ENOENT would not be remembered.
func (s *server) sendNoEntry(id fuse.RequestID) {
	var b [entryOutSize]byte
	native.PutUint64(b[16:], uint64(s.opt.NegativeTimeout/time.Second))
	native.PutUint32(b[32:], uint32(s.opt.NegativeTimeout%time.Second))
	_ = s.send(id, b[:])
}

func (s *server) sendAttr(id fuse.RequestID, a *zdbfs.Attr) {
	bp := buffers.Get().(*[]byte)
	b := appendTimeout((*bp)[:0], s.opt.AttrTimeout)
	b = native.AppendUint32(b, uint32(s.opt.AttrTimeout%time.Second))
	b = native.AppendUint32(b, 0)
	b = appendAttr(b, a)
	_ = s.send(id, b)
	buffers.Put(bp)
}

func appendOpen(b []byte, handle uint64, flags fuse.OpenResponseFlags) []byte {
	b = native.AppendUint64(b, handle)
	b = native.AppendUint32(b, uint32(flags))
	return native.AppendUint32(b, 0)
}

// sendCreate answers CREATE: an entry and an open file.
func (s *server) sendCreate(id fuse.RequestID, a *zdbfs.Attr, handle uint64, flags fuse.OpenResponseFlags) error {
	bp := buffers.Get().(*[]byte)
	b := s.appendEntry((*bp)[:0], a)
	b = appendOpen(b, handle, flags)
	err := s.send(id, b)
	buffers.Put(bp)
	return err
}

// appendDirent adds a directory entry if it fits into max bytes. off is the cookie from which the
// listing goes on after this entry.
func appendDirent(b []byte, max int, ino, off uint64, kind uint32, name string) ([]byte, bool) {
	n := direntSize + len(name)
	pad := -n & 7
	if len(b)+n+pad > max {
		return b, false
	}
	b = native.AppendUint64(b, ino)
	b = native.AppendUint64(b, off)
	b = native.AppendUint32(b, uint32(len(name)))
	b = native.AppendUint32(b, kind)
	b = append(b, name...)
	return append(b, "\x00\x00\x00\x00\x00\x00\x00"[:pad]...), true
}
