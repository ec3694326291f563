package clock

import (
	"bytes"
	"log/slog"
	"os"
	"reflect"
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

func newWorld(t *testing.T) *world {
	w := &world{t: t, fs: vfs.NewMem(), wall: time.Unix(1.7e9, 0)}
	if err := w.fs.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.c.Use()
	return w
}

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

// pass lets time pass; somebody looks now and then.
func (w *world) pass(d time.Duration) {
	for step := max(d/50, time.Second); d > 0; d -= step {
		step = min(step, d)
		w.wall, w.run = w.wall.Add(step), w.run+step
		w.c.Save(false)
	}
}

func (w *world) since(r Run, want, most time.Duration) {
	w.t.Helper()
	v := w.c.Look()
	if got := v.Now() - v.Time(r); got < want || got > most {
		w.t.Errorf("%v have passed, want %v to %v", got, want, most)
	}
}

// TestForADay: a jump that is taken back changes nothing.
func TestForADay(t *testing.T) {
	w := newWorld(t)
	r := w.c.Look().Run
	w.pass(time.Hour)
	for range 5 {
		w.wall = w.wall.Add(365 * day)
		w.pass(20 * time.Hour)
		w.wall = w.wall.Add(-365 * day)
		w.pass(time.Hour)
	}
	w.since(r, 106*time.Hour, 106*time.Hour)
	w.wall = w.wall.Add(-5000 * day)
	w.pass(day)
	w.since(r, 130*time.Hour, 130*time.Hour)
}

// TestStays: a jump that stays counts after a day, for what was before it only.
func TestStays(t *testing.T) {
	w := newWorld(t)
	w.pass(day) // after a start it would count as a pause before that
	r := w.c.Look().Run
	w.pass(time.Hour)
	w.wall = w.wall.Add(100 * day)
	during := w.c.Look().Run
	w.pass(23 * time.Hour)
	w.since(r, day, day)
	after := w.c.Look().Run
	w.pass(2 * time.Hour)
	w.since(r, 100*day+26*time.Hour, 100*day+26*time.Hour)
	w.since(during, 25*time.Hour, 100*day+25*time.Hour)
	w.since(after, 2*time.Hour, 2*time.Hour)
	// It was wrong after all: what comes now is aged by the time that passes.
	w.wall = w.wall.Add(-100 * day)
	r = w.c.Look().Run
	w.pass(30 * day)
	w.since(r, 30*day, 30*day)
}

// TestPauses: the time that nobody ran counts soon, however short each run is.
func TestPauses(t *testing.T) {
	w := newWorld(t)
	w.pass(day) // in its first day it may have been wrong
	r := w.c.Look().Run
	w.pass(time.Minute)
	w.c.Save(true)
	w.wall = w.wall.Add(200 * day)
	w.open()
	w.pass(20 * time.Hour)
	w.since(r, 20*time.Hour, 21*time.Hour)
	w.pass(5 * time.Hour)
	w.since(r, 201*day, 202*day)

	r = w.c.Look().Run
	for range 30 {
		w.pass(8 * time.Hour)
		w.c.Save(true)
		w.wall = w.wall.Add(16 * time.Hour)
		w.open()
	}
	w.since(r, 26*day, 30*day)
	// Killed again and again, within what is saved.
	r = w.c.Look().Run
	for range 2000 {
		w.pass(11 * time.Minute)
		w.wall = w.wall.Add(time.Minute)
		w.open()
	}
	w.since(r, 16*day, 20*day)
}

// TestDeadBattery: the clock begins in 1970 and is right a minute later.
func TestDeadBattery(t *testing.T) {
	w := newWorld(t)
	r := w.c.Look().Run
	w.pass(day)
	w.c.Save(true)
	right := w.wall
	w.wall = time.Unix(0, 0)
	w.open()
	during := w.c.Look().Run
	w.pass(time.Minute)
	w.wall = right.Add(time.Hour)
	w.pass(time.Minute)
	w.since(during, 2*time.Minute, 2*time.Minute)
	w.pass(2 * time.Hour)
	w.since(r, 27*time.Hour, 28*time.Hour)
	w.since(during, 2*time.Hour, 3*time.Hour+time.Minute)

	// A new one there: it goes on from 1970, and does not take what came since for old.
	w = newWorld(t)
	w.fs = vfs.NewMem()
	if err := w.fs.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	w.wall = time.Unix(0, 0)
	w.open()
	r = w.c.Look().Run
	w.wall = right
	w.pass(2 * time.Hour)
	w.since(r, 2*time.Hour, 2*time.Hour)
}

// TestKilledSoon: a process that is killed every minute does not hold the clock up.
func TestKilledSoon(t *testing.T) {
	for _, life := range []time.Duration{30 * time.Second, time.Minute, 9 * time.Minute} {
		w := newWorld(t)
		w.pass(day)
		r := w.c.Look().Run
		for n := time.Duration(0); n < 1500*life; n += life + 5*time.Second {
			for d := time.Duration(0); d < life; d += 10 * time.Second {
				w.wall, w.run = w.wall.Add(10*time.Second), w.run+10*time.Second
				w.c.Save(false)
			}
			w.wall = w.wall.Add(5 * time.Second)
			w.open()
		}
		w.since(r, 1490*life, 1502*life)
	}
}

// TestManySteps: what was before more gaps than are remembered is as old as it is, and what lies between them not older.
func TestManySteps(t *testing.T) {
	w := newWorld(t)
	w.pass(day)
	first, began := w.c.Look().Run, w.wall
	var runs []Run
	var walls []time.Time
	for range maxSteps + 2000 {
		w.wall = w.wall.Add(2 * time.Second)
		w.pass(4 * time.Second)
		runs, walls = append(runs, w.c.Look().Run), append(walls, w.wall)
	}
	w.since(first, w.wall.Sub(began)-time.Minute, w.wall.Sub(began))
	v := w.c.Look()
	for i, r := range runs {
		if age, most := v.Now()-v.Time(r), w.wall.Sub(walls[i]); age > most || age < most-time.Minute {
			t.Fatalf("%d: %v old, it is %v", i, age, most)
		}
	}
}

// TestTwoPauses: what was written between two gaps has the age of the second one, also if nobody has believed the first one by then.
func TestTwoPauses(t *testing.T) {
	w := newWorld(t)
	w.pass(2 * day)
	sleep := func(d time.Duration) { w.wall = w.wall.Add(d) }
	sleep(20 * time.Hour)
	w.pass(time.Hour)
	between := w.c.Look().Run
	w.pass(time.Hour)
	sleep(100 * day)
	w.pass(time.Hour)
	after := w.c.Look().Run
	sleep(10 * day)
	w.pass(time.Hour)
	last := w.c.Look().Run
	w.pass(70 * time.Hour)
	w.since(between, 113*day, 113*day+2*time.Hour)
	w.since(after, 71*time.Hour, 13*day)
	w.since(last, 70*time.Hour, 70*time.Hour)
}

// TestWrongAfterPause: a pause of which the clock on the wall knows only some time after the start does not make older what came in between.
func TestWrongAfterPause(t *testing.T) {
	for _, begins := range []time.Duration{-20000 * day, -time.Hour, 0, 10 * time.Millisecond} { // beside where it stood at the end
		w := newWorld(t)
		w.pass(40 * day)
		before := w.c.Look().Run
		w.pass(time.Second)
		w.c.Save(true)
		right := w.wall.Add(100 * day)
		w.wall = w.wall.Add(begins)
		w.open()
		w.pass(time.Minute)
		during := w.c.Look().Run
		w.pass(3 * time.Hour)
		w.wall = right
		w.pass(12 * time.Hour)
		w.c.Save(true)
		w.open()
		w.pass(11 * time.Hour)
		w.since(before, day, 27*time.Hour)
		w.pass(2 * time.Hour)
		w.since(before, 101*day-3*time.Hour, 102*day)
		w.since(during, 25*time.Hour, 29*time.Hour)
	}
}

// TestNewAndWrong: a clock that begins while the one on the wall is wrong becomes right with it.
func TestNewAndWrong(t *testing.T) {
	for _, by := range []time.Duration{365 * day, -20000 * day} {
		w := newWorld(t)
		right := w.wall
		w.fs = vfs.NewMem()
		if err := w.fs.MkdirAll("d"); err != nil {
			t.Fatal(err)
		}
		w.wall = right.Add(by)
		w.open()
		r := w.c.Look().Run
		w.pass(time.Minute)
		w.wall = right.Add(time.Minute)
		w.pass(3 * day)
		w.since(r, 3*day, 3*day+time.Hour)
		v := w.c.Look()
		if d := v.Now() - time.Duration(w.wall.UnixNano()); d.Abs() > time.Minute {
			t.Errorf("it is %v ahead of the wall", d)
		}
		// A pause counts.
		w.c.Save(true)
		w.wall = w.wall.Add(50 * day)
		w.open()
		w.pass(2 * day)
		w.since(r, 55*day, 56*day)
	}
}

// TestNewAndSetBack: a new clock does not follow the wall for good where that is wrong for less than a day.
func TestNewAndSetBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t)
		w.pass(time.Hour)
		r, right := w.c.Look().Run, w.wall
		w.pass(19 * time.Hour)
		w.wall = time.Unix(1000, 0)
		w.pass(2 * time.Hour)
		if restart {
			w.c.Save(true)
			w.open()
		}
		w.pass(8 * time.Hour)
		during := w.c.Look().Run
		w.wall = right.Add(29 * time.Hour)
		w.pass(3 * day)
		w.since(during, 3*day, 3*day)
		w.since(r, 101*time.Hour, 101*time.Hour)
	}
}

