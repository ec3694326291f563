package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Mem is a file system in memory that knows what a loss of power would take.
//
// Data that was not synced since it was written, and names whose directory was
// not synced since they changed, may be lost: CrashClone gives a copy without them.
type Mem struct {
	mu    sync.Mutex
	dirs  map[string]*memDir
	locks map[string]bool
	limit int64 // bytes that all files may have; 0 is unlimited
}

// memDir holds the names in a directory, now and as they are on the disk. What
// happened since the last sync is a list: a crash keeps a prefix of it.
type memDir struct {
	now, disk map[string]*memNode
	changes   []dirChange
}

type dirChange struct {
	name string
	node *memNode // nil: removed
	gone string   // the old name of a rename within the directory
}

// memNode is the content of a file, now and on the disk.
type memNode struct {
	now, disk []byte
	writes    []memWrite
	alloc     int64
}

type memWrite struct {
	off  int64
	p    []byte
	size int64 // ≥ 0: a truncate
}

// NewMem returns an empty file system.
func NewMem() *Mem {
	return &Mem{dirs: make(map[string]*memDir), locks: make(map[string]bool)}
}

// SetLimit bounds the bytes of all files; 0 lifts the bound.
func (m *Mem) SetLimit(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = n
}

// Used is the sum of the lengths of all files.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.usedLocked()
}

func (m *Mem) usedLocked() int64 {
	var sum int64
	for _, d := range m.dirs {
		for _, n := range d.now {
			sum += max(int64(len(n.now)), n.alloc)
		}
	}
	return sum
}

// CrashClone gives what a loss of power right now leaves. With rng a random part
// of what was not synced survives: some writes, cut into sectors, and a prefix of the changes of each directory.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.limit = m.limit
	done := make(map[*memNode]*memNode)
	for path, d := range m.dirs {
		names := make(map[string]*memNode, len(d.disk))
		for name, n := range d.disk {
			names[name] = n
		}
		keep := 0
		if rng != nil {
			keep = rng.IntN(len(d.changes) + 1)
		}
		apply(names, d.changes[:keep])
		nd := &memDir{now: make(map[string]*memNode), disk: make(map[string]*memNode)}
		for name, n := range names {
			if done[n] == nil {
				done[n] = n.crashed(rng)
			}
			nd.now[name], nd.disk[name] = done[n], done[n]
		}
		c.dirs[path] = nd
	}
	return c
}

// KillClone gives what the death of the process leaves: everything that was written.
func (m *Mem) KillClone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.limit = m.limit
	for path, d := range m.dirs {
		nd := &memDir{now: make(map[string]*memNode), disk: make(map[string]*memNode)}
		for name, n := range d.now {
			data := append([]byte(nil), n.now...)
			nd.now[name] = &memNode{now: data, disk: append([]byte(nil), data...), alloc: n.alloc}
			nd.disk[name] = nd.now[name]
		}
		c.dirs[path] = nd
	}
	return c
}

func apply(names map[string]*memNode, changes []dirChange) {
	for _, ch := range changes {
		if ch.node == nil {
			delete(names, ch.name)
		} else {
			names[ch.name] = ch.node
		}
		if ch.gone != "" {
			delete(names, ch.gone)
		}
	}
}

const sector = 512

func (n *memNode) crashed(rng *rand.Rand) *memNode {
	data := append([]byte(nil), n.disk...)
	if rng != nil {
		all := rng.IntN(3) == 0 // often a prefix or everything survives
		for _, w := range n.writes {
			if w.size >= 0 {
				data = resize(data, w.size)
				continue
			}
			for at := 0; at < len(w.p); {
				end := min(len(w.p), at+sector-int(w.off+int64(at))%sector)
				if all || rng.IntN(2) == 0 {
					data = put(data, w.off+int64(at), w.p[at:end])
				}
				at = end
			}
		}
	}
	return &memNode{now: data, disk: append([]byte(nil), data...)}
}

func resize(p []byte, size int64) []byte {
	if int64(len(p)) >= size {
		return p[:size]
	}
	return append(p, make([]byte, size-int64(len(p)))...)
}

func put(p []byte, off int64, q []byte) []byte {
	if end := off + int64(len(q)); int64(len(p)) < end {
		p = resize(p, end)
	}
	copy(p[off:], q)
	return p
}

func (m *Mem) dirLocked(path string) (*memDir, string, error) {
	dir, name := filepath.Dir(filepath.Clean(path)), filepath.Base(path)
	d := m.dirs[dir]
	if d == nil {
		return nil, "", &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return d, name, nil
}

func (d *memDir) set(name string, n *memNode) {
	if n == nil {
		delete(d.now, name)
	} else {
		d.now[name] = n
	}
	d.changes = append(d.changes, dirChange{name: name, node: n})
}

// Create makes or truncates a file.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.dirLocked(name)
	if err != nil {
		return nil, err
	}
	n := d.now[base]
	if n == nil {
		n = &memNode{}
		d.set(base, n)
	} else {
		n.truncate(0)
	}
	return &memFile{m: m, n: n}, nil
}

