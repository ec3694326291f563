package zdb

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestFullOfItsOwn: a disk that the log has filled up to the reserve, of which the index needs more than that as by default: what is
// deleted then, or expires, comes back as room by itself. The ballast is for that.
func TestFullOfItsOwn(t *testing.T) {
	for _, kept := range []bool{false, true} {
		t.Run(fmt.Sprintf("kept %v", kept), func(t *testing.T) {
			r := fullRig(t)
			r.o.IndexRoom = 2 << 20
			r.ns.Ballast = 6 << 20
			r.ns.Compaction = Compaction{Auto: true, RateBytes: -1}
			if kept {
				r.ns.Retention = &Retention{KeepLast: 100}
			}
			n := r.open()
			keys := fill(t, n)
			if keys < 50 {
				t.Fatalf("%d keys", keys)
			}
			for i := range keys - 5 {
				del(t, n, fmt.Sprintf("k%04d", i))
			}
			if kept {
				if err := n.SetRetention(Retention{}); err != nil {
					t.Fatal(err)
				}
			}
			b := NewBatch()
			b.Set([]byte("new"), make([]byte, 100<<10))
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				_, err := n.Commit(t.Context(), b)
				if err == nil {
					break
				}
				if !errors.Is(err, ErrNoSpace) || time.Now().After(deadline) {
					t.Fatalf("%v; %d bytes are free; %+v", err, free(r), n.Stats())
				}
			}
		})
	}
}
