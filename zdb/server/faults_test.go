package server

import (
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdb"
	"qsfs/zdb/internal/vfs"
)

// faulty starts a server whose file operations go through before.
func faulty(t *testing.T, before func(vfs.Call) error) *testServer {
	t.Helper()
	return start(t, func(o *Options) {
		o.Engine = func(e *zdb.Options) { e.FS = &vfs.Hook{FS: vfs.OS, Before: before} }
	})
}

// isData tells data segments, which may still have the name that they were made under.
func isData(c vfs.Call) bool { return dataName.MatchString(c.Name) }

var dataName = regexp.MustCompile(`^\.?d[0-9]+`)

// After a failed fsync nothing is acknowledged any more, and what was acknowledged can be read.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	ts := faulty(t, func(c vfs.Call) error {
		if broken.Load() && strings.HasPrefix(c.Op, "Sync") && isData(c) {
			return unix.EIO
		}
		return nil
	})
	w := ts.dial()
	w.want(`"old"`, "SET", "old", "value")
	w.want(`"gone"`, "SET", "gone", "value")
	broken.Store(true)
	w.raw(append(append(append(request("SET", "new", "value"), request("GET", "old")...), request("PING")...), request("DEL", "gone")...))
	for i, want := range []string{"-Cannot write data right now", `"value"`, "+PONG", "-Cannot delete key (data)"} {
		if got := w.reply(); got != want {
			t.Errorf("reply %d: got %s, want %s", i, got, want)
		}
	}
	broken.Store(false) // the disk may be fine again; what it dropped is not known
	w.play([]step{
		do("-Cannot write data right now", "SET", "new", "other"), do("-Cannot write data right now", "CAS", "x", "y"),
		do(`"value"`, "GET", "old"), do(":1", "EXISTS", "old"), do(":1", "CHECK", "old"), do("nil", "GET", "never"), do("+PONG", "PING"),
		do("-Internal Error", "GET", "new"), // it is there, but nobody may rely on it
	})
	if info := ts.info(w, "default"); info["writable"] != "no" || info["stats_data_io_errors"] == "0" {
		t.Errorf("NSINFO says writable %s, %s errors", info["writable"], info["stats_data_io_errors"])
	}
	ts.Close()
	ts.open()
	w = ts.dial()
	w.want(`"value"`, "GET", "old")
	w.want(`"new"`, "SET", "new", "once more")
}

// A full disk refuses writes, not reads, and takes writes again when it has room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	ts := faulty(t, func(c vfs.Call) error {
		if full.Load() && c.Op == "WriteAt" && isData(c) {
			return unix.ENOSPC
		}
		return nil
	})
	w := ts.dial()
	w.want(`"old"`, "SET", "old", "value")
	full.Store(true)
	w.play([]step{
		do("-Cannot write data right now", "SET", "new", strings.Repeat("x", 10000)), do("-Cannot write data right now", "CAS", "cas", "x"),
		do(`"value"`, "GET", "old"), do("nil", "GET", "new"), do(":1", "DBSIZE"),
	})
	full.Store(false)
	w.play([]step{do(`"new"`, "SET", "new", "x"), do("+OK", "DEL", "old"), do(":1", "DBSIZE")})
	ts.reopen()
	ts.dial().play([]step{do("nil", "GET", "old"), do(`"x"`, "GET", "new"), do(":1", "DBSIZE")})
}

// Nobody sees what a crash could take back: a value that is not durable yet, or the absence of one whose delete is not.
// Everything else is answered meanwhile.
func TestReadsWaitForDurability(t *testing.T) {
	var hold atomic.Pointer[chan struct{}]
	ts := faulty(t, func(c vfs.Call) error {
		if h := hold.Load(); h != nil && strings.HasPrefix(c.Op, "Sync") && isData(c) {
			<-*h
		}
		return nil
	})
	writer, reader, other := ts.dial(), ts.dial(), ts.dial()
	writer.want(`"old"`, "SET", "old", "value")
	writer.want(`"gone"`, "SET", "gone", "value")
	writer.want(`"far"`, "SET", "far", "value")
	release := make(chan struct{})
	hold.Store(&release)
	writer.send("SET", "new", "value")
	writer.send("DEL", "gone")
	served := ts.lookup("default")
	eventually(t, "the delete is committed", func() bool { return served.entries.Load() == 3 && served.lastDelete.Load() > 0 })
	other.play([]step{do("+PONG", "PING"), do(`"value"`, "GET", "far"), do(":1", "EXISTS", "old")})
	waiting := []string{"GET new", "EXISTS new", "GET gone", "MGET old new", "CAS new other", "SET new value", "CHECK new", "PSCAN n"}
	for _, cmd := range waiting {
		reader.send(strings.Fields(cmd)...)
	}
	reader.nc.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if v, err := reader.in.Read(); err == nil {
		t.Errorf("answered before it was durable: %s", show(v))
	}
	close(release)
	hold.Store(nil)
	for i, want := range []string{`"new"`, "+OK"} {
		if got := writer.reply(); got != want {
			t.Errorf("writer's reply %d: got %s, want %s", i, got, want)
		}
	}
	for i, want := range []string{`"value"`, ":1", "nil", `["value" "value"]`, `"value"`, "nil", ":1", `[nil ["new"]]`} {
		if got := reader.reply(); got != want {
			t.Errorf("%s: got %s, want %s", waiting[i], got, want)
		}
	}
}

// Without sync, replies do not wait.
func TestNoSync(t *testing.T) {
	t.Parallel()
	var hold atomic.Bool
	release := make(chan struct{})
	ts := start(t, func(o *Options) {
		o.NoSync = true
		o.Engine = func(e *zdb.Options) {
			e.FS = &vfs.Hook{FS: vfs.OS, Before: func(c vfs.Call) error {
				if hold.Load() && strings.HasPrefix(c.Op, "Sync") && isData(c) {
					<-release
				}
				return nil
			}}
		}
	})
	w := ts.dial()
	w.want(`"first"`, "SET", "first", "x")
	hold.Store(true)
	w.play([]step{do(`"k"`, "SET", "k", "v"), do(`"v"`, "GET", "k"), do("+OK", "DEL", "k"), do("nil", "GET", "k"), do(":1", "CAS", "k", "w")})
	hold.Store(false)
	close(release)
}
