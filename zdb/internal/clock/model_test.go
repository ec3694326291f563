package clock

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// entry is what somebody wrote, and when that really was.
type entry struct {
	writer uint64
	at     time.Duration
}

// moment is one that somebody noted elsewhere.
type moment struct {
	id  ID
	run Run
	at  time.Duration
}

// model is a machine with a wall clock that may be wrong, a log of which entry i has the sequence i, and somebody who puts back files of other days.
type model struct {
	rng *rand.Rand
	mem *vfs.Mem
	fs  *vfs.Hook
	// real is the time that it is, off what the wall clock is ahead of it, mono the machine's running time.
	real, off, mono time.Duration
	c               *Clock
	m               *Marks
	writer          uint64
	log             []entry
	moments         []moment
	files           map[string][][]byte // copies
	logs            [][]entry
	trace           []string

	// tame is whether the wall clock is never wrong for a day of running; wrong and right are for how long it is.
	tame         bool
	wrong, right time.Duration
}

const modelKeep = 60 * day

var modelEpoch = time.Unix(1.7e9, 0)

func (w *model) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%v (run %v, wall off by %v): ", w.real, time.Duration(w.c.run), w.off)+fmt.Sprintf(format, args...))
}

func (w *model) open() error {
	w.mono = time.Duration(w.rng.IntN(1000)) * time.Hour
	w.fs = &vfs.Hook{FS: w.mem}
	if w.rng.IntN(30) == 0 {
		bad := []string{".clock", "ages"}[w.rng.IntN(2)]
		w.fs.Before = func(c vfs.Call) error {
			if c.Name == bad && (c.Op == "ReadAt" || c.Op == "Open") {
				return errors.New("bad sector")
			}
			return nil
		}
	}
	var err error
	w.c, err = Open(w.fs, "d/.clock", func() (time.Time, time.Duration) { return modelEpoch.Add(w.real + w.off), w.mono }, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	w.m = w.c.OpenMarks("d/ages", w.end(), w.writerOf)
	w.fs.Before = nil
	w.writer = w.rng.Uint64() | 1
	return nil
}

func (w *model) end() segfile.Seq { return segfile.Seq(len(w.log)) }

func (w *model) writerOf(seq segfile.Seq) uint64 {
	if seq == 0 {
		return 0
	}
	return w.log[seq-1].writer
}

// put sets the wall clock, which a tame one does not always let happen.
func (w *model) put(off time.Duration) {
	if off != 0 && w.tame && w.off == 0 && w.right < time.Hour {
		off = 0
	}
	if off == 0 && w.off != 0 {
		w.wrong, w.right = 0, 0
	}
	if w.off = off; off != 0 {
		w.right = 0
	}
}

// anyhow is something that a wall clock may show after a gap.
func (w *model) anyhow(gap time.Duration) time.Duration {
	switch w.rng.IntN(6) {
	case 0:
		return w.off - gap // it goes on where it stood
	case 1:
		return time.Duration(w.rng.IntN(1000))*time.Second - modelEpoch.Sub(time.Unix(0, 0)) - w.real
	case 2:
		return time.Duration(w.rng.IntN(4000)-2000) * time.Hour
	case 3:
		return time.Duration(w.rng.IntN(4000)-2000) * time.Second
	case 4:
		return w.off
	}
	return 0
}

func (w *model) gap() time.Duration {
	d := time.Duration(w.rng.IntN(30*60)) * time.Minute
	if w.rng.IntN(6) == 0 {
		d *= 60
	}
	return d
}

// pass lets a process run.
func (w *model) pass(d time.Duration) error {
	for d > 0 {
		step := time.Duration(1+w.rng.IntN(600)) * time.Second
		d, w.real, w.mono = d-step, w.real+step, w.mono+step
		if w.off == 0 {
			w.right += step
		} else if w.wrong += step; w.tame && w.wrong > 23*time.Hour {
			w.put(0)
		}
		w.c.Save(false)
		for range w.rng.IntN(3) {
			w.log = append(w.log, entry{w.writer, w.real})
		}
		if w.rng.IntN(20) == 0 {
			w.moments = append(w.moments, moment{w.c.ID(), w.c.Look().Run, w.real})
		}
		if w.rng.IntN(10) == 0 {
			w.m.Save(w.rng.IntN(3) == 0)
		}
		if err := w.check(); err != nil {
			return err
		}
	}
	return nil
}

func (w *model) check() error {
	a := w.m.Note(modelKeep, w.end, w.writerOf)
	judge := func(what string, got, at time.Duration) error {
		most := w.real - at
		if !w.tame {
			most *= 2
		}
		if got > most {
			return fmt.Errorf("%s is taken for %v old, it is %v", what, got, w.real-at)
		}
		return nil
	}
	for range 4 {
		if len(w.log) > 0 {
			i := w.rng.IntN(len(w.log))
			if err := judge(fmt.Sprint("entry ", i+1), a.Of(segfile.Seq(i+1)), w.log[i].at); err != nil {
				return err
			}
		}
		if len(w.moments) > 0 {
			m := w.moments[w.rng.IntN(len(w.moments))]
			if end, ok := w.c.End(m.id); ok && m.run <= end {
				v := w.c.Look()
				if err := judge("a moment", v.Age(m.run), m.at); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// die ends a process: it stops, or is killed, perhaps between any two writes, perhaps with the machine.
func (w *model) die() {
	left := 1000
	if w.rng.IntN(2) == 0 {
		left = w.rng.IntN(16)
	}
	w.note("ends after %d calls", left)
	w.fs.Before = func(vfs.Call) error {
		if left--; left < 0 {
			return errors.New("gone")
		}
		return nil
	}
	if w.rng.IntN(2) == 0 {
		w.m.Save(true)
	}
	w.c.Save(true)
	if w.rng.IntN(2) == 0 {
		w.mem = w.mem.KillClone()
	} else {
		w.mem = w.mem.CrashClone(w.rng)
	}
}

// putBack puts files of other days in place.
func (w *model) putBack() error {
	for _, name := range []string{".clock", "ages"} {
		old := w.files[name]
		if len(old) == 0 || w.rng.IntN(2) == 0 {
			continue
		}
		i := w.rng.IntN(len(old))
		w.note("%s of copy %d", name, i)
		if err := vfs.WriteFile(w.mem, "d/"+name, old[i]); err != nil {
			return err
		}
		if name == ".clock" && w.tame {
			// A clock that was wrong when the copy was made may not be so again at once: to who only sees the copy that would be one long time.
			w.right = 0
			w.put(0)
		}
	}
	if len(w.logs) > 0 && w.rng.IntN(3) == 0 {
		i := w.rng.IntN(len(w.logs))
		w.log = slices.Clone(w.logs[i])
		w.note("log of copy %d, %d entries", i, len(w.log))
	}
	return nil
}

func (w *model) copyAll() error {
	w.note("copy %d", len(w.logs))
	w.logs = append(w.logs, slices.Clone(w.log))
	for _, name := range []string{".clock", "ages"} {
		p, err := vfs.ReadFile(w.mem, "d/"+name, maxFile+maxMarksFile)
		if errors.Is(err, vfs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		w.files[name] = append(w.files[name], p)
	}
	return nil
}

func (w *model) event() error {
	gap := w.gap()
	switch w.rng.IntN(10) {
	case 0:
		w.note("sleeps for %v", gap)
		w.real += gap
	case 1:
		w.note("stands still for %v, and nobody in it knows", gap)
		w.real += gap
		w.put(w.off - gap)
	case 2, 3:
		w.put(w.anyhow(0))
	case 4:
		w.put(0)
	case 5:
		return w.copyAll()
	case 6:
		w.die()
		if w.rng.IntN(2) == 0 {
			w.real += gap
			w.put(w.anyhow(gap))
		}
		if err := w.putBack(); err != nil {
			return err
		}
		return w.open()
	default:
		w.die()
		w.real += gap
		w.put(w.anyhow(gap))
		return w.open()
	}
	return nil
}

// settle is what an ordinary server does after all that: it runs, is off for a few days, and runs. All of it counts.
func (w *model) settle() error {
	w.put(0)
	if err := w.pass(2 * day); err != nil {
		return err
	}
	w.log = append(w.log, entry{w.writer, w.real})
	i := len(w.log)
	if err := w.pass(3 * day); err != nil {
		return err
	}
	w.m.Save(true)
	w.c.Save(true)
	w.real += 4 * day
	if err := w.open(); err != nil {
		return err
	}
	if w.c.past == nil || len(w.m.list) == 0 {
		return nil // a bad sector
	}
	if err := w.pass(3 * day); err != nil {
		return err
	}
	a := w.m.Note(modelKeep, w.end, w.writerOf)
	got, is := a.Of(segfile.Seq(i)), w.real-w.log[i-1].at
	if is-got > modelKeep/marksShare+time.Hour {
		return fmt.Errorf("entry %d is taken for %v old in the end, it is %v", i, got, is)
	}
	return nil
}

func runModel(seed uint64, tame bool) (*model, error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &model{rng: rng, mem: vfs.NewMem(), tame: tame, right: day, files: map[string][][]byte{}}
	err := w.mem.MkdirAll("d")
	if w.put(w.anyhow(0)); err == nil {
		err = w.open()
	}
	for range 60 + rng.IntN(100) {
		if err == nil {
			err = w.pass(time.Duration(1+rng.IntN(12*60)) * time.Minute)
		}
		if err == nil {
			err = w.event()
		}
		if err == nil {
			err = w.check()
		}
	}
	if err == nil && tame {
		err = w.settle()
	}
	return w, err
}

// TestModel: whatever sleeps, stops, is killed between two writes, is damaged or put back from another day, and however wrong the wall clock is for less
// than a day of running: nothing is taken for older than it is. However long it is wrong, not for twice as old. QSFS_CLOCK_SEEDS is how many machines there are,
// QSFS_CLOCK_SEED the first one.
func TestModel(t *testing.T) {
	seeds, first := uint64(30), uint64(0)
	for name, v := range map[string]*uint64{"QSFS_CLOCK_SEEDS": &seeds, "QSFS_CLOCK_SEED": &first} {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			*v = n
		}
	}
	for seed := first; seed < first+seeds; seed++ {
		for _, tame := range []bool{true, false} {
			if w, err := runModel(seed, tame); err != nil {
				for _, line := range w.trace {
					t.Log(line)
				}
				t.Fatalf("seed %d, tame %v: %v", seed, tame, err)
			}
		}
	}
}
