package zdb

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestRebuildWhileWriting drops the index again and again under a writer: what the applier put into the old one must be in the
// new one too.
func TestRebuildWhileWriting(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize, r.o.OverlayBytes = 256<<10, 16<<10
	n := r.open()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	written := 0
	go func() {
		for ; ; written++ {
			if written%20 == 0 {
				time.Sleep(time.Millisecond) // or the log grows faster than it is read
			}
			b := NewBatch()
			b.Set(fmt.Appendf(nil, "k%06d", written), []byte("value"))
			if _, err := n.Commit(ctx, b); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 12 {
		if err := n.RebuildIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got, _, err := n.Count(t.Context()); err != nil || got < int64(written) {
		t.Errorf("%d of %d keys, %v", got, written, err)
	}
	if n.Stats().IndexRebuilt != 12 {
		t.Errorf("rebuilt %d times", n.Stats().IndexRebuilt)
	}
	wantClean(t, "afterwards", r.check(CheckOptions{}))
}
