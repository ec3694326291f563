package zdbfs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

// FS is an open filesystem. Its methods may be called from any number of goroutines.
type FS struct {
	o          Options
	meta, data space
	super      meta.Super
	table      *inodeTable
	numbers    numbers
	dirty      *dirtyQueue
	reap       *reaper
	collector  collector
	lodgers    lodgers
	earlies    chan *inode

	renameMu  sync.Mutex // see inode for the order of locks
	sharedMu  sync.Mutex // reference counts of shared blobs
	anyShared atomic.Bool
	commitMu  sync.Mutex
	needs     zdb.Seq       // of the last batch
	files     atomic.Uint64 // inodes there are, as of the last batch; written under commitMu

	complaints struct {
		mu   sync.Mutex
		last map[string]time.Time
	}
	stop   context.CancelFunc
	wg     sync.WaitGroup
	closed sync.Once
	result error
}

// Open returns the filesystem in the two namespaces, made if they are empty. It replays what a crash left unfinished, in
// the background.
func Open(ctx context.Context, o Options) (*FS, error) {
	if o.Meta == nil || o.Data == nil {
		return nil, errors.New("zdbfs: both namespaces are required")
	}
	return open(ctx, o, engine{o.Meta}, engine{o.Data})
}

func open(ctx context.Context, o Options, metaSpace, dataSpace space) (*FS, error) {
	if o.FlushInterval <= 0 {
		o.FlushInterval = time.Second
	}
	if o.Slack == 0 {
		o.Slack = 128 << 20
	}
	if o.WriteBuffer <= 0 {
		o.WriteBuffer = 64 << 20
	}
	if o.Inodes <= 0 {
		o.Inodes = 1 << 16
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Session == 0 {
		o.Session = metaSpace.Head().Session
	}
	fs := &FS{
		o: o, meta: metaSpace, data: dataSpace,
		table:     newInodeTable(o.Inodes),
		reap:      newReaper(),
		collector: collector{wake: make(chan struct{}, 1)},
		lodgers:   lodgers{wake: make(chan struct{}, 1)},
		earlies:   make(chan *inode, 64),
		needs:     metaSpace.Head().Needs,
	}
	fs.dirty = &dirtyQueue{table: fs.table, less: make(chan struct{}, 1), taken: make(map[*inode]int)}
	fs.complaints.last = make(map[string]time.Time)
	if err := fs.loadSuper(ctx); err != nil {
		return nil, fmt.Errorf("open filesystem: %w", err)
	}
	if err := fs.replay(ctx); err != nil {
		return nil, fmt.Errorf("open filesystem: %w", err)
	}
	if err := fs.noteSession(ctx); err != nil {
		return nil, fmt.Errorf("open filesystem: note the session: %w", err)
	}
	if err := fs.loadFiles(ctx); err != nil { // behind the session, which is to be in the first batch
		return nil, fmt.Errorf("open filesystem: %w", err)
	}
	fs.lodgers.moveUpTo(fs.meta.Head().Seq) // left by an earlier run
	run, stop := context.WithCancel(context.Background())
	fs.stop = stop
	for _, loop := range []func(context.Context){fs.background, fs.earlyFlusher, fs.reapLoop, fs.collectLoop, fs.lodgerLoop} {
		fs.wg.Go(func() { loop(run) })
	}
	fs.reap.poke()
	return fs, nil
}

// loadSuper reads the row that describes the filesystem, or makes a new one if there is nothing at all.
func (fs *FS) loadSuper(ctx context.Context) error {
	e, err := fs.meta.Get(ctx, meta.SuperKey())
	if isNotFound(err) {
		return fs.format(ctx)
	} else if err != nil {
		return err
	}
	if fs.super, err = meta.DecodeSuper(e.Value); err != nil {
		return err
	}
	if e, err = fs.meta.Get(ctx, meta.CountersKey()); err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	c, err := meta.DecodeCounters(e.Value)
	if err != nil {
		return err
	}
	fs.numbers.start(c)
	return nil
}

// format makes an empty filesystem. The session is noted in its first batch, as in the first of every opening.
func (fs *FS) format(ctx context.Context) error {
	it, err := fs.meta.iter(ctx, nil, nil, true)
	if err != nil {
		return err
	}
	some := it.Seek([]byte{0})
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		return err
	}
	if some {
		return fmt.Errorf("%w: the namespace holds keys, but no filesystem", meta.ErrFormat)
	}
	t := fs.begin()
	rand.Read(fs.super.ID[:])
	rand.Read(fs.super.HashKey[:])
	fs.super.Created = t.now
	c := meta.Counters{Ino: uint64(RootIno) + 1, Blob: 1}
	root := meta.Inode{
		Mode: syscall.S_IFDIR | 0o755, Nlink: 2, Flags: meta.FlagLinks, Parent: uint64(RootIno),
		Atime: t.now, Mtime: t.now, Ctime: t.now, Btime: t.now,
	}
	t.set(meta.SuperKey(), fs.super.Append(nil))
	t.set(meta.CountersKey(), c.Append(nil))
	t.set(meta.InodeKey(uint64(RootIno)), root.Append(nil))
	t.files = 1
	fs.numbers.start(c)
	return t.commit()
}

// replay takes over what was not finished: orphans and truncations.
func (fs *FS) replay(ctx context.Context) error {
	err := fs.scan(ctx, meta.KindOrphan, func(k meta.Key, v []byte) error {
		if fs.table.orphan(Ino(k.A)) {
			fs.reap.inos = append(fs.reap.inos, Ino(k.A))
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = fs.scan(ctx, meta.KindTruncate, func(k meta.Key, v []byte) error {
		at, err := meta.DecodeUint64(v)
		if err != nil {
			return err
		}
		fs.table.setCut(Ino(k.A), at)
		fs.reap.cuts = append(fs.reap.cuts, Ino(k.A))
		return nil
	})
	if err != nil {
		return err
	}
	errStop := errors.New("stop")
	err = fs.scan(ctx, meta.KindShared, func(meta.Key, []byte) error {
		fs.anyShared.Store(true)
		return errStop
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// scan calls f with each row of one kind.
func (fs *FS) scan(ctx context.Context, kind byte, f func(meta.Key, []byte) error) error {
	it, err := fs.meta.iter(ctx, []byte{kind}, []byte{kind + 1}, false)
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.Seek([]byte{kind}); ok; ok = it.Next() {
		k, err := meta.ParseKey(it.Key())
		if err != nil {
			return err
		}
		v, err := it.Value()
		if err != nil {
			return err
		}
		if err := f(k, v); err != nil {
			return fmt.Errorf("row %q: %w", it.Key(), err)
		}
	}
	return it.Err()
}

// Close makes everything stable and stops. It is idempotent; operations must have ended.
func (fs *FS) Close(ctx context.Context) error {
	fs.closed.Do(func() {
		fs.stop()
		fs.wg.Wait()
		fs.result = fs.Sync(ctx)
		if n := fs.dirty.bytes.Load(); n > 0 {
			fs.o.Log.Error("data is lost: it could not be written before the end", "bytes", n)
		}
	})
	return fs.result
}

// complain logs a failure, each kind at most every few seconds.
func (fs *FS) complain(what string, err error) {
	const pause = 5 * time.Second
	fs.complaints.mu.Lock()
	defer fs.complaints.mu.Unlock()
	if now := time.Now(); now.Sub(fs.complaints.last[what]) >= pause {
		fs.complaints.last[what] = now
		fs.o.Log.Error(what, "err", err)
	}
}
