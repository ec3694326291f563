package bazil

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"

	"bazil.org/fuse"
	"golang.org/x/sync/semaphore"

	"qsfs/zdbfs"
)

// server answers the requests of one connection.
type server struct {
	fs   *zdbfs.FS
	conn *fuse.Conn
	dev  int // duplicate of the connection's descriptor, for replies
	opt  Options
	log  *slog.Logger

	readOnly   atomic.Bool
	reads      *semaphore.Weighted // bytes that reads hold
	interrupts interrupts

	waiting atomic.Int32 // goroutines that wait for a request
	running atomic.Int32 // goroutines in all
	wg      sync.WaitGroup

	endOnce sync.Once
	endErr  error // set before ended is closed
	ended   chan struct{}
}

// maxIdle is how many goroutines may wait for a request: one that takes it and one that takes over.
const maxIdle = 2

func (s *server) start() {
	for range maxIdle {
		s.spawn()
	}
}

func (s *server) spawn() {
	s.wg.Add(1)
	s.running.Add(1)
	s.waiting.Add(1)
	go s.serve()
}

// serve reads and answers requests until the connection ends or enough others do it.
func (s *server) serve() {
	defer s.wg.Done()
	defer s.running.Add(-1)
	for {
		req, err := s.conn.ReadRequest()
		if err != nil {
			if retry(err) {
				continue
			}
			s.waiting.Add(-1)
			s.end(err)
			return
		}
		if s.waiting.Add(-1) == 0 && int(s.running.Load()) < s.opt.MaxRequests {
			s.spawn()
		}
		s.handle(req)
		if s.waiting.Add(1) > maxIdle {
			s.waiting.Add(-1)
			return
		}
	}
}

// retry says whether a failed read of the connection is no end: a signal, or a request that was
// given up before it was read.
func retry(err error) bool {
	var no syscall.Errno
	return errors.As(err, &no) && (no == syscall.EINTR || no == syscall.EAGAIN || no == syscall.ENOENT)
}

// end notes why the connection ended; an unmount is no error.
func (s *server) end(err error) {
	s.endOnce.Do(func() {
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ENODEV) {
			s.endErr = err
		}
		close(s.ended)
	})
}