// TestHiddenGap: while the clock on the wall is behind nobody sees a gap, and when it is right again what came behind the gap is no older.
func TestHiddenGap(t *testing.T) {
	w := newWorld(t)
	w.pass(5 * day)
	before := w.c.Look().Run
	w.pass(time.Hour)
	right := w.wall
	w.wall = time.Unix(1000, 0)
	w.pass(time.Hour)
	w.wall = w.wall.Add(50 * day) // it sleeps
	w.pass(time.Hour)
	during := w.c.Look().Run
	w.pass(time.Hour)
	w.wall = right.Add(50*day + 3*time.Hour)
	w.pass(2 * day)
	w.since(before, 52*day, 53*day)
	w.since(during, 2*day, 2*day+2*time.Hour)
}

// TestNewWrongAndKilled: a new clock begins in 1970, and is stopped before the one on the wall is put right.
func TestNewWrongAndKilled(t *testing.T) {
	w := newWorld(t)
	w.fs = vfs.NewMem()
	if err := w.fs.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	right := w.wall
	w.wall = time.Unix(1000, 0)
	w.open()
	w.pass(time.Minute)
	r := w.c.Look().Run
	w.pass(time.Minute)
	w.c.Save(true)
	w.open()
	w.pass(time.Minute)
	w.wall = right
	w.pass(2 * day)
	w.since(r, 2*day, 3*day)
}

