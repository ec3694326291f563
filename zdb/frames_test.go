package zdb

import (
	"fmt"
	"strings"
	"testing"
)

// TestFramesAreNotDead: small entries in batches of their own are more frame than entry. The background compacts them only when
// entries died, and slows nobody for frames; who asks for all gets the room.
func TestFramesAreNotDead(t *testing.T) {
	const keys = 3000
	r := newRig(t)
	r.ns.SegmentSize = 64 << 10
	r.ns.Compaction = Compaction{LiveFraction: 0.7, RateBytes: -1}
	n := r.open()
	want := make(map[string]string)
	write := func(round int) {
		t.Helper()
		for i := range keys {
			if round > 0 && i%8 == 0 {
				continue // something stays in every segment
			}
			key, value := fmt.Sprintf("key%09d", i), fmt.Sprintf("%d%s", round, strings.Repeat("v", 40))
			put(t, n, key, value)
			want[key] = value
		}
	}
	// background does what it would do, with figures that are right.
	background := func() (runs uint64) {
		t.Helper()
		if err := n.bringUp(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		before := n.Stats().CompactRuns
		for more := true; more; {
			var err error
			if more, err = n.compactNext(); err != nil {
				t.Fatal(err)
			}
		}
		return n.Stats().CompactRuns - before
	}
	write(0)
	if got := background(); got != 0 {
		t.Errorf("%d compactions where nothing is dead", got)
	}
	if s := n.Stats(); s.DeadBytes*2 < s.LogBytes || s.Segments < 5 {
		t.Fatalf("%d of %d bytes in %d segments are frames: not what the test is about", s.DeadBytes, s.LogBytes, s.Segments)
	}
	n.compactor.mu.Lock()
	total, goal, debt := n.lookAtDebt()
	n.compactor.mu.Unlock()
	if debt > debtUrgent {
		t.Errorf("the log has %d bytes, its goal is %d: writers would be slowed", total, goal)
	}
	write(1)
	before := n.Stats().LogBytes
	if got := background(); got == 0 {
		t.Error("no compaction although most entries are dead")
	}
	after := n.Stats()
	if after.LogBytes > before*3/4 {
		t.Errorf("the log has %d bytes after compaction, %d before", after.LogBytes, before)
	}
	if len(n.compactor.entries) > after.Segments {
		t.Errorf("%d segments are remembered, there are %d", len(n.compactor.entries), after.Segments)
	}
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	// Sequence and time come to an entry that moves, a batch's frame is shared by a thousand.
	if got, most := n.Stats().LogBytes, int64(keys*(12+41+4+8+16)*5/4); got > most {
		t.Errorf("%d bytes after all was compacted, want %d at most", got, most)
	}
	wantAll(t, n, want)
}

// TestFramesAfterRebuild: what frames a segment has is known again after its i<N> was made anew and the index rebuilt, and a reopened store is compacted
// where entries died.
func TestFramesAfterRebuild(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 32 << 10
	r.ns.Compaction = Compaction{LiveFraction: 0.7, RateBytes: -1}
	n := r.open()
	for i := range 1500 {
		put(t, n, fmt.Sprintf("key%09d", i), strings.Repeat("v", 40))
	}
	reopen := func() (runs uint64) {
		t.Helper()
		r.close()
		names, err := r.mem.List(r.dir + "/index/ns")
		if err != nil {
			t.Fatal(err)
		}
		gone := 0
		for _, name := range names {
			if strings.HasPrefix(name, "i") {
				if err := r.mem.Remove(r.dir + "/index/ns/" + name); err != nil {
					t.Fatal(err)
				}
				gone++
			}
		}
		if gone < 3 {
			t.Fatalf("%d of %q", gone, names)
		}
		n = r.open()
		if err := n.RebuildIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.bringUp(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		before := n.Stats().CompactRuns
		for done := true; done; {
			var err error
			if done, err = n.compactNext(); err != nil {
				t.Fatal(err)
			}
		}
		return n.Stats().CompactRuns - before
	}
	if runs := reopen(); runs != 0 {
		t.Errorf("%d compactions where nothing is dead", runs)
	}
	for i := range 1500 {
		if i%10 > 0 {
			del(t, n, fmt.Sprintf("key%09d", i))
		}
	}
	if runs := reopen(); runs == 0 {
		t.Error("no compaction although most is dead")
	}
	if got := len(all(t, n)); got != 150 {
		t.Errorf("%d keys, want 150", got)
	}
}
