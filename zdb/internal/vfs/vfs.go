// Package vfs is the seam between the engine and the operating system's files,
// so that tests can fail any call and drop what was never synced.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"time"
)

// FS is what the engine asks of a file system. Names are paths.
type FS interface {
	// Create makes or truncates a file, opened for reading and writing.
	Create(name string) (File, error)
	// Open opens an existing file; write says whether it may be written.
	Open(name string, write bool) (File, error)
	Remove(name string) error
	RemoveAll(name string) error
	// Rename replaces newName; it is durable once the directory is synced.
	Rename(oldName, newName string) error
	MkdirAll(name string) error
	// List gives the names in a directory, in order.
	List(dir string) ([]string, error)
	Stat(name string) (Info, error)
	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error
	// Free gives the bytes an unprivileged writer may still take of the file system that holds name.
	Free(name string) (int64, error)
	// Lock takes an exclusive lock on a file, made when missing, without waiting.
	Lock(name string) (io.Closer, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes content and all attributes durable.
	Sync() error
	// SyncData makes content durable, and the length where reading it back needs it.
	SyncData() error
	// WriteBack begins to write what is dirty in [off, off+n), and does not wait for it; it makes nothing durable.
	WriteBack(off, n int64) error
	Truncate(size int64) error
	// Allocate reserves blocks for [0, size) and makes the file at least that long.
	Allocate(size int64) error
	Size() (int64, error)
}

// Info is what Stat tells.
type Info struct {
	Size    int64
	IsDir   bool
	ModTime time.Time
	// Device tells file systems apart.
	Device uint64
}

// ErrLocked is wrapped by the errors of Lock when somebody else has the lock, and by no other.
var ErrLocked = errors.New("in use by another process")

// ErrNotExist is wrapped by errors about names that are not there.
var ErrNotExist = fs.ErrNotExist
