// Package clock tells how much time has passed since something, over restarts, and not more than really has.
//
// It counts the time that it runs, by the monotonic clock; that is certain. Of the time that was missed, because nothing ran or the machine slept, only the
// wall clock knows, by what it is ahead of the running time, and it may be wrong. What is assumed of it: in no whole day of running time is it fast all
// the time, nor slow all the time. In any such day it was right, or slow, at some moment, so what it was ahead at least in that day was really missed by
// the day's end. And it was right, or fast, at some moment, so by the day's beginning no more was missed than what it was ahead at most. Since a moment
// there was missed, then, at least: the greatest least of all days up to now, less the smallest most of all days that began after the moment.
// Nothing has to be known of where a gap was, who restarted when, or when which jump was put right.
//
// Where the assumption does not hold there is a bound: no more time is taken for missed since a moment than has run since. And a wall clock that is slow for
// ever so many days adds nothing, as long as it is behind what is known of the time that was missed, or shows a time before all of this.
//
// A moment is a running time of one life of the clock, from one opening to the next. The clock knows the lives that it goes on from, and how far each was
// when the next one began. So where files are put back from an earlier or a later day it sees which moments are not of its past.
package clock

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"qsfs/zdb/internal/vfs"
)

const (
	// spansADay of spanTime, of running time that was looked at, are the day in which the wall clock has to be right once.
	spansADay = 24
	spanTime  = time.Hour
	// blind is the most that counts as looked at between two looks.
	blind = 10 * time.Minute
	// unit is what the wall clock is measured in, so that its trembling adds nothing.
	unit = time.Second
	// slack is how far a wall clock may be behind what was believed of it for a day to tell anything: small corrections are no reason to leave a day out.
	slack = time.Minute
	// longAgo is a time before all of this: a wall clock that shows less is slow.
	longAgo = 1_600_000_000 * time.Second
	// worthTelling is what is logged.
	worthTelling = time.Hour
	// saveEvery is how much running time a crash may lose, but not more than half of what ran since the start. It is time that was missed, then.
	saveEvery = 10 * time.Minute
)

// Run is a moment, in nanoseconds of running time.
type Run int64

// ID is a life of the clock.
type ID [16]byte

// life is one that the present one goes on from; what it had beyond end is no part of that.
type life struct {
	id  ID
	end Run
}

// high says that before the moment no more than by was missed.
type high struct {
	at Run
	by time.Duration
}

// span is what the wall clock was ahead, at least and at most, from a moment on, in so much running time that was looked at.
type span struct {
	at        Run
	ran       time.Duration
	low, high time.Duration
}

// record is what the file holds.
type record struct {
	id    ID
	run   Run
	low   time.Duration // so much was missed, at least; unknown until the clock has run for a day
	past  []life        // ends ascending
	highs []high        // both ascending; never changed, only replaced
	spans []span        // at most a day of them, the last one goes on
}

const unknown time.Duration = -1 << 63

// Clock is safe for concurrent use.
type Clock struct {
	fs   vfs.FS
	path string
	log  *slog.Logger
	now  func() (wall time.Time, running time.Duration)

	mu     sync.Mutex
	record               // as of the last look
	began  Run           // when this process began to count
	looked time.Duration // the monotonic clock then
	used   bool
	lasts  bool // the file is of this life
	saved  Run  // what the file says
	dirty  bool

	fileMu sync.Mutex // held over saving
	failed failures
}

// failures tells which of them are logged: the first one, and then one in an hour until it works again.
type failures struct{ logged time.Time }

func (f *failures) tell() bool {
	if !f.logged.IsZero() && time.Since(f.logged) < time.Hour {
		return false
	}
	f.logged = time.Now()
	return true
}

var began = time.Now()

// Machine is the machine's clock.
func Machine() (wall time.Time, running time.Duration) { return time.Now(), time.Since(began) }

// Open goes on with the clock in a file. Without one, or if it cannot be used, another clock begins, to which everything is new.
func Open(fs vfs.FS, path string, now func() (time.Time, time.Duration), log *slog.Logger) (*Clock, error) {
	c := &Clock{fs: fs, path: path, log: log, now: now, dirty: true}
	_, c.looked = now()
	c.record = record{low: unknown}
	p, err := vfs.ReadFile(fs, path, maxFile)
	if err == nil {
		var r record
		if r, err = parse(p); err == nil {
			c.record = r
			c.past = remember(r.past, life{r.id, r.run})
		}
	}
	if err != nil && !errors.Is(err, vfs.ErrNotExist) {
		log.Error("the clock's file is set aside: ages are counted anew, what is kept for a time is kept longer", "file", path, "error", errors.Join(err, vfs.SetAside(fs, path)))
	}
	c.saved, c.began = c.run, c.run
	if _, err := rand.Read(c.id[:]); err != nil {
		return nil, err
	}
	c.Look()
	return c, nil
}

// remember adds a life. Where there are too many the one of the older half goes in which the least ran: its moments are those of another clock from then
// on. Of the newer half none goes, however short it was: what is in use is of them.
func remember(past []life, l life) []life {
	past = append(slices.Clone(past), l)
	for len(past) > maxLives {
		least, ran := 0, past[0].end
		for i := 1; i < maxLives/2; i++ {
			if d := past[i].end - past[i-1].end; d < ran {
				least, ran = i, d
			}
		}
		past = slices.Delete(past, least, least+1)
	}
	return past
}

