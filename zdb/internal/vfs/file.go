package vfs

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// WriteFile replaces a small file: aside, synced, renamed, directory synced.
func WriteFile(fs FS, path string, p []byte) error {
	tmp := path + ".tmp"
	f, err := fs.Create(tmp)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(p, 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(tmp, path)
	}
	if err != nil {
		if rerr := fs.Remove(tmp); rerr != nil && !errors.Is(rerr, ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return err
	}
	return fs.SyncDir(filepath.Dir(path))
}

// SetAside renames a file that cannot be used to <path>.bad, for somebody to look at. The one that was there before goes.
func SetAside(fs FS, path string) error {
	if err := fs.Rename(path, path+".bad"); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(path))
}

// ReadFile reads a file of at most limit bytes.
func ReadFile(fs FS, path string, limit int64) (p []byte, err error) {
	f, err := fs.Open(path, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, size, limit)
	}
	p = make([]byte, size)
	if _, err = f.ReadAt(p, 0); errors.Is(err, io.EOF) {
		err = nil
	}
	return p, err
}
