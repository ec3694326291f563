package wal

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
)

// TestWriteBehind: what is not synced is written back step by step, before the fsync at the end of the segment, and what
// is synced before is not.
func TestWriteBehind(t *testing.T) {
	for _, synced := range []bool{false, true} {
		r := newRig(t)
		var mu sync.Mutex
		steps := make(chan int64, 100)
		begun := map[string]int64{}
		r.o.SegmentSize = 16 << 20
		r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
			mu.Lock()
			defer mu.Unlock()
			if c.Op == "WriteBack" {
				begun[c.Name] += int64(c.Len)
				steps <- begun[c.Name]
			}
			return nil
		}}
		r.open()
		var b batch.Builder
		b.Set([]byte("key"), []byte(strings.Repeat("v", 256<<10)))
		for range 3 * (15 << 20) / b.Size() {
			before := r.l.Head()
			if _, err := r.l.Append(t.Context(), &b, 0, 0); err != nil {
				t.Fatal(err)
			}
			if synced {
				r.sync()
				continue
			}
			head := r.l.Head()
			if head.Segment != before.Segment || head.Offset/backStep == before.Offset/backStep {
				continue
			}
			select {
			case n := <-steps:
				if n%backStep != 0 || n > head.Offset {
					t.Fatalf("%d bytes of %d are written back", n, head.Offset)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("nothing is written back at %d", head.Offset)
			}
		}
		r.close()
		mu.Lock()
		if n := len(begun); synced != (n == 0) || !synced && n < 3 {
			t.Errorf("synced %v: write-back in %d segments: %v", synced, n, begun)
		}
		mu.Unlock()
	}
}

// TestWriteBackFails: pages that could not be written back may be gone, so nothing more is taken.
func TestWriteBackFails(t *testing.T) {
	r := newRig(t)
	r.o.SegmentSize = 64 << 20
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if c.Op == "WriteBack" {
			return errFault
		}
		return nil
	}}
	r.open()
	var b batch.Builder
	b.Set([]byte("key"), []byte(strings.Repeat("v", 1<<20)))
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) && r.l.Err() == nil {
		if _, err := r.l.Append(t.Context(), &b, 0, 0); err != nil && !errors.Is(err, ErrPoisoned) {
			t.Fatal(err)
		}
	}
	if err := r.l.Sync(t.Context()); !errors.Is(err, ErrPoisoned) || !errors.Is(err, errFault) {
		t.Fatalf("sync after a failed write-back: %v", err)
	}
}
