package zdb

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// warnings counts what is logged.
type warnings struct {
	slog.Handler
	n atomic.Int64
}

func (w *warnings) Enabled(context.Context, slog.Level) bool { return true }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		w.n.Add(1)
	}
	return nil
}

// TestApplyFailsWithPauses: while the disk has no room for the index, the background tries now and then, and not all the time:
// an attempt that failed is no reason for the next one.
func TestApplyFailsWithPauses(t *testing.T) {
	r := newRig(t)
	w := &warnings{Handler: slog.DiscardHandler}
	r.o.Log = slog.New(w)
	r.o.IndexRoom = 8 << 20
	r.ns.SegmentSize = 64 << 10
	r.ns.Compaction = Compaction{Auto: true}
	n := r.open()
	r.mem.SetLimit(r.mem.Used() + 4<<20)
	for range 10 {
		put(t, n, "k", strings.Repeat("v", 60<<10))
	}
	time.Sleep(2 * time.Second)
	if got := w.n.Load(); got < 1 || got > 30 {
		t.Errorf("%d warnings in 2 s", got)
	}
	r.mem.SetLimit(0) // none
	for deadline := time.Now().Add(30 * time.Second); n.Stats().OverlayBytes > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("with room again nothing is applied")
		}
	}
}
