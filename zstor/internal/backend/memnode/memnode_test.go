package memnode_test

import (
	"errors"
	"testing"

	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/backend/backendtest"
	"qsfs/zstor/internal/backend/memnode"
)

func TestContract(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return memnode.New() })
}

func TestFaults(t *testing.T) {
	n := memnode.New()
	boom := errors.New("boom")
	n.SetFault(func(string, []byte) error { return boom })
	if err := n.Put(t.Context(), []byte("a"), nil); !errors.Is(err, boom) || n.Len() != 0 {
		t.Errorf("lost put: got %v, %d values", err, n.Len())
	}
	n.SetFault(func(string, []byte) error { return memnode.Late(boom) })
	if err := n.Put(t.Context(), []byte("a"), nil); !errors.Is(err, boom) || n.Len() != 1 {
		t.Errorf("late put: got %v, %d values", err, n.Len())
	}
	n.SetFault(nil)
	n.SetDurability(backend.Durability{Unconfirmed: true})
	if err := n.Put(t.Context(), []byte("b"), nil); err != nil {
		t.Fatal(err)
	}
	n.Crash()
	if n.Len() != 1 {
		t.Errorf("after the crash: %d values, want the durable one", n.Len())
	}
	if n.Wipe(); n.Len() != 0 {
		t.Errorf("after the wipe: %d values", n.Len())
	}
}
