package backend_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/backend/backendtest"
	"qsfs/zstor/internal/backend/memnode"
)

func newPeer(n *memnode.Node) *backend.Peer {
	p := backend.NewPeer(n, backend.PeerOptions{ID: "n", Group: "g"})
	for i := 0; !p.Up() && i < 1000; i++ {
		time.Sleep(time.Millisecond)
	}
	return p
}

func TestPeerContract(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return newPeer(memnode.New()) })
}

func TestPeerNoticesDownAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnode.New()
		p := newPeer(n)
		defer p.Close()
		n.SetDown(true)
		if err := p.Put(t.Context(), []byte("a"), nil); !errors.Is(err, backend.ErrDown) {
			t.Fatalf("got %v", err)
		}
		if p.Up() {
			t.Fatal("still up")
		}
		before := n.Counts().Puts
		n.SetDown(false)
		start := time.Now()
		for !p.Up() {
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("noticed after %v", d)
		}
		if err := p.Put(t.Context(), []byte("a"), nil); err != nil || n.Counts().Puts != before+1 {
			t.Errorf("after the return: %v", err)
		}
	})
}

func TestPeerTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnode.New()
		p := newPeer(n)
		defer p.Close()
		n.SetDelay(time.Hour)
		start := time.Now()
		_, err := p.Get(t.Context(), []byte("a"))
		if err == nil || errors.Is(err, backend.ErrAbsent) {
			t.Fatalf("got %v", err)
		}
		if d := time.Since(start); d != 15*time.Second {
			t.Errorf("after %v", d)
		}
		if p.Up() {
			t.Error("still up")
		}
	})
}

func TestPeerKeepsAbsentApart(t *testing.T) {
	p := newPeer(memnode.New())
	defer p.Close()
	if _, err := p.Get(t.Context(), []byte("a")); !errors.Is(err, backend.ErrAbsent) {
		t.Fatalf("got %v", err)
	}
	if !p.Up() || p.Health().Failures != 0 {
		t.Errorf("an answer was taken for a failure: %+v", p.Health())
	}
}
