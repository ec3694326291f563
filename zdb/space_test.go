package zdb

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync/atomic"
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
	wantValue(t, n, "a", "1")
	wantKeys(t, n, "a")
	if n.view.Load().memory == nil || n.idx != nil {
		t.Error("the index is not in memory")
	}
	b.Reset()
	b.Delete([]byte("a"))
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Errorf("delete with the index in memory: %v", err)
	}
	wantKeys(t, n, "")
	r.mem.SetLimit(16 << 20)
	n.leaveMemory()
	if n.view.Load().memory != nil || n.idx == nil {
		t.Error("the index is still in memory")
	}
	// What statfs said is believed for a moment.
	b.Reset()
	b.Set([]byte("a"), []byte("2"))
	_, err := n.Commit(t.Context(), b)
	for end := time.Now().Add(5 * time.Second); errors.Is(err, ErrNoSpace) && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
		_, err = n.Commit(t.Context(), b)
	}
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, n, "a")
	r.close()
	wantKeys(t, r.open(), "a")
}

// TestMemoryIndex compares an index in memory with the one on the disk, while
// room comes and goes; too many keys are refused.
func TestMemoryIndex(t *testing.T) {
	r := fullRig(t)
	r.ns.InlineMax = 50
	n := r.open()
	want := map[string]string{}
	for i := range 300 {
		k := fmt.Sprintf("k%03d", i%100)
		put(t, n, k, fmt.Sprint(i))
		want[k] = fmt.Sprint(i)
		if i%7 == 0 {
			b := NewBatch()
			b.Delete([]byte(k))
			if _, err := n.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			delete(want, k)
		}
		if i == 150 {
			if _, err := n.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.close()
	r.ns.Ballast = -1
	r.mem.SetLimit(r.mem.Used() + r.o.IndexRoom/2)
	n = r.open()
	for round := range 3 {
		if got := all(t, n); !maps.Equal(got, want) || n.view.Load().memory == nil {
			t.Fatalf("round %d: %d keys, want %d", round, len(got), len(want))
		}
		if got := walk(t, n, IterOptions{Reverse: true, KeysOnly: true}, []byte("k0")); got != "" {
			t.Errorf("before the first key: %q", got)
		}
		r.mem.SetLimit(16 << 20)
		n.leaveMemory()
		k := fmt.Sprintf("round%d", round)
		put(t, n, k, k)
		want[k] = k
		if got := all(t, n); !maps.Equal(got, want) || n.view.Load().memory != nil {
			t.Fatalf("round %d, with room: %d keys, want %d", round, len(got), len(want))
		}
		r.mem.SetLimit(r.mem.Used() + r.o.IndexRoom/2)
		if err := n.apply(t.Context()); !errors.Is(err, ErrNoSpace) {
			t.Errorf("apply without room: %v", err)
		}
		r.close() // leaves the index behind, without closing it
		n = r.open()
	}
	r.close()
	r.o.MemoryIndex = 5000
	n = r.open()
	if _, err := n.Get(t.Context(), []byte("k001")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Get with an index too large for its memory: %v", err)
	}
	r.mem.SetLimit(16 << 20)
	if got := all(t, n); !maps.Equal(got, want) {
		t.Errorf("%d keys in the end, want %d", len(got), len(want))
	}
}

// TestDrain: a disk that others fill fast is as good as full for the index; what
// this process writes itself does not count.
func TestDrain(t *testing.T) {
	var own atomic.Int64
	d := drain{own: &own}
	d.sample(100 << 20)
	d.at = d.at.Add(-time.Second)
	if soon := d.sample(60 << 20); soon > 0 {
		t.Errorf("40 MiB in a second: %d left soon", soon)
	}
	own.Add(30 << 20)
	d.at = d.at.Add(-time.Second)
	if soon := d.sample(30 << 20); soon < 29<<20 {
		t.Errorf("nothing but our own 30 MiB: %d left soon", soon)
	}
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
