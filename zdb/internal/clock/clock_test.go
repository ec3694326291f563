package clock

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"qsfs/zdb/internal/vfs"
)

const day = 24 * time.Hour

// world has a clock on the wall, which may be wrong, and one that only runs.
type world struct {
	t    *testing.T
	fs   *vfs.Mem
	wall time.Time
	run  time.Duration
	c    *Clock
}

// newWorld begins in a wall clock that is off by so much.
func newWorld(t *testing.T, off time.Duration) *world {
	t.Helper()
	w := &world{t: t, fs: vfs.NewMem(), wall: time.Unix(1.7e9, 0).Add(off)}
	if err := w.fs.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	w.open()
	return w
}

// open is a start after a kill; stop before it, or what was not saved is lost.
func (w *world) open() {
	w.t.Helper()
	w.run = time.Duration(len(w.t.Name())) * time.Hour // the machine's running time begins anywhere
	c, err := Open(w.fs, "d/.clock", func() (time.Time, time.Duration) { return w.wall, w.run }, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.c = c
	w.c.Use()
}

// off is a stop, and a start with what the wall clock shows later then.
func (w *world) off(d time.Duration) {
	w.t.Helper()
	w.c.Save(true)
	w.wall = w.wall.Add(d)
	w.open()
}

// pass lets time pass; somebody looks now and then.
func (w *world) pass(d time.Duration) {
	for d > 0 {
		step := min(d, 10*time.Minute)
		w.wall, w.run, d = w.wall.Add(step), w.run+step, d-step
		w.c.Save(false)
	}
}

func (w *world) age(r Run) time.Duration {
	v := w.c.Look()
	return v.Age(r)
}

func (w *world) since(r Run, want, most time.Duration) {
	w.t.Helper()
	if got := w.age(r); got < want || got > most {
		w.t.Errorf("%v have passed, want %v to %v", got, want, most)
	}
}

func (w *world) now() Run { return w.c.Look().Run }

// TestForADay: a jump that is taken back changes nothing, in whichever direction, and a clock that stays behind does not either.
func TestForADay(t *testing.T) {
	for _, by := range []time.Duration{365 * day, -365 * day, 2 * time.Hour, -2 * time.Hour} {
		w := newWorld(t, 0)
		r := w.now()
		w.pass(time.Hour)
		for range 5 {
			w.wall = w.wall.Add(by)
			w.pass(22 * time.Hour)
			w.wall = w.wall.Add(-by)
			w.pass(time.Hour)
		}
		w.since(r, 116*time.Hour, 116*time.Hour)
		w.wall = w.wall.Add(-5000 * day)
		w.pass(40 * day)
		during := w.now()
		w.pass(day)
		w.wall = w.wall.Add(5000 * day)
		w.pass(10 * day)
		w.since(r, 51*day+116*time.Hour, 51*day+116*time.Hour)
		w.since(during, 11*day, 11*day)
	}
}

// TestStays: a jump that stays counts after a day, for what was a day before it, and only as much as ran since.
func TestStays(t *testing.T) {
	w := newWorld(t, 0)
	w.pass(2 * day)
	r := w.now()
	w.pass(26 * time.Hour)
	w.wall = w.wall.Add(100 * day)
	during := w.now()
	w.pass(23 * time.Hour)
	w.since(r, 49*time.Hour, 49*time.Hour)
	w.pass(3 * time.Hour)
	w.since(r, 104*time.Hour, 104*time.Hour)
	w.since(during, 26*time.Hour, 26*time.Hour)
	w.pass(120 * day)
	w.since(r, 220*day+52*time.Hour-time.Second, 220*day+52*time.Hour)
	w.since(during, 120*day+26*time.Hour, 120*day+26*time.Hour)
	// It was wrong after all: what comes now is aged by the time that passes.
	w.wall = w.wall.Add(-100 * day)
	r = w.now()
	w.pass(30 * day)
	w.since(r, 30*day, 30*day)
}

// TestPauses: the time that nobody ran counts, however short each run is.
func TestPauses(t *testing.T) {
	w := newWorld(t, 0)
	w.pass(2 * day)
	r := w.now()
	w.pass(3 * day)
	last := w.now()
	w.off(7 * day)
	w.pass(26 * time.Hour)
	w.since(r, 8*day+4*time.Hour, 8*day+4*time.Hour) // twice what ran
	w.since(last, 26*time.Hour, 26*time.Hour)
	w.pass(6 * day)
	w.since(r, 17*day+2*time.Hour-time.Second, 17*day+2*time.Hour)

	r = w.now()
	for range 30 {
		w.pass(12 * time.Hour)
		w.off(12 * time.Hour)
	}
	w.since(r, 27*day, 30*day)
	// Killed again and again, within what is saved.
	w.pass(2 * day)
	r = w.now()
	for range 2000 {
		w.pass(11 * time.Minute)
		w.wall = w.wall.Add(time.Minute)
		w.open()
	}
	w.since(r, 16*day, 17*day)
}

// TestKilledSoon: a process that is killed every minute does not hold the clock up.
func TestKilledSoon(t *testing.T) {
	for _, life := range []time.Duration{30 * time.Second, time.Minute, 9 * time.Minute} {
		w := newWorld(t, 0)
		w.pass(day)
		r := w.now()
		for n := time.Duration(0); n < 1500*life; n += life + 5*time.Second {
			for d := time.Duration(0); d < life; d += 10 * time.Second {
				w.wall, w.run = w.wall.Add(10*time.Second), w.run+10*time.Second
				w.c.Save(false)
			}
			w.wall = w.wall.Add(5 * time.Second)
			w.open()
		}
		w.since(r, 700*life, 1502*life)
	}
}

// TestDeadBattery: the clock begins in 1970, or where it stood, after a pause, and is right some time later. What came in between is not older than it is, also
// if the process is stopped meanwhile, and what was before is.
func TestDeadBattery(t *testing.T) {
	for _, begins := range []time.Duration{-20000 * day, -time.Hour, 0, 10 * time.Millisecond} { // beside where it stood at the end
		for _, restart := range []bool{false, true} {
			w := newWorld(t, 0)
			w.pass(4 * day)
			before := w.now()
			w.pass(40 * day)
			right := w.wall.Add(20 * day)
			w.off(begins)
			w.pass(time.Minute)
			during := w.now()
			w.pass(3 * time.Hour)
			w.wall = right
			if restart {
				w.off(0)
			}
			w.pass(12 * time.Hour)
			w.off(0)
			w.pass(30 * time.Hour)
			w.since(before, 61*day, 62*day)
			w.since(during, 45*time.Hour, 45*time.Hour)
		}
	}
}

// TestNewAndWrong: a clock that begins while the one on the wall is wrong makes nothing older when that is put right, and pauses count then.
func TestNewAndWrong(t *testing.T) {
	for _, by := range []time.Duration{365 * day, -19000 * day} {
		for _, restart := range []bool{false, true} {
			w := newWorld(t, by)
			r := w.now()
			w.pass(20 * time.Hour)
			if restart {
				w.off(0)
			}
			w.wall = w.wall.Add(-by)
			w.pass(5 * day)
			w.since(r, 140*time.Hour, 140*time.Hour)
			w.off(2 * day)
			w.pass(2 * day)
			w.since(r, 188*time.Hour+2*day-time.Second, 188*time.Hour+2*day)
		}
	}
}

// TestHiddenGap: while the clock on the wall is behind nobody sees a gap, and when it is right again what came behind the gap is no older.
func TestHiddenGap(t *testing.T) {
	w := newWorld(t, 0)
	w.pass(4 * day)
	before := w.now()
	w.pass(60 * day)
	right := w.wall
	w.wall = time.Unix(1000, 0)
	w.pass(time.Hour)
	w.wall = w.wall.Add(50 * day) // it sleeps
	w.pass(time.Hour)
	during := w.now()
	w.pass(time.Hour)
	w.wall = right.Add(50*day + 3*time.Hour)
	w.pass(2 * day)
	w.since(before, 112*day, 113*day)
	w.since(during, 49*time.Hour, 49*time.Hour)
}

// TestBehindForLong: a pause is hidden because the wall clock stands in 1970 for a month. What came meanwhile has its age.
func TestBehindForLong(t *testing.T) {
	w := newWorld(t, 0)
	w.pass(30 * day)
	right := w.wall.Add(400 * day)
	w.wall = time.Unix(0, 0)
	w.off(0)
	w.pass(10 * day)
	r := w.now()
	w.pass(20 * day)
	w.wall = right
	w.pass(30 * day)
	w.since(r, 50*day, 50*day)
}

// TestSetBackWhileItWaits: a gap that waits to be believed, a wall clock that is set back by less, and a start.
func TestSetBackWhileItWaits(t *testing.T) {
	w := newWorld(t, 0)
	w.pass(3 * day)
	w.off(10 * day)
	w.pass(5 * time.Hour)
	r := w.now()
	w.wall = w.wall.Add(-20 * time.Hour)
	w.pass(6 * time.Hour)
	w.off(0)
	w.pass(3 * time.Hour)
	w.wall = w.wall.Add(20 * time.Hour)
	w.pass(3 * day)
	w.since(r, 81*time.Hour, 81*time.Hour)
}

// TestManyGaps: where there are more gaps than are remembered what lies between them is not taken for older than it is, nor for much younger.
func TestManyGaps(t *testing.T) {
	w := newWorld(t, 0)
	w.pass(2 * day)
	var runs []Run
	var walls []time.Time
	for range maxHighs + 300 {
		w.wall = w.wall.Add(20 * time.Minute)
		w.pass(time.Hour)
		runs, walls = append(runs, w.now()), append(walls, w.wall)
	}
	w.pass(2 * day)
	if n := len(w.c.highs); n != maxHighs {
		t.Errorf("%d are remembered", n)
	}
	for i, r := range runs {
		most := w.wall.Sub(walls[i])
		least := most - 10*time.Hour
		if i > maxHighs+200 {
			least = 0
		}
		if age := w.age(r); age > most || age < least {
			t.Fatalf("%d: %v old, it is %v", i, age, most)
		}
	}
	v := w.c.Look()
	w.off(0)
	for _, r := range runs {
		if got := w.age(r); got != v.Age(r) {
			t.Fatalf("%v became %v", v.Age(r), got)
		}
	}
}

// TestLives: what was put back from another day is seen, and a loop of crashes makes only its own lives forgotten.
func TestLives(t *testing.T) {
	w := newWorld(t, 0)
	read := func() []byte {
		p, err := vfs.ReadFile(w.fs, "d/.clock", maxFile)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	put := func(p []byte) {
		if err := vfs.WriteFile(w.fs, "d/.clock", p); err != nil {
			t.Fatal(err)
		}
		w.open()
	}
	knows := func(id ID, want Run) {
		t.Helper()
		if end, ok := w.c.End(id); ok != (want >= 0) || ok && end != want {
			t.Errorf("it is known up to %v, %v, want %v", end, ok, want)
		}
	}
	w.pass(time.Hour)
	first, early := w.c.ID(), read()
	atEarly := w.now()
	w.pass(5 * time.Hour)
	w.off(0)
	late := read() // the second life's
	second, atLate := w.c.ID(), w.now()
	knows(first, atLate)
	knows(second, atLate)
	put(early)
	branch := w.c.ID()
	knows(first, atEarly)
	knows(second, -1)
	w.pass(time.Hour)
	put(late)
	knows(first, atLate)
	knows(second, atLate)
	knows(branch, -1)
	var lost []ID
	for range 2 * maxLives {
		lost = append(lost, w.c.ID())
		w.open()
	}
	w.pass(time.Hour)
	knows(first, atLate)
	knows(lost[0], -1)
	if n := len(w.c.past); n != maxLives {
		t.Errorf("%d lives", n)
	}
}

// TestManyLives: however many starts there were, and however long the lives before: the newest lives are known.
func TestManyLives(t *testing.T) {
	w := newWorld(t, 0)
	var ids []ID
	for i := range 3 * maxLives {
		ids = append(ids, w.c.ID())
		d := 10*time.Minute - time.Duration(i%8)*time.Minute
		w.wall, w.run = w.wall.Add(d), w.run+d
		w.off(0)
		for n := range min(i, 3) {
			if _, ok := w.c.End(ids[i-n]); !ok {
				t.Fatalf("after %d starts the life %d before is not known", i+1, n+1)
			}
		}
	}
}

// TestBeginsIn1970: a clock on the wall that stands in 1970 for the first days, as that of a machine without battery and network, makes nothing older when it is right.
func TestBeginsIn1970(t *testing.T) {
	w := newWorld(t, -19600*day)
	r := w.now()
	w.pass(3 * day)
	w.wall = w.wall.Add(19600 * day)
	w.pass(5 * day)
	w.since(r, 8*day, 8*day)
	w.off(2 * day)
	w.pass(3 * day)
	w.since(r, 13*day-time.Second, 13*day)
}

// TestUnreadable: a clock's file that is damaged or cannot be read is set aside, another one begins, and nothing is refused.
func TestUnreadable(t *testing.T) {
	for _, op := range []string{"Open", "ReadAt", "damage", "length"} {
		w := newWorld(t, 0)
		w.pass(time.Hour)
		before, r := w.c.ID(), w.now()
		w.c.Save(true)
		p, err := vfs.ReadFile(w.fs, "d/.clock", maxFile)
		if err != nil {
			t.Fatal(err)
		}
		h := &vfs.Hook{FS: w.fs, Before: func(c vfs.Call) error {
			if c.Name == ".clock" && c.Op == op {
				return errors.New("bad sector")
			}
			return nil
		}}
		switch op {
		case "damage":
			p[len(p)/2] ^= 1
		case "length":
			p = append(p, make([]byte, maxFile)...)
		}
		if err := vfs.WriteFile(w.fs, "d/.clock", p); err != nil {
			t.Fatal(err)
		}
		c, err := Open(h, "d/.clock", func() (time.Time, time.Duration) { return w.wall, w.run }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		if _, ok := c.End(before); ok {
			t.Errorf("%s: the clock goes on", op)
		}
		aside, err := vfs.ReadFile(w.fs, "d/.clock.bad", 1<<20)
		if err != nil || len(aside) != len(p) {
			t.Errorf("%s: %d bytes are set aside, %v", op, len(aside), err)
		}
		c.Use()
		w.open()
		if _, ok := w.c.End(c.ID()); !ok || w.now() >= r {
			t.Errorf("%s: the new one does not go on", op)
		}
	}
}
