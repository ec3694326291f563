package service

import (
	"context"
	"syscall"
	"testing"
	"time"

	"qsfs/zdbfs"
	"qsfs/zstor/config"
)

// TestCachedWritesHaveTheirReserve: what write(2) has accepted is taken also when the budget shrinks
// below what is here, and no more than the reserve.
func TestCachedWritesHaveTheirReserve(t *testing.T) {
	p := &pressure{maxAge: time.Minute}
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
