package wal

import (
	"errors"
	"sync/atomic"
	"testing"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// TestEvictWhileOpening: a reader that opened the file just before it was evicted
// reads on, and the removed file does not stay open.
func TestEvictWhileOpening(t *testing.T) {
	r := newRig(t)
	var evict atomic.Bool
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if c.Op == "Open" && c.Name == "d0" && evict.CompareAndSwap(true, false) {
			// The open below happens after the eviction has looked for handles: keep the name for it.
			r.l.mu.Lock()
			r.l.segments[0].local = false
			r.l.mu.Unlock()
		}
		return nil
	}}
	r.open()
	var b batch.Builder
	b.Set([]byte("k"), []byte("value"))
	a, err := r.l.Append(t.Context(), &b, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	loc := segfile.Location{Segment: a.Segment, Offset: a.Offset + int64(b.Items()[0].Value), Length: 5}
	if _, err := r.l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := r.l.o.Handles
	if err := h.Forget(dir + "/d0"); err != nil {
		t.Fatal(err)
	}
	evict.Store(true)
	p := make([]byte, 5)
	if err := r.l.ReadValue(t.Context(), loc, 0, p); err != nil || string(p) != "value" {
		t.Errorf("read %q, %v", p, err)
	}
	if evict.Load() {
		t.Fatal("the file was not opened")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[dir+"/d0"] != nil {
		t.Error("the removed file stays open")
	}
}

// TestHandles bounds the idle files and closes a forgotten one with its last user.
func TestHandles(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	names := []string{"/d/a", "/d/b", "/d/c", "/d/d"}
	for _, name := range names {
		if _, err := mem.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	h := NewHandles(mem, 2)
	a, err := h.Acquire(names[0])
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.Acquire(names[0])
	if err != nil || again != a {
		t.Errorf("second Acquire: another handle, %v", err)
	}
	for _, name := range names[1:] {
		f, err := h.Acquire(name)
		if err == nil {
			err = f.Release()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if h.idle.Len() != 2 || len(h.open) != 3 {
		t.Errorf("%d idle of %d open, want 2 of 3", h.idle.Len(), len(h.open))
	}
	if err := errors.Join(h.Forget(names[0]), h.Forget(names[3]), h.Forget("/d/none")); err != nil {
		t.Error(err)
	}
	if h.idle.Len() != 1 || len(h.open) != 1 {
		t.Errorf("%d idle of %d open after Forget, want 1 of 1", h.idle.Len(), len(h.open))
	}
	if _, err := a.ReadAt(nil, 0); err != nil && err.Error() != "EOF" {
		t.Errorf("read through a forgotten handle: %v", err)
	}
	if err := errors.Join(a.Release(), again.Release(), h.Close()); err != nil {
		t.Error(err)
	}
	if _, err := h.Acquire("/d/none"); !errors.Is(err, vfs.ErrNotExist) {
		t.Errorf("Acquire of no file: %v", err)
	}
}