// TestFile: what is read is what was written, damage is another clock, and slow drifting adds few steps.
func TestFile(t *testing.T) {
	w := newWorld(t)
	r := w.c.Look().Run
	for range maxSteps + 100 {
		w.wall = w.wall.Add(2 * time.Second)
		w.pass(3 * time.Second)
	}
	before := w.c.ID()
	w.c.Save(true)
	v := w.c.Look()
	w.open()
	if got := w.c.Look(); w.c.ID() != before || len(v.steps) != maxSteps || got.Now() != v.Now() || got.Time(r) != v.Time(r) {
		t.Errorf("another one: %v steps, %v, %v", len(v.steps), got.Now()-v.Now(), got.Time(r)-v.Time(r))
	}
	p, err := vfs.ReadFile(w.fs, "d/.clock", maxFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 8, 12, 20, 33, 41, 50, 60, 64, 200, len(p) - 1} {
		q := append([]byte(nil), p...)
		q[i] ^= 1
		if _, err := parse(q); err == nil {
			t.Errorf("byte %d may be anything", i)
		}
	}
	if err := vfs.WriteFile(w.fs, "d/.clock", p[:len(p)-1]); err != nil {
		t.Fatal(err)
	}
	if w.open(); w.c.ID() == before {
		t.Error("a torn file is used")
	}
}

// TestKept reads files of all versions of the format.
func TestKept(t *testing.T) {
	want := record{
		id: [16]byte{1, 2, 3}, run: 1e18 + 100, base: 5, held: step{1e18 + 90, 3}, noticed: 1e18 + 90, born: 1e18 + 100,
		steps: []step{{1e18 + 10, 1}, {1e18 + 20, 2}},
	}
	for i, name := range []string{"testdata/clock-v1", "testdata/clock-v2"} {
		if i > 0 {
			want.noticed, want.grown, want.born = 1e18+95, 1e18+93, 1e18+1
		}
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := parse(p)
		if err != nil || !reflect.DeepEqual(r, want) || i > 0 && !bytes.Equal(r.encode(), p) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// FuzzParse: no bytes do harm, and what is read is written the same.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"testdata/clock-v1", "testdata/clock-v2"} {
		p, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parse(p)
		if err != nil {
			return
		}
		q, err := parse(r.encode())
		if err != nil || q.run != r.run || len(q.steps) != len(r.steps) {
			t.Errorf("%+v became %+v, %v", r, q, err)
		}
	})
}
