// Package clock tells how much time has passed since something, over restarts, without believing the machine's clock at once.
//
// It counts the time that it runs, by the monotonic clock. What it does not run, or the machine sleeps, only the wall clock
// can tell, and that may be wrong: so it counts when the wall clock was ahead for as long as it is ahead, at most a day,
// of running time without a break. A clock that is wrong for less changes nothing, nor does one that goes backwards.
//
// Where in the running time such a gap belongs is not always known: the wall clock may be wrong behind it too, and be put right later. What is written there must
// not seem older than it is, so the gap is taken for as early as it may have been.
package clock

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

const (
	// Patience is how long, of running time, the wall clock has to be ahead at most before it is believed.
	Patience = 24 * time.Hour
	// least is by how much the wall clock has to be ahead to count.
	least = time.Second
	// worthTelling is what is logged.
	worthTelling = time.Hour
	// saveEvery is how much running time a crash may lose, but not more than half of what ran since the start. The wall clock gives it back.
	saveEvery = 10 * time.Minute
)

// Run is a moment, in nanoseconds of running time. It means something together with the clock's ID only.
type Run int64

// step is time that passed without being counted, before the running time went on at a moment.
type step struct {
	at Run
	by time.Duration
}

// record is what the file holds.
type record struct {
	id    [16]byte
	run   Run
	base  time.Duration // added to all
	held  step          // what the wall clock was ahead at least, and since when at the earliest; by 0: it is not
	steps []step        // ascending; never changed, only replaced

	born    Run // when the clock began
	noticed Run // when held was
	grown   Run // what the wall clock is ahead beyond held is from then at the earliest; 0: it is not
}

// Clock is safe for concurrent use.
type Clock struct {
	fs   vfs.FS
	path string
	log  *slog.Logger
	now  func() (wall time.Time, running time.Duration)

	mu     sync.Mutex
	record                 // as of the last look
	began  Run             // when this process began to count
	fresh  bool            // the clock did so too
	shift  time.Duration   // what it is to be put back by if the wall clock stays; not above 0
	since  Run             // when that changed
	behind Run             // since when the wall clock is behind; 0: it is not
	looked time.Duration   // the monotonic clock then
	sums   []time.Duration // of the steps up to each, and base
	used   bool
	saved  Run // what the file says
	dirty  bool

	fileMu sync.Mutex // held over saving
}

var began = time.Now()

// Machine is the machine's clock.
func Machine() (wall time.Time, running time.Duration) { return time.Now(), time.Since(began) }

// Open goes on with the clock in a file; without one, or if it does not check, another one begins with the wall clock.
func Open(fs vfs.FS, path string, now func() (time.Time, time.Duration), log *slog.Logger) (*Clock, error) {
	c := &Clock{fs: fs, path: path, log: log, now: now}
	wall, running := now()
	c.looked = running
	p, err := vfs.ReadFile(fs, path, maxFile)
	if err == nil {
		c.record, err = parse(p)
	}
	if err == nil {
		c.saved, c.began = c.run, c.run
		c.add()
		c.Look()
		return c, nil
	}
	switch {
	case errors.Is(err, vfs.ErrNotExist):
	case !errors.Is(err, segfile.ErrFormat):
		return nil, err
	default:
		log.Error("the clock's file is not used: ages are counted anew", "file", path, "error", err)
	}
	c.record, c.dirty = record{run: Run(wall.UnixNano()), born: Run(wall.UnixNano())}, true
	c.began, c.fresh = c.run, true
	_, err = rand.Read(c.id[:])
	return c, err
}

// ID tells clocks apart.
func (c *Clock) ID() [16]byte { return c.id }

// View is the clock at one moment.
type View struct {
	Run   Run
	born  Run
	base  time.Duration
	steps []step
	sums  []time.Duration
}

// Time is a moment on the clock's own scale, in which all the time that it knows of has passed. It is about the wall clock's where
// that was never wrong.
func (v *View) Time(r Run) time.Duration {
	i, _ := slices.BinarySearchFunc(v.steps, r, func(s step, r Run) int {
		if s.at <= r {
			return -1
		}
		return 1
	})
	if i == 0 {
		return time.Duration(r) + v.base
	}
	return time.Duration(r) + v.sums[i-1]
}

// Since is what has passed since a moment of the wall clock. In its first day the clock does not believe that one for more than it has run.
func (v *View) Since(wall time.Time) time.Duration {
	passed := v.Now() - time.Duration(wall.UnixNano())
	if ran := time.Duration(v.Run - v.born); ran < Patience {
		return min(passed, ran)
	}
	return passed
}

// Now is the present moment on that scale.
func (v *View) Now() time.Duration { return v.Time(v.Run) }

