package zdb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb/internal/clock"
	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/internal/wal"
)

// DB is a set of namespaces under two directories.
//
// Lock order: DB.mu, then the locks of a Namespace.
type DB struct {
	o       Options
	lock    io.Closer
	handles *wal.Handles
	indexes *indexes
	written atomic.Int64 // bytes that all namespaces appended
	clock   *clock.Clock
	stop    chan struct{} // of clockLoop
	waking  sync.Mutex    // held by who opens an index that nobody uses
	wg      sync.WaitGroup

	mu     sync.Mutex
	open   map[string]*opening
	closed bool
	// left are indexes of closed namespaces that iterators still had open.
	left map[string][]*index.Index
}

// opening is a namespace that is open, or about to be.
type opening struct {
	done chan struct{}
	n    *Namespace
	err  error
}

// Open opens the database, alone: ErrLocked says that another process has it.
// Nothing of a namespace is read before Namespace asks for it.
func Open(ctx context.Context, o Options) (*DB, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.DataDir); err != nil {
		return nil, err
	}
	lock, err := o.FS.Lock(filepath.Join(o.DataDir, ".lock"))
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	db := &DB{
		o: o, lock: lock,
		handles: wal.NewHandles(o.FS, o.MaxOpenFiles),
		indexes: newIndexes(o.MaxIndexes),
		open:    make(map[string]*opening),
		left:    make(map[string][]*index.Index),
	}
	err = o.FS.MkdirAll(o.IndexDir)
	if err == nil {
		err = db.finishDrops()
	}
	if err == nil {
		db.clock, err = clock.Open(o.FS, filepath.Join(o.DataDir, clockName), o.clock, o.Log)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	db.stop = make(chan struct{})
	db.wg.Go(db.clockLoop)
	return db, nil
}

const (
	clockName = ".clock" // with a dot, as no directory of a namespace has
	clockTick = 10 * time.Second
)

func (db *DB) clockLoop() {
	t := time.NewTicker(clockTick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			db.clock.Save(false)
		case <-db.stop:
			db.clock.Save(true)
			return
		}
	}
}

func (o *Options) complete() error {
	if o.DataDir == "" || o.IndexDir == "" {
		return errors.New("zdb: DataDir and IndexDir are required")
	}
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for o.Session == 0 {
		var p [8]byte
		if _, err := rand.Read(p[:]); err != nil {
			return err
		}
		o.Session = binary.LittleEndian.Uint64(p[:])
	}
	if o.clock == nil {
		o.clock = clock.Machine
	}
	set(&o.FetchTimeout, DefaultFetchTimeout)
	set(&o.OverlayBytes, DefaultOverlayBytes)
	set(&o.MaxOpenFiles, DefaultMaxOpenFiles)
	set(&o.MaxIndexes, DefaultMaxIndexes)
	set(&o.Reserve, DefaultReserve)
	set(&o.IndexRoom, DefaultIndexRoom)
	set(&o.MemoryIndex, DefaultMemoryIndex)
	o.Reserve, o.IndexRoom = max(o.Reserve, 0), max(o.IndexRoom, 0)
	return nil
}

// set gives an option its default.
func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// working says that work begins that takes a processor for some time.
func (db *DB) working() (done func()) {
	if db.o.Working == nil {
		return func() {}
	}
	return db.o.Working()
}

// Session identifies this opening; every batch that it writes carries it.
func (db *DB) Session() uint64 { return db.o.Session }

// Namespace opens a namespace, and makes it when it is not there. Options count
// for the first opening; later calls get the same *Namespace.
func (db *DB) Namespace(ctx context.Context, name string, o NamespaceOptions) (*Namespace, error) {
	dir, err := dirName(name)
	if err != nil {
		return nil, err
	}
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil, ErrClosed
	}
	if op := db.open[name]; op != nil {
		db.mu.Unlock()
		select {
		case <-op.done:
			return op.n, op.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	op := &opening{done: make(chan struct{})}
	db.open[name] = op
	db.mu.Unlock()
	op.n, op.err = openNamespace(ctx, db, name, dir, o)
	if op.err != nil {
		op.err = fmt.Errorf("open namespace %s: %w", name, op.err)
		db.forget(name, op)
	} else {
		op.n.op = op
	}
	close(op.done)
	return op.n, op.err
}

func (db *DB) forget(name string, op *opening) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.open[name] == op {
		delete(db.open, name)
	}
}

