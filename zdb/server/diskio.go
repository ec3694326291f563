package server

import (
	"io"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qsfs/zdb/internal/vfs"
)

// diskIO counts what the engine reads and writes in data and index segments, and what of it failed. The index proper is
// not in it: its files are mapped.
type diskIO struct {
	data, index fileIO
	fsync       prometheus.Observer // nil when nobody asked
}

type fileIO struct {
	read, written, readFailed, writeFailed atomic.Int64
}

// A countedFS is a file system under a diskIO.
type countedFS struct {
	vfs.FS
	io *diskIO
}

type countedFile struct {
	vfs.File
	io *diskIO
	of *fileIO
}

func (c countedFS) Create(name string) (vfs.File, error) { return c.count(name)(c.FS.Create(name)) }

func (c countedFS) Open(name string, write bool) (vfs.File, error) {
	return c.count(name)(c.FS.Open(name, write))
}

func (c countedFS) count(name string) func(vfs.File, error) (vfs.File, error) {
	of := &c.io.data
	if filepath.Base(name)[0] == 'i' {
		of = &c.io.index
	}
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		return countedFile{f, c.io, of}, nil
	}
}

func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.of.read.Add(int64(n))
	if err != nil && err != io.EOF { // the end of a file is found by reading beyond it
		f.of.readFailed.Add(1)
	}
	return n, err
}

func (f countedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.of.written.Add(int64(n))
	if err != nil {
		f.of.writeFailed.Add(1)
	}
	return n, err
}

func (f countedFile) Sync() error { return f.sync(f.File.Sync) }

func (f countedFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f countedFile) sync(do func() error) error {
	began := time.Now()
	err := do()
	if f.io.fsync != nil {
		f.io.fsync.Observe(time.Since(began).Seconds())
	}
	if err != nil {
		f.of.writeFailed.Add(1)
	}
	return err
}
