package vfs

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A lock that was closed is free, whoever else has its file: a process that was forked meanwhile has, until it executes its program.
func TestLockIsFreeOnceClosed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	l, err := OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OS.Lock(name); err == nil {
		t.Fatal("it was locked twice")
	}
	forked, err := unix.Dup(int(l.(fileLock).Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(forked)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = OS.Lock(name); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
