package zdb

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPace overwrites as fast as many writers can: the log stays within what it should be and writers are slowed for that,
// not stopped; reads go on.
func TestPace(t *testing.T) {
	const (
		keys    = 1500
		size    = 16 << 10
		writers = 16
		rounds  = 6
		segment = 1 << 20
	)
	r := newRig(t)
	r.ns.SegmentSize = segment
	r.ns.Compaction = Compaction{Auto: true, LiveFraction: 0.7, RateBytes: -1}
	n := r.open()
	var most atomic.Int64
	var slowed, above atomic.Bool
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			most.Store(max(most.Load(), n.Stats().LocalBytes))
			p := &n.compactor.pace
			if p.debt.Load() > debtSlow {
				above.Store(true)
			}
			p.mu.Lock()
			if p.next.After(time.Now()) {
				slowed.Store(true)
			}
			p.mu.Unlock()
			time.Sleep(2 * time.Millisecond)
		}
	})
	var longest atomic.Int64
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			b, value := NewBatch(), make([]byte, size)
			for range keys * rounds / writers {
				for at := 0; at < size; at += 8 {
					binary.LittleEndian.PutUint64(value[at:], rng.Uint64())
				}
				b.Reset()
				b.Set(fmt.Appendf(nil, "key %d", rng.IntN(keys)), value)
				began := time.Now()
				if _, err := n.Commit(t.Context(), b); err != nil {
					t.Error(err)
					return
				}
				longest.Store(max(longest.Load(), int64(time.Since(began))))
			}
		})
	}
	work.Wait()
	stop()
	watch.Wait()
	// The goal and a tenth more; segments that the index does not know yet, that are copied and that are about to be removed.
	live := float64(keys * (size + 200))
	bound := int64(live/0.7*(1+debtFull/1000.0)) + 16*segment
	t.Logf("at most %.1f MiB of %.1f, %.1f live, %.1f written; the longest commit took %v", float64(most.Load())/(1<<20), float64(bound)/(1<<20),
		live/(1<<20), float64(keys*rounds*size)/(1<<20), time.Duration(longest.Load()))
	if most.Load() > bound {
		t.Errorf("%d bytes at most, want %d", most.Load(), bound)
	}
	if above.Load() && !slowed.Load() { // a slow machine may never come so far
		t.Error("the log was above its goal and no writer was slowed")
	}
	// What is slowed by a debt is slowed no more once compaction has nothing to do.
	if _, err := n.Compact(t.Context(), CompactOptions{}); err != nil {
		t.Fatal(err)
	}
	if wait := n.compactor.pace.slot(1 << 30); wait != 0 {
		t.Errorf("a writer waits %v although nothing is to be done", wait)
	}
}

// All writers share the rate, and one waits for a quarter of a second at most.
func TestPaceSlots(t *testing.T) {
	var p pace
	p.look(noDebt, 1)
	if wait := p.slot(1 << 40); wait != 0 {
		t.Errorf("without a debt: %v", wait)
	}
	p.look(0, 1<<30)
	if wait := p.slot(50 << 20); wait != 0 {
		t.Errorf("a little above the goal: %v", wait)
	}
	for range 100 { // what is written since the last look counts
		if p.slot(1<<20) > 0 {
			break
		}
	}
	p.look(debtFull, 1<<40)
	var last time.Duration
	for range 10 {
		wait := p.slot(slowLast / 100)
		if wait <= last {
			t.Errorf("waits %v after %v", wait, last)
		}
		last = wait
	}
	if last < 80*time.Millisecond || last > slowMost {
		t.Errorf("ten writers of 10 ms each: the last waits %v", last)
	}
	if wait := p.slot(slowLast * 10); wait > slowMost {
		t.Errorf("waits %v", wait)
	}
}

// TestNoPaceWithoutAuto: where nothing is compacted unless somebody asks, that slows no writer, however long the log is.
func TestNoPaceWithoutAuto(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	n := r.open()
	overwritten(t, n)
	steps := 0
	_, err := n.Compact(t.Context(), CompactOptions{Progress: func(CompactProgress) {
		steps++
		if wait := n.compactor.pace.slot(1 << 20); wait > 0 {
			t.Errorf("a writer waits for %v", wait)
		}
	}})
	if err != nil || steps == 0 {
		t.Errorf("%d steps, %v", steps, err)
	}
}
