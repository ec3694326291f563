package zdb

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
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
	drain   drain
}

// drain watches how fast others take the room of the index.
type drain struct {
	own  *atomic.Int64 // what this process has written
	at   time.Time
	free int64
	mine int64
	rate float64 // bytes per second that others took lately
}

const (
	drainSample = 200 * time.Millisecond
	// drainAhead: when others would reach the room of the index in this time, it is not written.
	drainAhead = 2 * time.Second
	drainOld   = 5 * time.Second
)

// sample takes a figure of the free room and says how much will be left soon.
func (d *drain) sample(free int64) (soon int64) {
	now, mine := time.Now(), d.own.Load()
	if dt := now.Sub(d.at); dt >= drainSample {
		d.rate = 0
		if !d.at.IsZero() && dt < drainOld {
			d.rate = max(0, float64(d.free-free-(mine-d.mine))/dt.Seconds())
		}
		d.at, d.free, d.mine = now, free, mine
	}
	return free - int64(d.rate*drainAhead.Seconds())
}

func newSpace(o *Options, own *atomic.Int64, dataDir, indexDir string, ballast int64) *space {
	s := &space{
		fs: o.FS, dataDir: dataDir, indexDir: indexDir,
		reserve: o.Reserve, room: o.IndexRoom, ballast: ballast, log: o.Log,
	}
	s.drain.own = own
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
		s.drain.own.Add(n)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.lookLocked(); err != nil {
		return err
	}
	s.taken += n
	s.drain.own.Add(n)
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

// forIndex says whether the index may be written: it has its room, and nobody is
// about to take it.
func (s *space) forIndex() error {
	if s.room == 0 {
		return nil
	}
	free, err := s.fs.Free(s.indexDir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if soon := s.drain.sample(free); soon < s.room {
		return fmt.Errorf("%w: the index needs %d bytes, %d are free, %d soon", ErrNoSpace, s.room, free, max(soon, 0))
	}
	return nil
}

// forMakingRoom is forIndex for what may give room back. While writes are refused the ballast is given for it, for it is the index that
// says what is dead; but not while others take what there is.
func (s *space) forMakingRoom() error {
	err := s.forIndex()
	s.mu.Lock()
	calm := s.refuse && s.drain.rate*drainAhead.Seconds() < float64(s.room)/8
	s.mu.Unlock()
	if calm {
		return s.withBallast(err)
	}
	return err
}

// forOpening is forIndex before the index is opened. One that was open when its
// process died begins with writing, perhaps just what the process died of: it gets twice the room and no ballast. Else the
// ballast is given for it.
func (s *space) forOpening(dirty bool) error {
	err := s.forIndex()
	if s.room == 0 || !dirty {
		return s.withBallast(err)
	}
	free, ferr := s.fs.Free(s.indexDir)
	if err = errors.Join(err, ferr); err == nil && free < 2*s.room {
		err = fmt.Errorf("%w: the index needs %d bytes after a crash, %d are free", ErrNoSpace, 2*s.room, free)
	}
	return err
}

// withBallast lets the ballast go for an index that has no room, and looks again.
func (s *space) withBallast(err error) error {
	if errors.Is(err, ErrNoSpace) && s.release() {
		return s.forIndex()
	}
	return err
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