// Namespaces lists the namespaces that exist, open or not.
func (db *DB) Namespaces() ([]string, error) {
	var names []string
	for _, dir := range []string{db.o.DataDir, db.o.IndexDir} {
		entries, err := db.o.FS.List(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			info, err := db.o.FS.Stat(filepath.Join(dir, e))
			if err != nil {
				return nil, err
			}
			if name, ok := nameOf(e); ok && info.IsDir {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// linger notes indexes of a namespace that closes: who still has one in use closes it.
func (db *DB) linger(name string, list ...*index.Index) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if list = slices.DeleteFunc(append(db.left[name], list...), (*index.Index).Closed); len(list) > 0 {
		db.left[name] = list
	} else {
		delete(db.left, name)
	}
}

// lingering lists the indexes of earlier openings that are still in use.
func (db *DB) lingering(name string) []*index.Index {
	db.linger(name)
	db.mu.Lock()
	defer db.mu.Unlock()
	return slices.Clone(db.left[name])
}

// DropNamespace closes a namespace and removes all its files on this machine. It waits for iterators to be closed, for as long
// as ctx lets it: Badger would try for ever to write into a directory that is gone, or write into the next one of that name.
func (db *DB) DropNamespace(ctx context.Context, name string) error {
	dir, err := dirName(name)
	if err != nil {
		return err
	}
	db.mu.Lock()
	op := db.open[name]
	db.mu.Unlock()
	if op != nil {
		select {
		case <-op.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if op.n != nil {
			if err := op.n.Close(); err != nil {
				db.o.Log.Warn("close before drop", "namespace", name, "error", err)
			}
		}
	}
	for _, x := range db.lingering(name) {
		select {
		case <-x.Done():
		case <-ctx.Done():
			return fmt.Errorf("drop namespace %s, of which an iterator is open: %w", name, ctx.Err())
		}
	}
	return db.drop(dir)
}

// drop hides both directories before it removes either, so that no half of a
// namespace is ever seen; Open finishes what a crash interrupts.
func (db *DB) drop(dir string) error {
	parents := slices.Compact([]string{db.o.IndexDir, db.o.DataDir})
	for _, parent := range parents {
		err := db.o.FS.Rename(filepath.Join(parent, dir), filepath.Join(parent, droppedPrefix+dir))
		if errors.Is(err, vfs.ErrNotExist) {
			continue
		}
		if err = errors.Join(err, db.o.FS.SyncDir(parent)); err != nil {
			return err
		}
	}
	var err error
	for _, parent := range parents {
		err = errors.Join(err, db.o.FS.RemoveAll(filepath.Join(parent, droppedPrefix+dir)))
	}
	return err
}

// finishDrops goes on with drops that a crash interrupted.
func (db *DB) finishDrops() error {
	for _, parent := range []string{db.o.IndexDir, db.o.DataDir} {
		entries, err := db.o.FS.List(parent)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if dir, ok := strings.CutPrefix(e, droppedPrefix); ok {
				if err := db.drop(dir); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Close closes all namespaces and leaves their clean-stop markers.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	var all []*opening
	for _, op := range db.open {
		all = append(all, op)
	}
	db.mu.Unlock()
	var err error
	for _, op := range all {
		<-op.done
		if op.n != nil {
			err = errors.Join(err, op.n.Close())
		}
	}
	close(db.stop)
	db.wg.Wait()
	return errors.Join(err, db.handles.Close(), db.lock.Close())
}