// Open opens an existing file.
func (m *Mem) Open(name string, write bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.dirLocked(name)
	if err != nil {
		return nil, err
	}
	n := d.now[base]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{m: m, n: n, readOnly: !write}, nil
}

// Remove removes a file.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.dirLocked(name)
	if err != nil {
		return err
	}
	if d.now[base] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	d.set(base, nil)
	return nil
}

// RemoveAll removes a directory and all below it, durably.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	for path := range m.dirs {
		if path == name || strings.HasPrefix(path, name+"/") {
			delete(m.dirs, path)
		}
	}
	return nil
}

// Rename moves a file, or a directory with all in it; the latter is durable at once.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldName, newName = filepath.Clean(oldName), filepath.Clean(newName)
	if m.dirs[oldName] != nil {
		for path, d := range m.dirs {
			if path == oldName || strings.HasPrefix(path, oldName+"/") {
				delete(m.dirs, path)
				m.dirs[newName+strings.TrimPrefix(path, oldName)] = d
			}
		}
		return nil
	}
	from, oldBase, err := m.dirLocked(oldName)
	if err != nil {
		return err
	}
	to, newBase, err := m.dirLocked(newName)
	if err != nil {
		return err
	}
	n := from.now[oldBase]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	to.set(newBase, n)
	if from == to {
		delete(from.now, oldBase)
		to.changes[len(to.changes)-1].gone = oldBase
		return nil
	}
	from.set(oldBase, nil)
	return nil
}

// MkdirAll makes directories, durably.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for dir := filepath.Clean(name); ; dir = filepath.Dir(dir) {
		if m.dirs[dir] == nil {
			m.dirs[dir] = &memDir{now: make(map[string]*memNode), disk: make(map[string]*memNode)}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// List gives the names in a directory.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = filepath.Clean(dir)
	d := m.dirs[dir]
	if d == nil {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist}
	}
	var names []string
	for name := range d.now {
		names = append(names, name)
	}
	for path := range m.dirs {
		if path != dir && filepath.Dir(path) == dir {
			names = append(names, filepath.Base(path))
		}
	}
	sort.Strings(names)
	return names, nil
}

// Stat tells of a file or directory.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirs[filepath.Clean(name)] != nil {
		return Info{IsDir: true}, nil
	}
	d, base, err := m.dirLocked(name)
	if err != nil {
		return Info{}, err
	}
	n := d.now[base]
	if n == nil {
		return Info{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return Info{Size: int64(len(n.now)), ModTime: time.Unix(0, 0)}, nil
}

// SyncDir makes the names in a directory durable.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.dirs[filepath.Clean(dir)]
	if d == nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: fs.ErrNotExist}
	}
	apply(d.disk, d.changes)
	d.changes = nil
	return nil
}

// Free is what the limit leaves.
func (m *Mem) Free(string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit == 0 {
		return 1 << 50, nil
	}
	return max(0, m.limit-m.usedLocked()), nil
}

// Lock excludes other users of this Mem.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	m.locks[name] = true
	return memLock{m, name}, nil
}

type memLock struct {
	m    *Mem
	name string
}

func (l memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

type memFile struct {
	m        *Mem
	n        *memNode
	readOnly bool
}

var errReadOnly = errors.New("file was opened for reading")

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off >= int64(len(f.n.now)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.readOnly {
		return 0, errReadOnly
	}
	var err error
	if more := off + int64(len(p)) - max(int64(len(f.n.now)), f.n.alloc); f.m.limit > 0 && more > 0 {
		if room := f.m.limit - f.m.usedLocked(); more > room {
			// As much as fits is written, like a real disk does.
			p, err = p[:max(0, int64(len(p))-(more-max(0, room)))], unix.ENOSPC
		}
	}
	f.n.now = put(f.n.now, off, p)
	f.n.writes = append(f.n.writes, memWrite{off: off, p: append([]byte(nil), p...), size: -1})
	return len(p), err
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	for _, w := range f.n.writes {
		if w.size >= 0 {
			f.n.disk = resize(f.n.disk, w.size)
		} else {
			f.n.disk = put(f.n.disk, w.off, w.p)
		}
	}
	f.n.writes = nil
	return nil
}

func (f *memFile) SyncData() error { return f.Sync() }

func (f *memFile) WriteBack(int64, int64) error { return nil }

func (n *memNode) truncate(size int64) {
	n.now = resize(n.now, size)
	n.alloc = min(n.alloc, size)
	n.writes = append(n.writes, memWrite{size: size})
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.truncate(size)
	return nil
}

func (f *memFile) Allocate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if more := size - max(int64(len(f.n.now)), f.n.alloc); f.m.limit > 0 && more > f.m.limit-f.m.usedLocked() {
		return unix.ENOSPC
	}
	f.n.alloc = max(f.n.alloc, size)
	if int64(len(f.n.now)) < size {
		f.n.truncate(size)
	}
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.n.now)), nil
}

func (f *memFile) Close() error { return nil }
