package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qsfs/zdb/internal/vfs"
)

// A timedFS measures the fsyncs of the engine's files.
type timedFS struct {
	vfs.FS
	fsync prometheus.Observer
}

type timedFile struct {
	vfs.File
	fsync prometheus.Observer
}

func (t timedFS) Create(name string) (vfs.File, error) { return t.file(t.FS.Create(name)) }

func (t timedFS) Open(name string, write bool) (vfs.File, error) {
	f, err := t.FS.Open(name, write)
	if !write {
		return f, err // never synced
	}
	return t.file(f, err)
}

func (t timedFS) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return timedFile{f, t.fsync}, nil
}

func (f timedFile) Sync() error {
	defer f.observe(time.Now())
	return f.File.Sync()
}

func (f timedFile) SyncData() error {
	defer f.observe(time.Now())
	return f.File.SyncData()
}

func (f timedFile) observe(began time.Time) { f.fsync.Observe(time.Since(began).Seconds()) }
