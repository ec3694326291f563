package zdbfs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

// inode is an inode in memory: its attributes as stat shows them, and data written but not yet in a log.
//
// Locks, in this order; of one class, the smaller inode first:
//
//	FS.renameMu   renames between directories
//	inode.io      held by who changes the extents: flush, truncate, fallocate, copy
//	inode.op      held by who changes stored attributes or names, over its commit
//	FS.sharedMu   reference counts, until the batch that changes them is committed
//	FS.commitMu
//	inode.mu      the fields below; never held over a commit or a read of data
//
// Nobody reads from the network under any of them.
type inode struct {
	ino Ino
	io  sync.Mutex
	op  sync.Mutex

	mu     sync.RWMutex
	loaded bool
	gone   bool       // freed: no operation may start on it
	a      meta.Inode // now; Nlink is 0 for orphans
	stored uint64     // the size in the I row: less than a.Size while what was appended is in memory only
	ver    uint64     // counts the changes of a that are in memory only
	saved  uint64     // ver of what the I row holds
	drops  uint64     // counts what took bytes away (truncate, hole): a reader starts again when it moved
	// Written data: runs takes what comes, flushing is on its way to the log. Readers look at both, runs first.
	runs, flushing runSet
	counted        int // bytes of both, as the dirty queue counts them

	// Guarded by the table's shard.
	pins int
	// Guarded by the dirty queue.
	queued bool
	since  time.Time
}

// dirtyLocked says whether anything is in memory only.
func (in *inode) dirtyLocked() bool {
	return in.ver != in.saved || !in.runs.empty() || !in.flushing.empty()
}

func (in *inode) attrLocked() Attr {
	a := &in.a
	blocks := a.Alloc + uint64(in.runs.bytes+in.flushing.bytes)
	if limit := (a.Size + 4095) &^ 4095; in.runs.bytes+in.flushing.bytes > 0 && blocks > max(limit, a.Alloc) {
		blocks = max(limit, a.Alloc) // overwrites would count twice
	}
	return Attr{
		Ino: in.ino, Mode: a.Mode, Nlink: a.Nlink, Uid: a.Uid, Gid: a.Gid, Rdev: a.Rdev,
		Size: a.Size, Blocks: (blocks + 511) / 512,
		Atime: Time(a.Atime), Mtime: Time(a.Mtime), Ctime: Time(a.Ctime), Btime: Time(a.Btime),
		HasXattr: a.Flags&meta.FlagXattr != 0,
	}
}

func (in *inode) attr() Attr {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.attrLocked()
}

// view returns a copy of the attributes.
func (in *inode) view() meta.Inode {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.a
}

// storedSize is the size in the I row. It changes only under in.op.
func (in *inode) storedSize() uint64 {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.stored
}

// inode returns the inode, pinned: unpin it. ESTALE if there is none.
func (fs *FS) inode(ctx context.Context, ino Ino) (*inode, error) {
	in := fs.table.pin(ino)
	if err := fs.load(ctx, in); err != nil {
		fs.table.unpin(in)
		return nil, err
	}
	return in, nil
}

func (fs *FS) load(ctx context.Context, in *inode) error {
	in.mu.RLock()
	loaded, gone := in.loaded, in.gone
	in.mu.RUnlock()
	if loaded && !gone {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.gone {
		return syscall.ESTALE
	}
	if in.loaded {
		return nil
	}
	e, err := fs.meta.Get(context.WithoutCancel(ctx), meta.InodeKey(uint64(in.ino)))
	if errors.Is(err, zdb.ErrNotFound) {
		return syscall.ESTALE
	} else if err != nil {
		return fs.errno(err)
	}
	if in.a, err = meta.DecodeInode(e.Value); err != nil {
		return fs.errno(fmt.Errorf("inode %d: %w", in.ino, err))
	}
	if fs.table.isOrphan(in.ino) {
		in.a.Nlink = 0
	}
	in.stored = in.a.Size
	in.loaded = true
	return nil
}

// dir is inode for a directory.
func (fs *FS) dir(ctx context.Context, ino Ino) (*inode, error) {
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return nil, err
	}
	if v := in.view(); !v.IsDir() {
		fs.table.unpin(in)
		return nil, syscall.ENOTDIR
	}
	return in, nil
}

// regular is inode for a regular file.
func (fs *FS) regular(ctx context.Context, ino Ino) (*inode, error) {
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return nil, err
	}
	v := in.view()
	if v.IsRegular() {
		return in, nil
	}
	fs.table.unpin(in)
	if v.IsDir() {
		return nil, syscall.EISDIR
	}
	return nil, syscall.EINVAL
}

// lockOps locks op of each inode once, in order of their numbers.
func lockOps(ins ...*inode) (unlock func()) {
	sorted := make([]*inode, 0, len(ins))
	for _, in := range ins {
		if in == nil {
			continue
		}
		at := len(sorted)
		for at > 0 && sorted[at-1].ino > in.ino {
			at--
		}
		if at > 0 && sorted[at-1] == in {
			continue
		}
		sorted = append(sorted, nil)
		copy(sorted[at+1:], sorted[at:])
		sorted[at] = in
	}
	for _, in := range sorted {
		in.op.Lock()
	}
	return func() {
		for _, in := range sorted {
			in.op.Unlock()
		}
	}
}
