package zdb

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"qsfs/zdb/internal/clock"
	"qsfs/zdb/internal/vfs"
)

// worldClock is the machine's clock of a rig: one on the wall, which may be wrong, and one that runs.
type worldClock struct {
	mu   sync.Mutex
	wall time.Time
	run  time.Duration
}

func (w *worldClock) now() (time.Time, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wall, w.run
}

func (w *worldClock) pass(wall, run time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wall, w.run = w.wall.Add(wall), w.run+run
}

func (w *worldClock) set(wall time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wall = wall
}

// TestWrongClock: what retention keeps for a time goes by the time that passes, whatever the clock on the wall says.
func TestWrongClock(t *testing.T) {
	const day = 24 * time.Hour
	r := newRig(t)
	w := &worldClock{wall: time.Now()}
	r.o.clock = w.now
	r.ns.Retention = &Retention{KeepFor: 30 * day}
	n := r.open()
	pass := func(d time.Duration) {
		for step := d / 30; d > 0; d -= step {
			w.pass(step, step)
			n.policy()
		}
	}
	kept := func(when, key string, want int) {
		t.Helper()
		if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
			t.Fatal(err)
		}
		list, err := n.History(t.Context(), []byte(key), 0, 100)
		if err != nil || len(list) != want {
			t.Fatalf("%s: of %s %d versions are kept, want %d; %v", when, key, len(list), want, err)
		}
		raw, err := n.indexHistory(t.Context(), []byte(key), ^Seq(0), 100)
		if err != nil || len(raw) != want {
			t.Fatalf("%s: of %s %d versions are in the index, want %d; %v", when, key, len(raw), want, err)
		}
	}
	write := func(key string) {
		t.Helper()
		put(t, n, key, "value")
		del(t, n, key)
		if err := n.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
	}
	write("a")
	w.pass(365*day, 0)
	kept("a year ahead", "a", 2)
	write("ahead")
	pass(time.Hour)
	kept("a year ahead for an hour", "a", 2)
	if err := n.RebuildIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept("after a rebuild", "a", 2)
	r.close() // and the machine starts again, without a battery
	w.set(time.Unix(1000, 0))
	n = r.open()
	kept("in 1970", "a", 2)
	write("behind")
	w.set(time.Now())
	pass(time.Hour)
	kept("when it is right", "behind", 2)
	for _, key := range []string{"a", "ahead"} {
		kept("when it is right", key, 2)
	}
	pass(28 * day)
	for _, key := range []string{"a", "ahead", "behind"} {
		kept("after 28 days", key, 2)
	}
	pass(3 * day)
	for _, key := range []string{"a", "ahead", "behind"} {
		kept("after 31 days", key, 0)
	}

	// Switched off for months: what was there goes after a day, what comes meanwhile stays.
	write("b")
	r.close()
	w.pass(100*day, 0)
	n = r.open()
	write("c")
	kept("after a pause", "b", 2)
	pass(22 * time.Hour)
	kept("not yet a day after a pause", "b", 2)
	pass(3 * time.Hour)
	kept("a day after a pause", "b", 0)
	kept("a day after a pause", "c", 2)
	pass(27 * day)
	kept("before its time", "c", 2)
	n.saveAges(true) // else up to a minute is lost
	r.kill()
	n = r.open()
	pass(4 * day)
	kept("after its time", "c", 0)
}

