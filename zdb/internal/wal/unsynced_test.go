package wal

import (
	"sync/atomic"
	"testing"
	"time"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// failingSync makes fsyncs fail while it is armed; once limits that to one, as the kernel reports an error once.
func failingSync(mem *vfs.Mem, armed *atomic.Bool, once bool) vfs.FS {
	return &vfs.Hook{FS: mem, Before: func(c vfs.Call) error {
		if c.Op == "SyncData" && armed.Load() && (!once || armed.CompareAndSwap(true, false)) {
			return errFault
		}
		return nil
	}}
}

// TestZerosTakeTheError: the fsync of the zeros ahead is told of the lost page, and nobody else is.
func TestZerosTakeTheError(t *testing.T) {
	r := newRig(t)
	r.o.Prewrite, r.o.SegmentSize = true, 16<<20
	var armed atomic.Bool
	armed.Store(true)
	r.o.FS = failingSync(r.mem, &armed, true)
	r.open()
	r.put("a")
	for end := time.Now().Add(5 * time.Second); armed.Load() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if armed.Load() {
		t.Fatal("no fsync of zeros")
	}
	if err := r.l.Sync(t.Context()); err == nil {
		t.Error("Sync acknowledged what an fsync before it had lost")
	}
}

// TestCleanMarkerThatWasNotSynced: a marker whose fsync failed is not believed, so nothing is announced that is not on the disk.
func TestCleanMarkerThatWasNotSynced(t *testing.T) {
	r := newRig(t)
	var armed atomic.Bool
	r.o.FS = failingSync(r.mem, &armed, false)
	r.open()
	r.put("a")
	r.sync()
	armed.Store(true)
	if err := r.l.Close(); err == nil {
		t.Fatal("Close did not say that its fsync failed")
	}
	r.l, r.o.FS = nil, nil // the page cache is still there
	r.open()
	if r.l.Found().Clean {
		t.Error("the marker is believed")
	}
	d := r.l.Durable()
	crashed := r.mem.CrashClone(nil)
	r.stop()
	r.mem = crashed
	r.o.KnownDurable = map[segfile.ID]int64{d.Segment: d.Offset}
	if err := r.try(); err != nil {
		t.Errorf("what was announced as durable is not on the disk: %v", err)
	}
}

// TestNeedsBelowTheBound: what is known to be durable is never cut, whatever the other log has lost.
func TestNeedsBelowTheBound(t *testing.T) {
	r := newRig(t)
	r.open()
	for _, b := range []struct {
		needs segfile.Seq
		key   string
	}{{5, "a"}, {10, "b"}, {10, "c"}, {10, "d"}} {
		if err := r.append(b.needs, b.key); err != nil {
			t.Fatal(err)
		}
		r.sync()
	}
	r.powerOff()
	r.o.NeedsHead = func() segfile.Seq { return 5 }
	if err := r.try(); err == nil {
		t.Errorf("the log was cut below what had been durable, left: %v", r.keys())
	}
}