// Look takes note of what the clocks say. It has to be called now and then.
func (c *Clock) Look() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, running := c.now()
	c.run += Run(max(0, running-c.looked))
	c.looked = running
	ahead := c.ahead(wall)
	if c.fresh && len(c.steps) == 0 {
		c.follow(ahead)
		ahead = c.ahead(wall)
	}
	switch {
	case ahead > -least && ahead < least:
		c.behind = 0
	case ahead <= -least && c.behind == 0:
		c.behind = c.run
	}
	switch {
	case ahead < least:
		if c.held.by >= worthTelling {
			c.log.Info("the clock is right again", "file", c.path)
		}
		c.held, c.noticed, c.grown = step{}, 0, 0
	case c.held.by == 0:
		c.hold(ahead, c.place())
	case ahead < c.held.by+least:
		c.held.by, c.grown = min(c.held.by, ahead), 0
	case c.grown == 0:
		c.grown = c.place()
	}
	if h := c.held; h.by > 0 && time.Duration(c.run-c.noticed) >= min(h.by, Patience) {
		at := c.grown
		c.take(h)
		if ahead = c.ahead(wall); ahead >= least {
			c.hold(ahead, at)
		}
	}
	return c.view()
}

// follow puts a clock back that may have begun with a wrong wall clock: all of it, so that nothing becomes older. It is for good when the wall
// clock has not been put again for a day.
func (c *Clock) follow(ahead time.Duration) {
	switch {
	case ahead <= -least && (c.shift < 0 || c.run-c.began < Run(Patience)), ahead >= least && c.shift < 0:
		c.shift, c.since = min(0, c.shift+ahead), c.run
	case c.shift < 0 && c.run-c.since >= Run(Patience):
		c.base, c.shift, c.dirty = c.base+c.shift, 0, true
	}
}

// place is where a gap may have been at the earliest that is noticed now. After a start the wall clock may stand where it stood at the stop, or in
// 1970, until it is put right. While it is behind nobody sees a gap.
func (c *Clock) place() Run {
	at := c.run
	if c.behind != 0 {
		at = c.behind
	}
	switch {
	case at-c.born < Run(Patience):
		at = c.born // it may have begun with a wrong one
	case at-c.began < Run(Patience):
		at = c.began
	}
	c.behind = 0
	return at
}

func (c *Clock) view() View {
	return View{Run: c.run, born: c.born, base: c.base + c.shift, steps: c.steps, sums: c.sums}
}

func (c *Clock) ahead(wall time.Time) time.Duration {
	v := c.view()
	return time.Duration(wall.UnixNano()) - v.Now()
}

func (c *Clock) hold(ahead time.Duration, at Run) {
	c.held, c.noticed, c.grown = step{at, ahead}, c.run, 0
	if ahead >= worthTelling {
		c.log.Warn("more time has passed by the clock than this process has run: nothing expires by it until it has been so for a while",
			"more", ahead.Round(time.Second), "while", min(ahead, Patience).Round(time.Second))
	}
}

// take believes the wall clock: the time passed before its place.
func (c *Clock) take(h step) {
	if h.by >= worthTelling {
		c.log.Info("the clock is believed", "more", h.by.Round(time.Second))
	}
	steps := append(slices.Clone(c.steps), h)
	for len(steps) > maxSteps {
		// What lies between the nearest two seems younger from now on: it is kept longer.
		near := 0
		for i := range len(steps) - 1 {
			if steps[i+1].at-steps[i].at < steps[near+1].at-steps[near].at {
				near = i
			}
		}
		steps[near].by += steps[near+1].by
		steps = slices.Delete(steps, near+1, near+2)
	}
	c.steps, c.held, c.noticed, c.grown, c.dirty = steps, step{}, 0, 0, true
	c.add()
}

func (c *Clock) add() {
	sum := c.base
	c.sums = make([]time.Duration, 0, len(c.steps))
	for _, s := range c.steps {
		sum += s.by
		c.sums = append(c.sums, sum)
	}
}

// Reached makes sure that the clock is not behind a moment that it gave before a crash.
func (c *Clock) Reached(r Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r > c.run {
		c.run, c.held, c.noticed, c.grown = r, step{}, 0, 0 // what it was ahead of is noticed now
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

// Save writes the file if it is time to, or if now. That it cannot is logged: what is lost is given back by the wall clock.
func (c *Clock) Save(now bool) {
	c.fileMu.Lock()
	defer c.fileMu.Unlock()
	c.Look()
	c.mu.Lock()
	// Soon after the start, too: else a process that is killed again and again never gets any further.
	after := min(Run(saveEvery), c.saved-c.began)
	r, due := c.record, c.used && (c.dirty || c.run > c.saved && (now || c.run-c.saved >= after))
	c.dirty = c.dirty && !due
	c.mu.Unlock()
	if !due {
		return
	}
	if err := vfs.WriteFile(c.fs, c.path, r.encode()); err != nil {
		c.log.Warn("the clock cannot be saved", "file", c.path, "error", err)
		r.run = c.saved // only who saves changes it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirty = c.dirty || r.run == c.saved
	c.saved = r.run
}
