package zdb

import (
	"context"
	"errors"
	"fmt"
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
	for deadline := time.Now().Add(20 * time.Second); w.n.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
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

// TestApplyFailsBesideCommits: while the disk has no room for the index, commits do not bring about an attempt each, nor a table of the
// overlay each, all of which readers would have to go through.
func TestApplyFailsBesideCommits(t *testing.T) {
	r := newRig(t)
	w := &warnings{Handler: slog.DiscardHandler}
	r.o.Log = slog.New(w)
	r.o.IndexRoom = 8 << 20
	n := r.open()
	put(t, n, "k", "v")
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.mem.SetLimit(r.mem.Used() + 4<<20)
	if err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, n, "k", "v")
	if err := n.apply(t.Context()); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("apply: %v", err)
	}
	before := time.Now()
	for i := range 3000 {
		put(t, n, "k", fmt.Sprint(i))
		if i%100 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	took := time.Since(before)
	if got, most := int64(len(n.view.Load().tables)), 10+int64(took/applyRetry); got > most || w.n.Load() > most {
		t.Errorf("%d tables, %d warnings in %v", got, w.n.Load(), took)
	}
}
