package zdb

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestCompactionLeavesReserve: while the disk has no room for the index, nothing that compaction copies can free anything; it must not
// take the reserve, which is for deletes. What is dead as a whole goes all the same.
func TestCompactionLeavesReserve(t *testing.T) {
	r := newRig(t)
	r.o.Reserve, r.o.IndexRoom = 1<<20, 4<<20
	r.ns.SegmentSize = 1 << 20
	r.ns.Compaction.LiveFraction = 0.95
	n := r.open()
	value := make([]byte, 100<<10)
	write := func(from, to, step int) {
		b := NewBatch()
		for i := from; i < to; i += step {
			b.Set(fmt.Appendf(nil, "k%04d", i), value)
			if _, err := n.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			b.Reset()
		}
	}
	write(0, 20, 1)
	write(0, 20, 1) // the first two segments are dead, all others half dead
	write(20, 100, 1)
	write(20, 100, 2)
	if _, err := n.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.mem.SetLimit(r.mem.Used() + 1<<20) // less than the index needs, even with what is dead as a whole
	before := free(r)
	var last error
	for range 30 {
		if _, err := n.compactNext(); err != nil {
			last = err
		}
	}
	if !errors.Is(last, ErrNoSpace) {
		t.Errorf("compaction: %v", last)
	}
	if free(r) < before {
		t.Errorf("%d bytes were free, now %d", before, free(r))
	}
	if s := n.Segments(); s[0].ID == 0 {
		t.Errorf("what is dead stays: %+v", s[0])
	}
	del(t, n, "k0001")
	r.mem.SetLimit(0)
	res, err := n.Compact(t.Context(), CompactOptions{All: true})
	for deadline := time.Now().Add(10 * time.Second); errors.Is(err, ErrNoSpace) && time.Now().Before(deadline); {
		time.Sleep(drainSample) // it looked as if others had taken the room
		res, err = n.Compact(t.Context(), CompactOptions{All: true})
	}
	if err != nil || res.Segments == 0 {
		t.Errorf("with room: %+v, %v", res, err)
	}
	if res, err := n.Check(t.Context(), CheckOptions{}); err != nil || !res.Clean() {
		t.Errorf("%+v, %v", res, err)
	}
}
