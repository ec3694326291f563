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

// TestPaceOfLargeValues: many writers of large values are held back as far as it takes. Else fifty of them, a quarter of a second each, write 200 MiB in a
// second and the log grows without an end.
func TestPaceOfLargeValues(t *testing.T) {
	var p pace
	rate := func(debt int64) (sum int64) {
		p.look(debt, 1<<50)
		p.next = time.Time{}
		last := time.Duration(0)
		for range 50 {
			last = p.slot(1 << 20)
		}
		return int64(50 << 20 / last.Seconds())
	}
	for debt, most := range map[int64]int64{debtFull: 250 << 20, 2 * debtFull: 26 << 20, 3 * debtFull: 26 << 20} {
		if got := rate(debt); got > most {
			t.Errorf("at a debt of %d they write %d MiB in a second", debt, got>>20)
		}
	}
	if p.look(1<<40, 1); p.slot(1<<40) > slowEver {
		t.Error("a commit waits for ever")
	}
}

// TestPaceEnds: who waits long goes on when there is nothing to wait for any more, and when the namespace is closed.
func TestPaceEnds(t *testing.T) {
	r := newRig(t)
	r.ns.Compaction = Compaction{LiveFraction: 0.7}
	n := r.open()
	n.compactor.mu.Lock()
	waits := func(end func()) {
		t.Helper()
		n.compactor.pace.look(10*debtFull, 1<<40)
		done := make(chan time.Time)
		go func() {
			b := NewBatch()
			b.Set([]byte("key"), make([]byte, 4<<20))
			n.compactor.pace.slot(100 << 20)
			if err := n.giveWay(t.Context(), b); err != nil {
				t.Error(err)
			}
			done <- time.Now()
		}()
		time.Sleep(50 * time.Millisecond)
		at := time.Now()
		end()
		if took := (<-done).Sub(at); took > 2*time.Second {
			t.Errorf("it takes %v", took)
		}
	}
	waits(func() { n.compactor.pace.look(noDebt, 1) })
	waits(n.stop)
	n.compactor.mu.Unlock()
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

// TestPaceAfterDeletes: where most of a log was deleted nobody waits while compaction catches up, as long as the log does not grow; and
// it does become as short as it should be while writers go on as fast as they may.
func TestPaceAfterDeletes(t *testing.T) {
	const (
		keys    = 4000
		size    = 16 << 10
		segment = 1 << 20
	)
	r := newRig(t)
	r.ns.SegmentSize = segment
	r.ns.Compaction = Compaction{Auto: true, LiveFraction: 0.7, RateBytes: -1}
	n := r.open()
	value := make([]byte, size)
	set := func(i int) {
		t.Helper()
		b := NewBatch()
		binary.LittleEndian.PutUint64(value, uint64(i))
		b.Set(fmt.Appendf(nil, "key %d", i), value)
		if _, err := n.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	n.compactor.mu.Lock() // nothing is compacted yet
	for i := range keys {
		set(i)
	}
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.lookAtDebt()
	for i := range keys {
		if i%10 > 0 {
			del(t, n, fmt.Sprintf("key %d", i))
		}
	}
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if total, goal, debt := n.lookAtDebt(); debt < 1000 {
		t.Errorf("%d bytes of log, %d are its goal, the debt is %d", total, goal, debt)
	}
	if wait := n.compactor.pace.slot(2 << 20); wait > 0 {
		t.Errorf("a writer waits for %v although the log is not longer than it was", wait)
	}
	n.compactor.pace.slot(20 << 20)
	if wait := n.compactor.pace.slot(1 << 20); wait == 0 {
		t.Error("nobody waits although the log grows")
	}
	n.compactor.mu.Unlock()
	most := int64(0)
	for i := range 2 * keys {
		set(i * 10 % keys)
		most = max(most, n.Stats().LocalBytes)
	}
	if bound := int64(keys*(size+200)*(1000+debtFull)/1000) + 16*segment; most > bound {
		t.Errorf("%d bytes at most, want %d", most, bound)
	}
	live := float64(keys / 10 * (size + 200))
	bound := int64(live/0.7*(1+debtFull/1000.0)) + 16*segment
	if now := n.Stats().LocalBytes; now > bound {
		t.Errorf("%d bytes in the end, want %d", now, bound)
	}
	t.Logf("%.1f MiB at most, %.1f in the end", float64(most)/(1<<20), float64(n.Stats().LocalBytes)/(1<<20))
}

// TestCeiling: it follows the goal up, and comes down with what is freed, whatever writers do.
func TestCeiling(t *testing.T) {
	var c ceiling
	look := func(total, goal, freed, want int64) {
		t.Helper()
		if got := c.look(total, goal, freed); got != want {
			t.Errorf("%d of %d, %d freed: %d, want %d", total, goal, freed, got, want)
		}
	}
	look(1000, 1500, 0, 1500)
	look(1700, 1500, 0, 1500) // writers are too fast
	look(1700, 1600, 100, 1600)
	look(1650, 500, 100, 1600) // much was deleted
	look(1600, 500, 90, 1600)  // copied, and not yet removed
	look(1650, 500, 300, 1500)
	look(1650, 500, 500, 1400) // they write as much as is freed
	look(900, 500, 1500, 900)
	look(1000, 500, 9500, 500)
	c = ceiling{}
	look(11200, 500, 0, 10000) // a restart
}