// TestAgesOfOld: a store from before ages were counted has the times in the log only. They count, but not for a day.
func TestAgesOfOld(t *testing.T) {
	const day = 24 * time.Hour
	r := newRig(t)
	w := &worldClock{wall: time.Now()}
	r.o.clock = w.now
	r.ns.Retention = &Retention{KeepFor: 30 * day}
	n := r.open()
	put(t, n, "k", "value")
	del(t, n, "k")
	b := NewBatch()
	b.Set([]byte("given"), nil)
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	b.SetTime(time.Unix(5, 0))
	b.Delete([]byte("given"))
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	r.close()
	for _, name := range []string{"data/ns/" + agesName, "data/" + clockName} {
		if err := r.mem.Remove(r.dir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	look := func(when string, want int) {
		t.Helper()
		if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
			t.Fatal(err)
		}
		if s := n.Stats(); s.Versions != int64(want) {
			t.Fatalf("%s: %d versions", when, s.Versions)
		}
	}
	w.pass(60*day, 0)
	n = r.open()
	look("at once", 4)
	w.pass(0, day-time.Minute)
	look("before a day", 4)
	w.pass(0, 2*time.Minute)
	look("after a day", 0) // the time that was given does not count, but there is a newer segment
}

// TestMoments: what passed since a moment, over restarts and without believing the wall at once.
func TestMoments(t *testing.T) {
	r := newRig(t)
	w := &worldClock{wall: time.Now()}
	r.o.clock = w.now
	r.open()
	// In its first day a clock believes no other one: what was set aside before there was this one would be gone because of a wrong wall clock.
	w.pass(time.Hour, time.Hour)
	for _, old := range []time.Duration{time.Minute, time.Hour} {
		if got := r.db.Passed("", w.wall.Add(-old)); got != old {
			t.Errorf("%v have passed, want %v", got, old)
		}
	}
	if got := r.db.Passed("", time.Unix(5, 0)); got != time.Hour {
		t.Errorf("%v have passed since 1970", got)
	}
	r.close()
	r.open()
	if got := r.db.Passed("", time.Unix(5, 0)); got != time.Hour {
		t.Errorf("%v have passed since 1970", got)
	}
	w.pass(24*time.Hour, 24*time.Hour) // after a start a pause may be told late, and counts as one before the start
	wall, moment := w.wall, r.db.Moment()
	want := func(d, of, old time.Duration) {
		t.Helper()
		if got := r.db.Passed(moment, wall); got != d {
			t.Errorf("%v have passed, want %v", got, d)
		}
		if got := r.db.Passed(moment, wall.Add(-time.Hour)); got != d {
			t.Errorf("the wall counts: %v", got)
		}
		for _, other := range []string{"", "x", moment[:30], "00" + moment[2:], moment[:33] + "x"} {
			if got := r.db.Passed(other, wall); got != of {
				t.Errorf("%v have passed since %q, want %v", got, other, of)
			}
		}
		if got := r.db.Passed("", wall.Add(-old)); got != of+old {
			t.Errorf("%v have passed, want %v", got, of+old)
		}
	}
	want(0, 0, time.Hour)
	w.pass(1000*time.Hour, 5*time.Hour)
	want(5*time.Hour, 5*time.Hour, time.Hour)
	r.close()
	w.pass(time.Hour, 0)
	r.open()
	want(5*time.Hour, 5*time.Hour, time.Hour)
	w.pass(24*time.Hour, 24*time.Hour)
	want(1024*time.Hour, 1024*time.Hour, time.Hour)
	w.pass(time.Hour, time.Hour) // by the last one it has been ahead for an hour
	want(1026*time.Hour, 1026*time.Hour, time.Hour)
}

// TestAgesOfAnotherLog: marks of what the log does not hold, because it was put back to an earlier day, say nothing of what comes instead.
func TestAgesOfAnotherLog(t *testing.T) {
	const day = 24 * time.Hour
	r := newRig(t)
	w := &worldClock{wall: time.Now()}
	r.o.clock = w.now
	r.ns.Retention = &Retention{KeepFor: 30 * day}
	n := r.open()
	put(t, n, "k", "1")
	r.close()
	before := r.mem.KillClone()
	n = r.open()
	for i := range 20 {
		put(t, n, "k", fmt.Sprint("other ", i))
	}
	if err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pass(day, day)
	n.policy()
	r.close()
	var kept [2][]byte
	for i, name := range []string{"data/ns/" + agesName, "data/" + clockName} {
		p, err := vfs.ReadFile(r.mem, r.dir+"/"+name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		kept[i] = p
	}
	r.mem = before
	r.o.FS = before
	for i, name := range []string{"data/ns/" + agesName, "data/" + clockName} {
		if err := vfs.WriteFile(r.mem, r.dir+"/"+name, kept[i]); err != nil {
			t.Fatal(err)
		}
	}
	n = r.open()
	for range 29 {
		w.pass(day, day)
		n.policy()
	}
	put(t, n, "k", "2")
	del(t, n, "k")
	w.pass(2*day, 2*day)
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	list, err := n.History(t.Context(), []byte("k"), 0, 100)
	if err != nil || len(list) < 2 {
		t.Errorf("%d versions are kept after two days, %v", len(list), err)
	}
}

// TestAgesThinned: where there are too many marks the first one stays, before which the wall clock counts.
func TestAgesThinned(t *testing.T) {
	r := newRig(t)
	w := &worldClock{wall: time.Now()}
	r.o.clock = w.now
	r.ns.Retention = &Retention{KeepFor: 10000 * time.Hour}
	n := r.open()
	put(t, n, "k", "value")
	if err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := n.ages.marks[0]
	n.ages.marks = nil
	for i := range maxAges {
		n.ages.marks = append(n.ages.marks, mark{Seq(i), first.run + clock.Run(i)})
	}
	first = n.ages.marks[0]
	w.pass(11*time.Hour, 11*time.Hour)
	n.policy()
	if got := len(n.ages.marks); got > maxAges/2+1 || n.ages.marks[0] != first {
		t.Errorf("%d marks, the first is %v", got, n.ages.marks[0])
	}
}

// TestAgesFile: the marks are few, survive, and what does not check is counted anew.
func TestAgesFile(t *testing.T) {
	r := newRig(t)
	w := &worldClock{wall: time.Now()}
	r.o.clock = w.now
	r.ns.Retention = &Retention{KeepFor: 10 * time.Hour}
	n := r.open()
	for i := range 3000 {
		w.pass(0, time.Minute)
		put(t, n, "k", fmt.Sprint(i))
		if err := n.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.policy()
	}
	before := len(n.ages.marks)
	if before < 590 || before > 610 {
		t.Errorf("%d marks", before)
	}
	r.close()
	path := r.dir + "/data/ns/" + agesName
	p, err := vfs.ReadFile(r.mem, path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	id, marks, err := parseAges(p)
	if err != nil || len(marks) != before || string(appendAges(nil, id, marks)) != string(p) {
		t.Fatalf("%d marks of %d, %v", len(marks), before, err)
	}
	for _, i := range []int{0, 8, 12, 20, 32, 45, len(p) - 1} {
		q := append([]byte(nil), p...)
		q[i] ^= 1
		if _, _, err := parseAges(q); err == nil {
			t.Errorf("byte %d may be anything", i)
		}
	}
	if err := vfs.WriteFile(r.mem, path, p[:50]); err != nil {
		t.Fatal(err)
	}
	n = r.open()
	if got := len(n.ages.marks); got != 1 {
		t.Errorf("%d marks after damage", got)
	}
	// A clock that stands still makes no more of them, nor does one that runs too fast.
	r.ns.Retention = nil
	for i := range 3 * maxAges {
		w.pass(0, time.Second)
		n.ages.marks = append(n.ages.marks[:len(n.ages.marks):len(n.ages.marks)], mark{n.ages.marks[len(n.ages.marks)-1].seq + 1, n.ages.marks[len(n.ages.marks)-1].run})
		if len(n.ages.marks) > maxAges-1 {
			put(t, n, "k", fmt.Sprint("more", i))
			if err := n.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.pass(0, time.Hour)
			if n.policy(); len(n.ages.marks) > maxAges {
				t.Fatalf("%d marks", len(n.ages.marks))
			}
			break
		}
	}
}

// TestAgesKept reads a file of the first version of the format.
func TestAgesKept(t *testing.T) {
	p, err := os.ReadFile("testdata/ages-v1")
	if err != nil {
		t.Fatal(err)
	}
	id, marks, err := parseAges(p)
	want := []mark{{0, 1e18}, {MakeSeq(1, 5), 1e18 + 7}, {MakeSeq(2, 1), 2e18}}
	if err != nil || id != [16]byte{1, 2, 3} || !slices.Equal(marks, want) || !bytes.Equal(appendAges(nil, id, marks), p) {
		t.Errorf("%v, %v, %v", id, marks, err)
	}
}

// FuzzParseAges: no bytes do harm, and what is read is written the same.
func FuzzParseAges(f *testing.F) {
	p, err := os.ReadFile("testdata/ages-v1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		id, marks, err := parseAges(p)
		if err != nil {
			return
		}
		if again, list, err := parseAges(appendAges(nil, id, marks)); err != nil || again != id || len(list) != len(marks) {
			t.Errorf("%v marks became %v, %v", len(marks), len(list), err)
		}
	})
}
