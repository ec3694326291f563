package zdb

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

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
		for ; d > 0; d -= 10 * time.Minute {
			w.pass(10*time.Minute, 10*time.Minute)
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

	// Switched off for a week: that counts after a day, for what was there a day before. What comes meanwhile stays.
	write("b")
	pass(12 * day)
	write("last")
	r.close()
	w.pass(7*day, 0)
	n = r.open()
	write("c")
	pass(22 * time.Hour)
	kept("not yet a day after a pause", "b", 2)
	pass(10*day - 2*time.Hour)
	kept("29 days and some hours after it", "b", 2)
	pass(day)
	kept("after 30 days", "b", 0)
	kept("after 30 days", "last", 2)
	pass(17 * day)
	kept("before its time", "c", 2)
	kept("before its time", "last", 2)
	n.db.clock.Save(true) // else up to ten minutes are lost
	r.kill()
	n = r.open()
	pass(4 * day)
	kept("after its time", "c", 0)
	kept("after its time", "last", 0)
}

// TestAgesOfOld: of a store from before ages were counted, or that lost them, nothing is old. The times in the log are those of a wall clock.
func TestAgesOfOld(t *testing.T) {
	const day = 24 * time.Hour
	for _, lost := range [][]string{{"ns/" + agesName}, {clockName}, {"ns/" + agesName, clockName}} {
		r := newRig(t)
		w := &worldClock{wall: time.Unix(1000, 0)}
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
		w.pass(10*day, 10*day)
		n.policy()
		r.close()
		for _, name := range lost {
			if err := r.mem.Remove(r.dir + "/data/" + name); err != nil {
				t.Fatal(err)
			}
		}
		look := func(when string, want int) {
			t.Helper()
			if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
				t.Fatal(err)
			}
			if s := n.Stats(); s.Versions != int64(want) {
				t.Fatalf("without %q, %s: %d versions", lost, when, s.Versions)
			}
		}
		w.set(time.Now())
		n = r.open()
		look("at once", 4)
		w.pass(30*day-time.Minute, 30*day-time.Minute)
		look("before 30 days", 4)
		w.pass(2*time.Minute, 2*time.Minute)
		look("after 30 days", 0)
		r.close()
	}
}

// TestAgesUnreadable: a bad sector in what counts time stops nothing from being opened, and ends nothing early.
func TestAgesUnreadable(t *testing.T) {
	const day = 24 * time.Hour
	for _, name := range []string{clockName, agesName} {
		for _, op := range []string{"Open", "ReadAt", "damage"} {
			r := newRig(t)
			w := &worldClock{wall: time.Now()}
			r.o.clock = w.now
			r.ns.Retention = &Retention{KeepFor: 30 * day}
			n := r.open()
			put(t, n, "k", "value")
			del(t, n, "k")
			if err := n.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.pass(day, day)
			n.policy()
			r.close()
			path := r.dir + "/data/ns/" + name
			if name == clockName {
				path = r.dir + "/data/" + name
			}
			if op == "damage" {
				if err := vfs.WriteFile(r.mem, path, []byte("QZDBCLCK or QZDBAGES, and nothing of theirs behind it but what somebody wrote there")); err != nil {
					t.Fatal(err)
				}
			}
			r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
				if c.Name == name && c.Op == op {
					return errors.New("input/output error")
				}
				return nil
			}}
			n = r.open()
			if _, err := r.mem.Stat(path + ".bad"); err != nil {
				t.Errorf("%s, %s: it is not set aside: %v", name, op, err)
			}
			put(t, n, "other", "value")
			for _, later := range []struct {
				by   time.Duration
				want int
			}{{29*day + 23*time.Hour, 2}, {2 * time.Hour, 0}} {
				w.pass(later.by, later.by)
				if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
					t.Fatal(err)
				}
				if list, err := n.History(t.Context(), []byte("k"), 0, 100); err != nil || len(list) != later.want {
					t.Errorf("%s, %s: %d versions are kept, %v", name, op, len(list), err)
				}
			}
			r.close()
			r.open() // what was set aside is in nobody's way
			r.close()
		}
	}
}

// TestMoments: what passed since a moment, over restarts, without believing the wall at once, and whether it is one at all.
func TestMoments(t *testing.T) {
	const day = 24 * time.Hour
	r := newRig(t)
	w := &worldClock{wall: time.Now()}
	r.o.clock = w.now
	r.open()
	pass := func(d time.Duration) {
		for ; d > 0; d -= 10 * time.Minute {
			w.pass(10*time.Minute, 10*time.Minute)
			r.db.clock.Look()
		}
	}
	pass(2 * day)
	moment := r.db.Moment()
	want := func(d time.Duration) {
		t.Helper()
		if got, ok := r.db.Passed(moment); got != d || !ok {
			t.Errorf("%v have passed, want %v, %v", got, d, ok)
		}
		for _, other := range []string{"", "x", ":", moment[:30], moment[:32], moment[:33], "0" + moment, "00" + moment[2:], moment[:33] + "x", moment[:33] + "-5", moment + "0000"} {
			if got, ok := r.db.Passed(other); got != 0 || ok {
				t.Errorf("%v have passed since %q", got, other)
			}
		}
	}
	want(0)
	w.pass(60*time.Hour, 5*time.Hour)
	want(5 * time.Hour)
	r.close()
	w.pass(time.Hour, 0)
	r.open()
	want(5 * time.Hour)
	pass(26 * time.Hour) // what came in the day before the gap has no part in it
	want(31 * time.Hour)
	early := moment
	moment = r.db.Moment()
	pass(2 * day)
	r.close()
	w.pass(day, 0)
	r.open()
	pass(25 * time.Hour)
	want(2*day + 25*time.Hour + day - time.Second)
	if got, ok := r.db.Passed(early); !ok || got != 31*time.Hour+3*day+25*time.Hour-time.Second {
		t.Errorf("%v have passed, %v", got, ok)
	}
}

// TestAgesLast: ages go on over stops, kills and power cuts, after which part of the log is written again, and over compaction.
func TestAgesLast(t *testing.T) {
	const day = 24 * time.Hour
	r := newRig(t)
	w := &worldClock{wall: time.Now()}
	r.o.clock = w.now
	r.ns.Retention = &Retention{KeepFor: 1000 * day}
	var ends []Seq
	for life := range 24 {
		n := r.open()
		ages := n.age(1000 * day)
		for i, seq := range ends {
			if got, want := ages.Of(seq), time.Duration(life-i)*day; got > want || got < want-day {
				t.Errorf("life %d: what is %v old is taken for %v", life, want, got)
			}
		}
		for range 3 {
			put(t, n, "k", fmt.Sprint(life))
			del(t, n, "k")
			if err := n.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ends = append(ends, n.Durable().Seq)
		w.pass(day-time.Minute, day-time.Minute)
		n.policy()
		w.pass(time.Minute, time.Minute)
		n.db.clock.Save(true)
		n.ages.Save(true)
		if life%3 == 0 {
			if _, err := n.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if life%6 == 5 {
			if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
				t.Fatal(err)
			}
		}
		put(t, n, "unsynced", "value")
		[]func(){r.close, r.kill, r.powerOff, r.kill}[life%4]()
	}
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
