package zdb

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// fullRig has a disk of 16 MiB with a reserve of 1 MiB and a ballast of 2 MiB.
func fullRig(t *testing.T) *rig {
	r := newRig(t)
	r.o.Reserve, r.o.IndexRoom = 1<<20, 256<<10
	r.ns.Ballast = 2 << 20
	r.ns.SegmentSize = 1 << 20
	r.mem.SetLimit(16 << 20)
	return r
}

func free(r *rig) int64 {
	n, _ := r.mem.Free("")
	return n
}

// fill commits until the disk is said to be full.
func fill(t *testing.T, n *Namespace) int {
	t.Helper()
	value := make([]byte, 100<<10)
	for i := range 1000 {
		b := NewBatch()
		b.Set(fmt.Appendf(nil, "k%04d", i), value)
		if _, err := n.Commit(t.Context(), b); err != nil {
			if !errors.Is(err, ErrNoSpace) {
				t.Fatal(err)
			}
			return i
		}
		time.Sleep(100 * time.Microsecond)
	}
	t.Fatal("the disk is never full")
	return 0
}

// TestReserve: writes are refused before the reserve, deletes are taken, and
// writes again when there is room again.
func TestReserve(t *testing.T) {
	r := fullRig(t)
	n := r.open()
	if _, err := r.mem.Stat(filepath.Join(r.dir, "index", "ns", ballastName)); err != nil {
		t.Fatalf("no ballast: %v", err)
	}
	keys := fill(t, n)
	if keys < 100 || free(r) < 700<<10 {
		t.Errorf("%d keys, %d bytes free", keys, free(r))
	}
	if !n.Stats().NoSpace {
		t.Error("Stats does not say so")
	}
	for i := range keys {
		b := NewBatch()
		b.Delete(fmt.Appendf(nil, "k%04d", i))
		if _, err := n.Commit(t.Context(), b); err != nil {
			t.Fatalf("delete %d: %v", i, err)
		}
	}
	b := NewBatch()
	b.Set([]byte("inode"), make([]byte, 200<<10))
	b.Delete([]byte("dirent"))
	if _, err := n.Commit(t.Context(), b); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a batch with a set: %v", err)
	}
	b.UseReserve()
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Errorf("a batch that may use the reserve: %v", err)
	}
	wantKeys(t, n, "inode")
	r.mem.SetLimit(64 << 20)
	time.Sleep(2 * spaceAge)
	put(t, n, "again", "1")
	wantKeys(t, n, "again inode")
}

// TestLastBlock: somebody else fills the disk to the last block, ballast and all.
// Nothing is lost, and the next opening finds its way.
func TestLastBlock(t *testing.T) {
	r := fullRig(t)
	n := r.open()
	put(t, n, "a", "1", "b", "2")
	if err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.mem.SetLimit(r.mem.Used() + 10)
	b := NewBatch()
	b.Set([]byte("c"), []byte("3"))
	if _, err := n.Commit(t.Context(), b); !errors.Is(err, ErrNoSpace) {
		t.Errorf("commit on a full disk: %v", err)
	}
	// A delete makes the ballast go, and finds room.
	b.Reset()
	b.Delete([]byte("b"))
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatalf("delete on a full disk: %v", err)
	}
	if _, err := r.mem.Stat(filepath.Join(r.dir, "index", "ns", ballastName)); err == nil {
		t.Error("the ballast is still there")
	}
	if err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Now what the ballast had is taken too.
	r.mem.SetLimit(r.mem.Used())
	b.Reset()
	b.Delete([]byte("a"))
	if _, err := n.Commit(t.Context(), b); !errors.Is(err, ErrNoSpace) {
		t.Errorf("delete without a byte left: %v", err)
	}
	r.kill()
	if err := r.try(); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("open without a byte left: %v", err)
	}
	if err := r.try(); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("open again: %v", err)
	}
	r.mem.SetLimit(r.mem.Used() + 8<<10)
	n = r.open() // enough for the log, not for the index
	if _, err := n.Get(t.Context(), []byte("a")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Get without room for the index: %v", err)
	}
	r.mem.SetLimit(16 << 20)
	wantKeys(t, n, "a")
	r.close()
	wantKeys(t, r.open(), "a")
}

// TestBallastComesBack when there is room again.
func TestBallastComesBack(t *testing.T) {
	r := fullRig(t)
	n := r.open()
	path := filepath.Join(r.dir, "index", "ns", ballastName)
	if !n.space.release() || n.space.release() {
		t.Fatal("release")
	}
	n.space.keep()
	if _, err := r.mem.Stat(path); err == nil {
		t.Error("the ballast is back at once")
	}
	n.space.tried = time.Now().Add(-ballastRetry)
	n.space.keep()
	if info, err := r.mem.Stat(path); err != nil || info.Size != 2<<20 {
		t.Errorf("ballast: %+v, %v", info, err)
	}
	r.close()
	if !r.open().space.held {
		t.Error("the ballast is not known after a restart")
	}
}
