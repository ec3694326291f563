package clock

import (
	"errors"
	"testing"
	"time"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// book is a log and its marks: who wrote which sequence is a function.
type book struct {
	*world
	m       *Marks
	end     segfile.Seq
	writers map[segfile.Seq]uint64 // from a sequence on
}

func newBook(t *testing.T) *book {
	b := &book{world: newWorld(t, 0), writers: map[segfile.Seq]uint64{1: 1}}
	b.reopen()
	return b
}

func (b *book) reopen() {
	b.open()
	b.m = b.c.OpenMarks("d/ages", b.end, b.writer)
}

func (b *book) writer(seq segfile.Seq) (w uint64) {
	best := segfile.Seq(0)
	for first, who := range b.writers {
		if first <= seq && first >= best {
			best, w = first, who
		}
	}
	return w
}

func (b *book) ages(keep time.Duration) Ages {
	return b.m.Note(keep, func() segfile.Seq { return b.end }, b.writer)
}

// write writes n entries, an hour apart.
func (b *book) write(n int) {
	for range n {
		b.end++
		b.ages(30 * day)
		b.pass(time.Hour)
	}
}

func (b *book) file(name string) []byte {
	b.t.Helper()
	p, err := vfs.ReadFile(b.fs, "d/"+name, maxFile+maxMarksFile)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *book) put(name string, p []byte) {
	b.t.Helper()
	if err := vfs.WriteFile(b.fs, "d/"+name, p); err != nil {
		b.t.Fatal(err)
	}
}

func (b *book) want(seq segfile.Seq, want time.Duration) {
	b.t.Helper()
	a := b.ages(30 * day)
	if got := a.Of(seq); got != want {
		b.t.Errorf("%d is %v old, want %v", seq, got, want)
	}
}

// TestMarksOverManyLives: what is kept for a month goes then, also where the server has started very often, and starts again every hour.
func TestMarksOverManyLives(t *testing.T) {
	b := newBook(t)
	for i := range 2*maxLives + 720 {
		if i == 2*maxLives {
			b.end++
		}
		b.ages(30 * day)
		d := time.Hour - time.Duration(i%8)*time.Minute
		b.wall, b.run = b.wall.Add(d), b.run+d
		b.m.Save(true)
		b.c.Save(true)
		b.reopen()
	}
	a := b.ages(30 * day)
	if got := a.Of(b.end); got < 26*day {
		t.Errorf("it is %v old", got)
	}
}

// TestMarksFew: marks are few, and of what is too old one is left.
func TestMarksFew(t *testing.T) {
	b := newBook(t)
	for range 40 * 24 * 6 {
		b.end++
		b.ages(10 * day)
		b.pass(10 * time.Minute)
	}
	if n := len(b.m.list); n < 700 || n > 740 {
		t.Errorf("%d marks", n)
	}
	a := b.ages(10 * day)
	if got := a.Of(1); got < 10*day {
		t.Errorf("the first is %v old", got)
	}
	for seq := b.end - 1300; seq <= b.end; seq++ {
		is := time.Duration(b.end+1-seq) * 10 * time.Minute
		if got := a.Of(seq); got > is || is-got > 20*time.Minute {
			t.Fatalf("%d is %v old, want %v", seq, got, is)
		}
	}
	if got := a.Of(b.end + 1); got != 0 {
		t.Errorf("what comes is %v old", got)
	}
}

// TestMarksThinned: where there are too many marks every other one goes.
func TestMarksThinned(t *testing.T) {
	b := newBook(t)
	b.ages(10000 * time.Hour)
	first := b.m.list[0]
	b.m.list = nil
	for i := range maxMarks {
		b.m.list = append(b.m.list, mark{segfile.Seq(i), first.run + Run(i), 1})
	}
	first, b.end = b.m.list[0], maxMarks
	b.pass(11 * time.Hour)
	b.ages(10000 * time.Hour)
	if got := len(b.m.list); got > maxMarks/2+1 || b.m.list[0] != first {
		t.Errorf("%d marks, the first is %v", got, b.m.list[0])
	}
}

// TestMarksLast: they go on over stops, and kills.
func TestMarksLast(t *testing.T) {
	b := newBook(t)
	b.write(20)
	for range 10 {
		b.m.Save(true)
		b.reopen()
		b.want(5, 16*time.Hour)
		b.want(20, time.Hour)
	}
	b.write(5)
	b.reopen() // killed: since the first mark of this life nothing was saved but the clock
	if age := b.age(b.m.list[0].run); age < 24*time.Hour || age > 25*time.Hour {
		t.Errorf("the first is %v old", age)
	}
	b.want(25, 0)
}

// TestClockPutBack: beside a clock of an earlier day, marks are of no use where they are of later ones. Then ages go on, and none jumps.
func TestClockPutBack(t *testing.T) {
	b := newBook(t)
	b.write(20)
	b.m.Save(true)
	early := b.file(".clock")
	b.write(20)
	b.m.Save(true)
	late := b.file(".clock")
	b.put(".clock", early)
	b.reopen()
	b.want(1, 20*time.Hour) // of 40
	b.want(30, 0)
	b.write(10)
	b.want(1, 30*time.Hour)
	b.want(30, 9*time.Hour) // the next mark came with the next write but one
	b.m.Save(true)
	b.put(".clock", late) // of another life than the marks
	b.reopen()
	b.want(1, 0)
	b.want(50, 0)
	b.pass(3 * day)
	b.want(1, 3*day)
	b.want(50, 3*day)
}

// TestMarksPutBack: marks of an earlier day say nothing of what came later, nor do those of a later day of what was written instead.
func TestMarksPutBack(t *testing.T) {
	b := newBook(t)
	b.write(20)
	b.m.Save(true)
	early := b.file("ages")
	b.write(20)
	b.m.Save(true)
	late := b.file("ages")
	b.put("ages", early)
	b.reopen()
	b.want(1, 40*time.Hour)
	b.want(20, 21*time.Hour)
	b.want(21, 0)

	b.put("ages", late)
	b.end = 25 // the log, too, is of an earlier day
	b.reopen()
	b.want(25, 16*time.Hour)
	b.writers[26] = 2
	b.write(5)
	b.m.Save(true)
	b.write(15)
	b.put("ages", late) // of 26 to 40 that somebody else wrote
	b.reopen()
	b.want(25, 36*time.Hour)
	b.want(26, 0)
	b.want(40, 0)
}

// TestMarksUnreadable: marks that are damaged or cannot be read are set aside, and nothing is refused.
func TestMarksUnreadable(t *testing.T) {
	for _, op := range []string{"Open", "ReadAt", "damage"} {
		b := newBook(t)
		b.write(20)
		b.m.Save(true)
		p := b.file("ages")
		if op == "damage" {
			p[50] ^= 1
			b.put("ages", p)
		}
		h := &vfs.Hook{FS: b.fs, Before: func(c vfs.Call) error {
			if c.Name == "ages" && c.Op == op {
				return errors.New("bad sector")
			}
			return nil
		}}
		b.c.fs = h
		b.m = b.c.OpenMarks("d/ages", b.end, b.writer)
		b.want(20, 0)
		b.want(1, 0)
		if got := b.file("ages.bad"); string(got) != string(p) {
			t.Errorf("%s: something else is set aside", op)
		}
		b.pass(time.Hour)
		b.m.Save(true)
		b.reopen()
		b.want(1, time.Hour)
	}
}

// TestClockNotSaved: marks of a life that no file knows are not saved.
func TestClockNotSaved(t *testing.T) {
	b := newBook(t)
	b.write(20)
	b.m.Save(true)
	before := b.file("ages")
	h := &vfs.Hook{FS: b.fs, Before: func(c vfs.Call) error {
		if c.Name == ".clock" && c.Op == "Rename" {
			return errors.New("no space")
		}
		return nil
	}}
	c, err := Open(h, "d/.clock", b.c.now, b.c.log)
	if err != nil {
		t.Fatal(err)
	}
	b.c, b.m = c, c.OpenMarks("d/ages", b.end, b.writer)
	b.write(5)
	b.m.Save(true)
	if string(b.file("ages")) != string(before) {
		t.Error("they are")
	}
	h.Before = nil
	b.m.Save(true)
	if string(b.file("ages")) == string(before) {
		t.Error("nor are they later")
	}
}
