package watch

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func touch(t *testing.T, parts ...string) {
	t.Helper()
	p := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestNumbered(t *testing.T) {
	dir := t.TempDir()
	if got, err := Sealed(dir, "ns"); err != nil || got != nil {
		t.Fatalf("no namespace yet: got %v, %v", got, err)
	}
	for _, f := range []string{"i0", "i10", "i9", "i010", "i10.tmp", "i", "ix", "i-1", "i4294967296", "badger"} {
		touch(t, dir, "index", "ns", f)
	}
	got, err := Sealed(dir, "ns")
	if err != nil || !slices.Equal(got, []uint32{0, 9, 10}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func waitKick(t *testing.T, w *Watcher, what string) {
	t.Helper()
	select {
	case <-w.C():
	case <-time.After(10 * time.Second):
		t.Fatalf("no wake-up after %s", what)
	}
}

func TestWatcherSeesSealsAndNewNamespaces(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "index", "a", "i0")
	w := New(dir, []string{"a", "b"}, time.Hour, slog.New(slog.DiscardHandler))
	defer w.Close()
	waitKick(t, w, "start")
	touch(t, dir, "index", "a", "tmp")
	if err := os.Rename(filepath.Join(dir, "index", "a", "tmp"), filepath.Join(dir, "index", "a", "i1")); err != nil {
		t.Fatal(err)
	}
	waitKick(t, w, "a seal by rename")
	if err := os.Mkdir(filepath.Join(dir, "index", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	waitKick(t, w, "a new namespace")
	touch(t, dir, "index", "b", "i0")
	waitKick(t, w, "a seal in it")
}

func TestRescanWithoutEvents(t *testing.T) {
	dir := t.TempDir()
	w := New(dir, []string{"a"}, 10*time.Millisecond, slog.New(slog.DiscardHandler))
	defer w.Close()
	for range 3 {
		waitKick(t, w, "rescan")
	}
}
