package service

import (
	"context"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"qsfs/zdbfs"
	"qsfs/zstor/config"
)

// TestCachedWritesHaveTheirReserve: what write(2) has accepted is taken also when the budget shrinks
// below what is here, and no more than the reserve.
func TestCachedWritesHaveTheirReserve(t *testing.T) {
	p := newPressure(time.Minute)
	p.update(2000<<20, 1000<<20, 0)
	p.update(500<<20, 1000<<20, 0) // somebody else fills the disk
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no delays
	const piece = 1 << 20
	if err := p.admit(ctx, 1, piece, zdbfs.WriteFlags{}); err != syscall.ENOSPC {
		t.Errorf("a write that was not accepted yet: %v", err)
	}
	for i := range kernelSlack / piece {
		if err := p.admit(ctx, 1, piece, zdbfs.WriteFlags{Cache: true}); err != nil {
			t.Fatalf("after %d MiB: %v", i, err)
		}
	}
	if err := p.admit(ctx, 1, piece, zdbfs.WriteFlags{Cache: true}); err != syscall.ENOSPC {
		t.Errorf("beyond the reserve: %v", err)
	}
	p.update(500<<20, 1100<<20, 0)
	if err := p.admit(ctx, 1, piece, zdbfs.WriteFlags{Cache: true}); err != syscall.ENOSPC {
		t.Errorf("still full: %v", err)
	}
	p.update(2000<<20, 1100<<20, 0)
	if err := p.admit(ctx, 1, piece, zdbfs.WriteFlags{Cache: true}); err != nil {
		t.Errorf("room again: %v", err)
	}
}

func TestTransport(t *testing.T) {
	for _, name := range []string{config.TransportAuto, config.TransportBazil} {
		if got, err := transport(name); got != config.TransportBazil || err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if got, err := transport("gofuse"); err == nil {
		t.Errorf("a transport that is not built in became %s", got)
	}
}

// TestRoomIsWaitedFor: a full cache holds a writer up while data leaves, refuses it when nothing does, and at once after
// that, until something leaves again.
func TestRoomIsWaitedFor(t *testing.T) {
	const budget, piece = 100 << 20, 1 << 20
	synctest.Test(t, func(t *testing.T) {
		p := newPressure(time.Minute)
		ask := func() (time.Duration, error) {
			start := time.Now()
			err := p.admit(t.Context(), 1, piece, zdbfs.WriteFlags{})
			return time.Since(start).Truncate(time.Second), err
		}
		later := func(d time.Duration, f func()) { go func() { time.Sleep(d); f() }() }
		p.update(budget, budget, 0)
		later(4*time.Second, func() { p.evicted(0) }) // a segment goes, though not what this writer needs
		later(8*time.Second, func() { p.update(budget, budget-2*piece, 0) })
		if d, err := ask(); err != nil || d != 8*time.Second {
			t.Errorf("room after 8 s: %v after %v", err, d)
		}
		select {
		case <-p.wanted:
		default:
			t.Error("nobody was told that room is wanted")
		}
		p.update(budget, budget, 0)
		for i, want := range []time.Duration{roomPatience, 0, 0} {
			if d, err := ask(); err != syscall.ENOSPC || d != want {
				t.Errorf("nothing leaves, question %d: %v after %v", i, err, d)
			}
		}
		p.update(budget, budget, 0)
		if d, err := ask(); err != syscall.ENOSPC || d != 0 {
			t.Errorf("still nothing leaves: %v after %v", err, d)
		}
		p.evicted(0)
		later(2*time.Second, func() { p.update(budget, 0, 0) })
		if d, err := ask(); err != nil || d != 2*time.Second {
			t.Errorf("something leaves again: %v after %v", err, d)
		}
		// Something always leaves, and never enough.
		p.update(budget, budget, 0)
		for i := range 30 {
			later(time.Duration(i)*time.Second, func() { p.evicted(0) })
		}
		if d, err := ask(); err != syscall.ENOSPC || d != longestWait {
			t.Errorf("never enough: %v after %v", err, d)
		}
		time.Sleep(time.Minute) // the last of them
	})
}

// TestRoomIsTakenOnce: many wait, and what leaves lets in as many as it makes room for. Who waits when everything ends is not
// kept: what the kernel has accepted is taken, the rest refused.
func TestRoomIsTakenOnce(t *testing.T) {
	const budget, piece = 100 << 20, 1 << 20
	synctest.Test(t, func(t *testing.T) {
		p := newPressure(time.Minute)
		p.update(budget, budget, 0)
		var in, out atomic.Int64
		for range 300 {
			go func() {
				if err := p.admit(t.Context(), 1, piece, zdbfs.WriteFlags{}); err == nil {
					in.Add(1)
				} else {
					out.Add(1)
				}
			}()
		}
		time.Sleep(time.Second)
		for i, left := range []int64{0, 4, 3, 0, 2} {
			before := in.Load()
			p.evicted(left * piece)
			time.Sleep(200 * time.Millisecond)
			if n := in.Load() - before; n != left {
				t.Errorf("eviction %d: room for %d was made, %d came in", i, left, n)
			}
		}
		if n := out.Load(); n != 0 {
			t.Fatalf("%d were refused", n)
		}
		var cached error
		go func() { cached = p.admit(t.Context(), 1, piece, zdbfs.WriteFlags{Cache: true}) }()
		time.Sleep(time.Second)
		p.close()
		time.Sleep(200 * time.Millisecond)
		if n := in.Load() + out.Load(); n != 300 || cached != nil {
			t.Errorf("%d of 300 wait no more; a cached write: %v", n, cached)
		}
	})
}
