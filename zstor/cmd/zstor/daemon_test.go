package main

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestWatchdogPatsUntilTheEnd: the pats stop when the daemon has stopped, not when it is told to.
func TestWatchdogPatsUntilTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "60000")
	t.Setenv("WATCHDOG_PID", "")
	pat := func(within time.Duration) bool {
		t.Helper()
		if err := l.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		n, err := l.Read(b)
		if err == nil && string(b[:n]) != "WATCHDOG=1" {
			t.Fatalf("got %q", b[:n])
		}
		return err == nil
	}
	end := watchdog(slog.New(slog.DiscardHandler))
	for range 3 {
		if !pat(10 * time.Second) {
			t.Fatal("no pat")
		}
	}
	end()
	for n := 0; pat(100 * time.Millisecond); n++ {
		if n > 1000 {
			t.Fatal("it goes on")
		}
	}

	t.Setenv("WATCHDOG_USEC", "")
	watchdog(slog.New(slog.DiscardHandler))() // systemd does not watch
	if pat(100 * time.Millisecond) {
		t.Error("a pat that nobody asked for")
	}
}
