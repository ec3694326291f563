package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qsfs/zdb"
)

// A stop answers what has arrived.
func TestShutdownDrains(t *testing.T) {
	ts := start(t, nil)
	idle, busy, half := ts.dial(), ts.dial(), ts.dial()
	idle.want("+PONG", "PING")
	half.raw([]byte("*1\r\n$4\r\nPI"))
	const n = 500
	var stream []byte
	for i := range n {
		stream = append(stream, request("SET", fmt.Sprintf("k%d", i), "v")...)
	}
	busy.raw(stream)
	if got := busy.reply(); got != `"k0"` {
		t.Fatal(got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := ts.Shutdown(ctx); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	if ctx.Err() != nil {
		t.Error("the stop took until its deadline")
	}
	acknowledged := 1
	for got := busy.reply(); !strings.HasPrefix(got, "broken"); got = busy.reply() {
		if got != fmt.Sprintf(`"k%d"`, acknowledged) {
			t.Fatalf("reply %d is %s", acknowledged, got)
		}
		acknowledged++
	}
	idle.closed()
	half.closed()
	if _, err := net.Dial("tcp", ts.address); err == nil {
		t.Error("the server still accepts")
	}
	ts.open()
	w := ts.dial()
	for i := range acknowledged {
		w.want(`"v"`, "GET", fmt.Sprintf("k%d", i))
	}
	if err := errors.Join(ts.Close(), ts.Close()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

// A client that does not read cannot hold up a stop.
func TestShutdownCutsOffSlowReaders(t *testing.T) {
	ts := start(t, nil)
	w := ts.dial()
	w.want(`"big"`, "SET", "big", strings.Repeat("v", 4<<20))
	var stream []byte
	for range 50 {
		stream = append(stream, request("GET", "big")...)
	}
	w.raw(stream)
	eventually(t, "the server is writing", func() bool { return ts.stats.bytesOut.Load() > 1<<20 })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := ts.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("the stop took %v", d)
	}
}

func TestUnixSocket(t *testing.T) {
	ts := start(t, nil)
	path := filepath.Join(t.TempDir(), "zdb.sock")
	l, err := Listen(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- ts.Serve(l) }()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: mode %v, %v", info.Mode(), err)
	}
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Write(request("PING")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := nc.Read(got); err != nil || string(got) != "+PONG\r\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := Listen(t.Context(), "unix:"+path); err == nil {
		t.Error("the socket of a running server was taken")
	}
	ts.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	// What a killed server leaves behind is replaced; what is no socket is not.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	l, err = Listen(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), "unix:"+path); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

func TestOpenFaults(t *testing.T) {
	if err := (Options{Protect: true, SegmentSize: -1}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("four faults are reported as: %v", err)
	}
	ts := start(t, nil)
	if _, err := Open(t.Context(), ts.o); !errors.Is(err, zdb.ErrLocked) {
		t.Errorf("the directory of a running server: %v", err)
	}
}
