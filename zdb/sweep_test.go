package zdb

import (
	"errors"
	"strings"
	"testing"
	"time"

	"qsfs/zdb/internal/vfs"
)

// TestSweepIdle: what is too old goes also where so many other namespaces are in use that the index was closed, and nobody comes.
func TestSweepIdle(t *testing.T) {
	defer func(was time.Duration) { sweepIdle = was }(sweepIdle)
	sweepIdle = 0
	r := newRig(t)
	w := &worldClock{wall: time.Now()}
	r.o.clock, r.o.MaxIndexes = w.now, 1
	r.ns.Retention = &Retention{KeepFor: time.Second}
	n := r.open()
	n.stop() // the background leaves it to the test
	n.wg.Wait()
	n.ctx = t.Context()
	put(t, n, "k", "value")
	del(t, n, "k")
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, err := r.db.Namespace(t.Context(), "other", NamespaceOptions{Ballast: -1})
	if err != nil {
		t.Fatal(err)
	}
	closed := func() bool {
		n.idxMu.Lock()
		defer n.idxMu.Unlock()
		return n.idx == nil && n.opening == nil
	}
	for range 1000 {
		if _, err := other.Get(t.Context(), []byte("k")); err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		if closed() {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !closed() {
		t.Fatal("the index is open")
	}
	w.pass(time.Second, time.Second)
	n.policy() // the mark behind the delete
	w.pass(time.Hour, time.Hour)
	if _, err := n.sweepIfDue(); err != nil {
		t.Fatal(err)
	}
	x, err := n.acquireIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := x.Versions(); got != 0 {
		t.Errorf("%d versions are left", got)
	}
	if err := x.Release(); err != nil {
		t.Fatal(err)
	}
}

// TestSweepInSlices: a sweep over very many versions lets compaction have its turn, goes on where it stopped, after an error too, and
// begins again when less is to be kept meanwhile.
func TestSweepInSlices(t *testing.T) {
	defer func(was time.Duration) { sweepSlice = was }(sweepSlice)
	sweepSlice = 0
	r := newRig(t)
	r.ns.SegmentSize = 1 << 20
	r.ns.Retention = &Retention{KeepFor: time.Hour}
	failing := false
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if failing && c.Op == "Free" && strings.HasSuffix(c.Name, "ns") {
			return errors.New("injected")
		}
		return nil
	}}
	n := r.open()
	n.stop() // the background leaves it to the test
	n.wg.Wait()
	n.ctx = t.Context()
	overwriteMany(t, n, "k", 10*pruneStep)
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.SetRetention(Retention{KeepLast: 5 * pruneStep}); err != nil {
		t.Fatal(err)
	}
	slices := func(most int) (done int) {
		t.Helper()
		for done < most {
			more, err := n.sweepIfDue()
			if err != nil {
				t.Fatal(err)
			}
			if done++; !more {
				break
			}
			if _, err := n.compactNext(); err != nil {
				t.Fatal(err)
			}
		}
		return done
	}
	want := func(versions int64) {
		t.Helper()
		if got := n.Stats().Versions; got != versions {
			t.Errorf("%d versions, want %d", got, versions)
		}
		if res, err := n.Check(t.Context(), CheckOptions{}); err != nil || !res.Clean() {
			t.Errorf("%+v, %v", res, err)
		}
	}
	slices(3)
	want(10*pruneStep - 1) // the newest come first
	failing = true
	if more, err := n.sweepIfDue(); err == nil || more {
		t.Errorf("more: %v, %v", more, err)
	}
	failing = false
	if did := slices(100); did < 7 || did > 8 {
		t.Errorf("%d slices after three", did)
	}
	want(5*pruneStep - 1)
	if more, err := n.sweepIfDue(); err != nil || more {
		t.Errorf("another sweep: %v, %v", more, err)
	}
	if err := n.SetRetention(Retention{KeepLast: 3 * pruneStep}); err != nil {
		t.Fatal(err)
	}
	slices(4)
	if err := n.SetRetention(Retention{KeepLast: 10}); err != nil {
		t.Fatal(err)
	}
	for slices(1) < 1 || n.sweep.place != nil || n.Stats().Versions > 9 {
		if n.sweep.place == nil && !n.dueToSweep() {
			break
		}
	}
	want(9)
	put(t, n, "other", "x")
}
