package wal

import (
	"container/list"
	"errors"
	"sync"

	"qsfs/zdb/internal/vfs"
)

// Handles keeps a bounded number of segment files open for reading. A file that
// is forgotten stays readable for those who hold it.
type Handles struct {
	fs  vfs.FS
	max int

	mu   sync.Mutex
	open map[string]*Handle
	idle *list.List // of *Handle without users, most recent in front
}

// Handle is an open file with users.
type Handle struct {
	vfs.File
	owner *Handles
	path  string
	refs  int           // guarded by owner.mu
	at    *list.Element // in owner.idle
	gone  bool          // closed with the last user
}

// NewHandles keeps up to limit files open that nobody uses right now.
func NewHandles(fs vfs.FS, limit int) *Handles {
	return &Handles{fs: fs, max: limit, open: make(map[string]*Handle), idle: list.New()}
}

// Acquire opens the file for reading, or gives the open one.
func (h *Handles) Acquire(path string) (*Handle, error) {
	h.mu.Lock()
	if f := h.open[path]; f != nil {
		h.use(f)
		h.mu.Unlock()
		return f, nil
	}
	h.mu.Unlock()
	file, err := h.fs.Open(path, false)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.open[path]; f != nil { // somebody was faster
		h.use(f)
		return f, file.Close()
	}
	f := &Handle{File: file, owner: h, path: path, refs: 1}
	h.open[path] = f
	return f, nil
}

// Own gives a handle for a file that the caller opened for writing. It is not found by Acquire.
func (h *Handles) Own(file vfs.File) *Handle {
	return &Handle{File: file, owner: h, refs: 1, gone: true}
}

func (h *Handles) use(f *Handle) {
	if f.at != nil {
		h.idle.Remove(f.at)
		f.at = nil
	}
	f.refs++
}

// Retain adds a user.
func (f *Handle) Retain() *Handle {
	f.owner.mu.Lock()
	defer f.owner.mu.Unlock()
	f.owner.use(f)
	return f
}

// Release takes a user away; the last one closes a forgotten file.
func (f *Handle) Release() error {
	h := f.owner
	h.mu.Lock()
	f.refs--
	var victims []*Handle
	if f.refs == 0 {
		if f.gone {
			victims = append(victims, f)
		} else {
			f.at = h.idle.PushFront(f)
			for h.idle.Len() > h.max {
				v := h.idle.Remove(h.idle.Back()).(*Handle)
				v.at = nil
				delete(h.open, v.path)
				victims = append(victims, v)
			}
		}
	}
	h.mu.Unlock()
	var err error
	for _, v := range victims {
		err = errors.Join(err, v.Close())
	}
	return err
}

// Forget makes the next Acquire of path open it anew.
func (h *Handles) Forget(path string) error {
	h.mu.Lock()
	f := h.open[path]
	if f == nil {
		h.mu.Unlock()
		return nil
	}
	delete(h.open, path)
	f.gone = true
	if f.at == nil {
		h.mu.Unlock()
		return nil
	}
	h.idle.Remove(f.at)
	f.at = nil
	h.mu.Unlock()
	return f.Close()
}

// Close closes what nobody uses.
func (h *Handles) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var err error
	for e := h.idle.Front(); e != nil; e = e.Next() {
		f := e.Value.(*Handle)
		f.at, f.gone = nil, true
		delete(h.open, f.path)
		err = errors.Join(err, f.Close())
	}
	h.idle.Init()
	return err
}
