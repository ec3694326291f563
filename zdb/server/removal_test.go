package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"qsfs/zdb"
	"qsfs/zdb/internal/vfs"
)

// What takes long in a namespace holds up who removes it and nobody else: no other client, no other admin.
func TestRemovalStallsNobody(t *testing.T) {
	ts := start(t, nil)
	w, other := ts.adminWire(), ts.adminWire()
	w.want("+OK", "NSNEW", "busy")
	n := ts.lookup("busy")
	if _, err := n.acquire(context.Background()); err != nil { // a command that takes its time
		t.Fatal(err)
	}
	w.send("NSDEL", "busy")
	eventually(t, "the removal has begun", func() bool { return ts.lookup("busy") == nil })
	other.play([]step{
		do("+OK", "NSNEW", "next"), do("+OK", "NSSET", "next", "worm", "1"), do("+OK", "NSDEL", "next"), do("-Namespace not found", "SELECT", "busy"),
		do(`["default"]`, "NSLIST"), do("-This namespace doesn't exists", "NSDEL", "busy"), do("[]", "KEPT", "LIST"),
		do("+OK", "NSNEW", "busy"), do("+OK", "SELECT", "busy"), do(`"k"`, "SET", "k", "new"), // the name is free, with files of its own
	})
	n.release()
	if got := w.reply(); got != "+OK" {
		t.Errorf("NSDEL: %s", got)
	}
	other.play([]step{do(`"new"`, "GET", "k"), do(":1", "DBSIZE")})
	ts.reopen()
	ts.dial().play([]step{do("+OK", "SELECT", "busy"), do(`"new"`, "GET", "k")})
}

// A flush does not make the other sessions of the namespace wait for what is still under way there.
func TestFlushStallsNobody(t *testing.T) {
	ts := start(t, nil)
	ts.adminWire().private("ns", "secret")
	w, other := ts.dial(), ts.dial()
	for _, c := range []*wire{w, other} {
		c.want("+OK", "SELECT", "ns", "secret")
	}
	w.want(`"k"`, "SET", "k", "v")
	n := ts.lookup("ns")
	if _, err := n.acquire(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.send("FLUSH")
	eventually(t, "the flush has begun", func() bool { return ts.lookup("ns") != n })
	other.play([]step{do("nil", "GET", "k"), do(`"l"`, "SET", "l", "new"), do(`"new"`, "GET", "l"), do(":1", "DBSIZE")})
	n.release()
	if got := w.reply(); got != "+OK" {
		t.Errorf("FLUSH: %s", got)
	}
	w.play([]step{do("nil", "GET", "k"), do(`"new"`, "GET", "l")})
	data, _ := n.paths(0)
	if _, err := os.Stat(filepath.Dir(data)); !os.IsNotExist(err) {
		t.Errorf("the files of before are still there: %v", err)
	}
	w.want("+OK", "FLUSH")
	w.want(":0", "DBSIZE")
}

// Files that cannot be removed keep the namespace gone, over other changes of the list and over a restart.
func TestRemovalThatFails(t *testing.T) {
	t.Parallel()
	var fail atomic.Bool
	ts := start(t, func(o *Options) {
		o.Engine = func(e *zdb.Options) {
			e.FS = &vfs.Hook{FS: vfs.OS, Before: func(c vfs.Call) error {
				if fail.Load() && c.Op == "Rename" && strings.HasSuffix(c.Name, "going") {
					return errors.New("no")
				}
				return nil
			}}
		}
	})
	w := ts.adminWire()
	w.play([]step{do("+OK", "NSNEW", "going"), do("+OK", "NSNEW", "other"), do("+OK", "SELECT", "going"), do(`"k"`, "SET", "k", "v"), do("+OK", "SELECT", "other")})
	fail.Store(true)
	w.play([]step{do("-Could not delete this namespace", "NSDEL", "going"), do(`["default" "other"]`, "NSLIST"), do("+OK", "NSSET", "other", "worm", "1"),
		do("+OK", "NSNEW", "going"), do("+OK", "SELECT", "going"), do("nil", "GET", "k"), do(`"n"`, "SET", "n", "new")})
	there := func() bool {
		_, err := os.Stat(filepath.Join(ts.o.DataDir, "going"))
		return !os.IsNotExist(err)
	}
	for range 2 {
		ts.reopen() // while they still cannot be removed, the rest is served
		ts.adminWire().play([]step{do("+OK", "SELECT", "going"), do("nil", "GET", "k"), do(`"new"`, "GET", "n"), do("[]", "KEPT", "LIST")})
		if !fail.Swap(false) {
			break
		}
		if !there() {
			t.Error("what could not be removed is not there")
		}
	}
	eventually(t, "what could not be removed goes", func() bool { return !there() })
}

// A removal that failed because the list of namespaces could not be made durable has not happened, whatever list is in place: what
// is written since is there after a restart.
func TestListIsNotSynced(t *testing.T) {
	t.Parallel()
	for _, failures := range []int64{1, 2} { // with 2 the list in force cannot be saved either, at first
		var left atomic.Int64
		var renamed atomic.Bool
		ts := faulty(t, func(c vfs.Call) error {
			switch {
			case left.Load() > 0 && c.Op == "Rename" && c.Name == registryName:
				renamed.Store(true)
			case c.Op == "SyncDir" && renamed.CompareAndSwap(true, false):
				left.Add(-1)
				return unix.EIO
			}
			return nil
		})
		admin := ts.adminWire()
		admin.private("ns", "secret")
		w := ts.dial()
		w.play([]step{do("+OK", "SELECT", "ns", "secret"), do(`"k"`, "SET", "k", "v")})
		left.Store(failures)
		w.play([]step{do("-"+errFlush, "FLUSH"), do(`"l"`, "SET", "l", "since")})
		if left.Load() != 0 {
			t.Fatalf("%d failures are left", left.Load())
		}
		left.Store(failures)
		admin.want("-"+errCannotDrop, "NSDEL", "ns")
		w.want(`"m"`, "SET", "m", "since")
		if failures > 1 {
			ts.admin.Lock()
			if err := ts.saveAgain(); err != nil {
				t.Error(err)
			}
			ts.admin.Unlock()
		}
		ts.reopen()
		ts.dial().play([]step{do("+OK", "SELECT", "ns", "secret"), do(`"v"`, "GET", "k"), do(`"since"`, "GET", "l"), do(`"since"`, "GET", "m")})
	}
}
