package server

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"qsfs/zdb"
	"qsfs/zdb/internal/vfs"
)

// A fullDisk has no block and no inode left from fill on, but for what files have already, until some are removed.
type fullDisk struct {
	full  atomic.Bool
	turns atomic.Int64 // lists of namespaces that came into place while it was full
}

func (d *fullDisk) before(c vfs.Call) error {
	if !d.full.Load() {
		return nil
	}
	switch c.Op {
	case "Create", "MkdirAll", "Allocate":
		return unix.ENOSPC
	case "WriteAt":
		if !strings.HasPrefix(c.Name, spareName) {
			return unix.ENOSPC
		}
	case "Rename":
		if c.Name == registryName {
			d.turns.Add(1)
		}
	case "RemoveAll":
		d.full.Store(false)
	}
	return nil
}

// On a disk without a block left what frees room works: FLUSH, NSDEL, and KEPT DROP after a FLUSH that kept everything. What
// frees nothing fails, and changes nothing.
func TestFullDiskIsEmptied(t *testing.T) {
	t.Parallel()
	var disk fullDisk
	ts := faulty(t, disk.before)
	w := ts.adminWire()
	for _, name := range []string{"flushed", "kept"} {
		w.private(name, "secret")
	}
	w.play([]step{do("+OK", "NSNEW", "dropped"), do("+OK", "NSSET", "kept", "keep_deleted", "1d")})
	for _, name := range []string{"flushed", "kept", "dropped"} {
		w.play([]step{do("+OK", "SELECT", name, "secret"), do(`"k"`, "SET", "k", "v")})
	}
	fill := func() {
		disk.turns.Store(0)
		disk.full.Store(true)
	}
	emptied := func(lists int64, steps ...step) {
		t.Helper()
		fill()
		w.play([]step{do("-Could not create namespace", "NSNEW", "new"), do("-"+errCannotSaveProp, "NSSET", "dropped", "worm", "1"), do("-Cannot write data right now", "SET", "new", "v")})
		if disk.turns.Load() != 0 {
			t.Error("a list that frees nothing took the room that was kept")
		}
		w.play(steps)
		if got := disk.turns.Load(); got != lists || disk.full.Load() {
			t.Errorf("%d lists came into place on the full disk, want %d; is it full: %v", got, lists, disk.full.Load())
		}
	}
	w.want("+OK", "SELECT", "flushed", "secret")
	emptied(1, do("+OK", "FLUSH"))
	w.play([]step{do("nil", "GET", "k"), do(`"n"`, "SET", "n", "new"), do("+OK", "SELECT", "kept", "secret")})

	emptied(1, do("+OK", "NSDEL", "dropped"))

	fill()
	w.want("+OK", "FLUSH")
	removed := ts.allRemoved()
	if len(removed) != 1 || !disk.full.Load() {
		t.Fatalf("%d are set aside; is the disk full: %v", len(removed), disk.full.Load())
	}
	w.want("+OK", "KEPT", "DROP", removed[0].name)
	if got := disk.turns.Load(); got != 2 || disk.full.Load() {
		t.Errorf("%d lists came into place on the full disk, want 2; is it full: %v", got, disk.full.Load())
	}
	w.play([]step{do("nil", "GET", "k"), do(`"n"`, "SET", "n", "new")})

	ts.reopen()
	w = ts.adminWire()
	w.play([]step{
		do(`["default" "flushed" "kept"]`, "NSLIST"), do("[]", "KEPT", "LIST"),
		do("+OK", "SELECT", "flushed", "secret"), do("nil", "GET", "k"), do(`"new"`, "GET", "n"),
		do("+OK", "SELECT", "kept", "secret"), do("nil", "GET", "k"), do(`"new"`, "GET", "n"),
	})
	// The room is there from the start on, also where the disk was full when the server started.
	ts.Close()
	<-ts.served
	ts.o.Engine = func(e *zdb.Options) {
		e.FS = &vfs.Hook{FS: vfs.OS, Before: func(c vfs.Call) error {
			if c.Op == "Allocate" {
				return unix.ENOSPC
			}
			return nil
		}}
	}
	ts.open()
	eventually(t, "the room of before is found", func() bool {
		ts.Server.admin.Lock()
		defer ts.Server.admin.Unlock()
		return !slices.Contains(ts.spares.sizes[:], 0)
	})
}
