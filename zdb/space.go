package zdb

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"qsfs/zdb/internal/vfs"
)

const (
	ballastName = "ballast"
	// A figure of statfs is used again for this long and this many bytes.
	spaceAge   = 10 * time.Millisecond
	spaceBytes = 1 << 20
	// ballastRetry is how often a released ballast is asked back.
	ballastRetry = 5 * time.Second
)

// space watches the free room of the disk and holds the ballast.
type space struct {
	fs       vfs.FS
	dataDir  string
	indexDir string
	reserve  int64
	ballast  int64
	// room must be free before the index is opened or written: Badger maps its
	// files, and a page that the disk cannot back ends the process.
	room int64
	log  *slog.Logger

	mu      sync.Mutex
	checked time.Time
	free    int64 // of the data file system, when checked
	taken   int64 // since then
	refuse  bool
	held    bool // the ballast is allocated
	tried   time.Time
}

func newSpace(o *Options, dataDir, indexDir string, ballast int64) *space {
	s := &space{
		fs: o.FS, dataDir: dataDir, indexDir: indexDir,
		reserve: o.Reserve, room: o.IndexRoom, ballast: ballast, log: o.Log,
	}
	if info, err := s.fs.Stat(s.path()); err == nil && info.Size >= ballast {
		s.held = ballast > 0
	}
	s.keep()
	return s
}

func (s *space) path() string { return filepath.Join(s.indexDir, ballastName) }

// limit is what must stay free. A ballast that was let go belongs to the index and to deletes.
func (s *space) limitLocked() int64 {
	if s.ballast > 0 && !s.held {
		return s.reserve + s.ballast
	}
	return s.reserve
}

// take asks for n bytes of the log. Urgent writes are let into the reserve, and into the ballast.
func (s *space) take(n int64, urgent bool) error {
	if s.reserve == 0 && s.ballast == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.lookLocked(); err != nil {
		return err
	}
	s.taken += n
	left := s.free - s.taken
	limit := s.limitLocked()
	s.refuse = left < limit
	if !s.refuse {
		return nil
	}
	if !urgent {
		s.checked = time.Time{} // look again next time: room may come back
		return fmt.Errorf("%w: %d bytes free, %d are kept", ErrNoSpace, max(left, 0), limit)
	}
	if left < s.reserve/2 {
		s.releaseLocked()
	}
	return nil
}

func (s *space) lookLocked() error {
	if time.Since(s.checked) < spaceAge && s.taken < spaceBytes {
		return nil
	}
	free, err := s.fs.Free(s.dataDir)
	if err != nil {
		return err
	}
	s.free, s.taken, s.checked = free, 0, time.Now()
	return nil
}

// ample says whether n bytes may be written ahead of need.
func (s *space) ample(n int64) bool {
	free, err := s.fs.Free(s.dataDir)
	s.mu.Lock()
	defer s.mu.Unlock()
	return err == nil && free-n > s.limitLocked()+n
}

// forIndex makes sure that the index has its room, letting the ballast go if it must.
func (s *space) forIndex() error {
	if s.room == 0 {
		return nil
	}
	free, err := s.fs.Free(s.indexDir)
	if err != nil {
		return err
	}
	if free < s.room && s.release() {
		if free, err = s.fs.Free(s.indexDir); err != nil {
			return err
		}
	}
	if free < s.room {
		return fmt.Errorf("%w: the index needs %d bytes, %d are free", ErrNoSpace, s.room, free)
	}
	return nil
}

// release gives the ballast back to the disk and says whether there was one.
func (s *space) release() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.releaseLocked()
}

func (s *space) releaseLocked() bool {
	if !s.held {
		return false
	}
	if err := s.fs.Remove(s.path()); err != nil {
		s.log.Error("release ballast", "error", err)
		return false
	}
	s.held, s.checked = false, time.Time{}
	s.tried = time.Now()
	s.log.Warn("disk is nearly full: the ballast was released", "directory", s.indexDir)
	return true
}

// keep takes the ballast back when there is ample room again.
func (s *space) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ballast <= 0 || s.held || time.Since(s.tried) < ballastRetry {
		return
	}
	s.tried = time.Now()
	free, err := s.fs.Free(s.indexDir)
	if err != nil || free < s.ballast+2*s.reserve+s.room {
		return
	}
	if err := s.allocate(); err != nil {
		s.log.Warn("no ballast", "directory", s.indexDir, "error", err)
		return
	}
	s.held, s.checked = true, time.Time{}
}

func (s *space) allocate() error {
	f, err := s.fs.Create(s.path())
	if err != nil {
		return err
	}
	err = f.Allocate(s.ballast)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, s.fs.Remove(s.path()))
	}
	return nil
}

// low says whether writes are refused.
func (s *space) low() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse
}
