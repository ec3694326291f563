package vfs

import (
	"io"
	"path/filepath"
	"sync/atomic"
)

// Call is one operation that a Hook sees before it happens.
type Call struct {
	N    int64  // counts calls, from 1
	Op   string // name of the method
	Name string // base name of the file
	Len  int    // of what is read or written
}

// Hook wraps a file system: every call first goes through Before, and does not
// happen when that returns an error. It is how tests fail the n-th call, or take a crash clone there.
type Hook struct {
	FS
	Before func(Call) error
	n      atomic.Int64
}

// Calls is the number of calls so far.
func (h *Hook) Calls() int64 { return h.n.Load() }

func (h *Hook) call(op, name string, n int) error {
	c := Call{N: h.n.Add(1), Op: op, Name: filepath.Base(name), Len: n}
	if h.Before == nil {
		return nil
	}
	return h.Before(c)
}

func (h *Hook) wrap(f File, err error, name string) (File, error) {
	if err != nil {
		return nil, err
	}
	return &hookFile{File: f, h: h, name: name}, nil
}

// Create and the rest ask Before, then pass on.
func (h *Hook) Create(name string) (File, error) {
	if err := h.call("Create", name, 0); err != nil {
		return nil, err
	}
	f, err := h.FS.Create(name)
	return h.wrap(f, err, name)
}

// Open passes on.
func (h *Hook) Open(name string, write bool) (File, error) {
	if err := h.call("Open", name, 0); err != nil {
		return nil, err
	}
	f, err := h.FS.Open(name, write)
	return h.wrap(f, err, name)
}

// Remove passes on.
func (h *Hook) Remove(name string) error {
	if err := h.call("Remove", name, 0); err != nil {
		return err
	}
	return h.FS.Remove(name)
}

// RemoveAll passes on.
func (h *Hook) RemoveAll(name string) error {
	if err := h.call("RemoveAll", name, 0); err != nil {
		return err
	}
	return h.FS.RemoveAll(name)
}

// Rename passes on.
func (h *Hook) Rename(oldName, newName string) error {
	if err := h.call("Rename", newName, 0); err != nil {
		return err
	}
	return h.FS.Rename(oldName, newName)
}

// MkdirAll passes on.
func (h *Hook) MkdirAll(name string) error {
	if err := h.call("MkdirAll", name, 0); err != nil {
		return err
	}
	return h.FS.MkdirAll(name)
}

// List passes on.
func (h *Hook) List(dir string) ([]string, error) {
	if err := h.call("List", dir, 0); err != nil {
		return nil, err
	}
	return h.FS.List(dir)
}

// Stat passes on.
func (h *Hook) Stat(name string) (Info, error) {
	if err := h.call("Stat", name, 0); err != nil {
		return Info{}, err
	}
	return h.FS.Stat(name)
}

// SyncDir passes on.
func (h *Hook) SyncDir(dir string) error {
	if err := h.call("SyncDir", dir, 0); err != nil {
		return err
	}
	return h.FS.SyncDir(dir)
}

// Free passes on.
func (h *Hook) Free(name string) (int64, error) {
	if err := h.call("Free", name, 0); err != nil {
		return 0, err
	}
	return h.FS.Free(name)
}

// Lock passes on without asking: it changes nothing.
func (h *Hook) Lock(name string) (io.Closer, error) { return h.FS.Lock(name) }

type hookFile struct {
	File
	h    *Hook
	name string
}

func (f *hookFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.h.call("ReadAt", f.name, len(p)); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *hookFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.h.call("WriteAt", f.name, len(p)); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *hookFile) Sync() error {
	if err := f.h.call("Sync", f.name, 0); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *hookFile) SyncData() error {
	if err := f.h.call("SyncData", f.name, 0); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *hookFile) WriteBack(off, n int64) error {
	if err := f.h.call("WriteBack", f.name, int(n)); err != nil {
		return err
	}
	return f.File.WriteBack(off, n)
}

func (f *hookFile) Truncate(size int64) error {
	if err := f.h.call("Truncate", f.name, 0); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *hookFile) Allocate(size int64) error {
	if err := f.h.call("Allocate", f.name, 0); err != nil {
		return err
	}
	return f.File.Allocate(size)
}
