package zdb

import (
	"errors"
	"strings"
	"testing"
	"time"

	"qsfs/zdb/internal/vfs"
)

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