// ID of the present life.
func (c *Clock) ID() ID { return c.id }

// End says up to which running time a life is part of this clock's past; all of a life that it does not know is not.
func (c *Clock) End(id ID) (end Run, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == c.id {
		return c.run, true
	}
	i := slices.IndexFunc(c.past, func(l life) bool { return l.id == id })
	if i < 0 {
		return 0, false
	}
	return c.past[i].end, true
}

// View is the clock at one moment.
type View struct {
	Run   Run
	low   time.Duration
	highs []high
}

// Age is how much time has passed since a moment of the past, at least. It is not smaller for an earlier moment.
func (v *View) Age(r Run) time.Duration {
	ran := time.Duration(max(0, v.Run-r))
	i, _ := slices.BinarySearchFunc(v.highs, r, func(h high, r Run) int {
		if h.at <= r {
			return -1
		}
		return 1
	})
	if v.low == unknown || i == len(v.highs) {
		return ran
	}
	return ran + min(ran, max(0, v.low-v.highs[i].by))
}

// Look takes note of what the clocks say. It has to be called now and then.
func (c *Clock) Look() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, running := c.now()
	ran := max(0, running-c.looked)
	c.run += Run(ran)
	c.looked = running
	c.see(time.Duration(min(max(0, wall.UnixNano()), int64(maxRun)))-time.Duration(c.run), ran)
	return View{Run: c.run, low: c.low, highs: c.highs}
}

// see takes note that the wall clock is ahead, after some running time.
func (c *Clock) see(ahead, ran time.Duration) {
	if len(c.spans) == 0 {
		c.spans = []span{{at: c.run, low: ahead, high: ahead}}
		return
	}
	s := &c.spans[len(c.spans)-1]
	// What would make less of what was missed is not left to be lost by a crash.
	c.dirty = c.dirty || ahead <= s.low-unit || ahead >= s.high+unit
	s.low, s.high = min(s.low, ahead), max(s.high, ahead)
	if s.ran += min(ran, blind); s.ran < spanTime {
		return
	}
	if len(c.spans) == spansADay {
		c.day()
		c.spans = slices.Delete(c.spans, 0, 1)
	}
	c.spans = append(c.spans, span{at: c.run, low: ahead, high: ahead})
}

// day learns from the day that has just ended.
func (c *Clock) day() {
	low, top := c.spans[0].low, c.spans[0].high
	for _, s := range c.spans {
		low, top = min(low, s.low), max(top, s.high)
	}
	low, top = floor(low), -floor(-top)
	if c.low != unknown && low >= c.low+worthTelling {
		c.log.Info("the wall clock has been ahead for a day: so much time passed while nothing ran", "more", low-c.low)
	}
	if low > c.low {
		c.low, c.dirty = low, true
	}
	if top < c.low-slack || top+time.Duration(c.run) < longAgo {
		return // it is slow, and what it says is no bound
	}
	h := high{c.spans[0].at, max(top, c.low)}
	list := slices.Clone(c.highs)
	for n := len(list); n > 0 && list[n-1].by >= h.by; n-- {
		list = list[:n-1]
	}
	if list = append(list, h); len(list) > maxHighs {
		// What is before the one that goes has the next one's, and seems younger, by no more than lies between its neighbours.
		near := 1
		for i := 1; i < len(list)-1; i++ {
			if list[i+1].by-list[i-1].by < list[near+1].by-list[near-1].by {
				near = i
			}
		}
		list = slices.Delete(list, near, near+1)
	}
	c.highs = list
}

func floor(d time.Duration) time.Duration {
	if m := d % unit; m < 0 {
		return d - m - unit
	} else {
		return d - m
	}
}

// Use makes the clock last: from now on there is a file.
func (c *Clock) Use() {
	c.mu.Lock()
	first := !c.used
	c.used = true
	c.mu.Unlock()
	if first {
		c.Save(true)
	}
}

// Lasts says whether the file knows this life. If not, its moments are of no clock after a crash.
func (c *Clock) Lasts() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lasts
}

// SaveTo writes the file if it does not know a moment of this life yet.
func (c *Clock) SaveTo(r Run) {
	c.mu.Lock()
	known := c.lasts && c.saved >= r
	c.mu.Unlock()
	if !known {
		c.Save(true)
	}
}

// Save writes the file if it is time to, or if now. That it cannot is logged: what is lost makes things seem younger.
func (c *Clock) Save(now bool) {
	c.fileMu.Lock()
	defer c.fileMu.Unlock()
	c.Look()
	c.mu.Lock()
	// Soon after the start, too: else a process that is killed again and again never gets any further.
	after := min(Run(saveEvery), c.saved-c.began)
	due := c.used && (c.dirty || c.run > c.saved && (now || c.run-c.saved >= after))
	c.dirty = c.dirty && !due
	if !due {
		c.mu.Unlock()
		return
	}
	run, p := c.run, c.encode()
	c.mu.Unlock()
	err := vfs.WriteFile(c.fs, c.path, p)
	if err == nil {
		c.failed = failures{}
	} else if c.failed.tell() {
		c.log.Warn("the clock cannot be saved", "file", c.path, "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.dirty = true
		return
	}
	c.saved, c.lasts = run, true
}
