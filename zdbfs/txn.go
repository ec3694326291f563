package zdbfs

import (
	"context"
	"errors"
	"syscall"
	"time"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

// txn is one operation: a batch of rows, and the inodes whose attributes change with it. Attributes in memory change
// only when the batch is committed, so a refused operation leaves no trace.
type txn struct {
	batch
	fs      *FS
	now     meta.Time
	needs   zdb.Seq // of zdbfs-data
	changes []*change
	shared  bool // holds FS.sharedMu
}

// change is what a txn does to one inode. Its functions run twice: on a copy for the row, and on the inode.
type change struct {
	in     *inode
	apply  []func(*meta.Inode)
	after  func()  // runs under in.mu, with the change in memory
	stored *uint64 // new size of the row
	ver    uint64
}

func (fs *FS) begin() *txn {
	return &txn{fs: fs, now: meta.Time(TimeOf(time.Now()))}
}

func (t *txn) change(in *inode) *change {
	for _, c := range t.changes {
		if c.in == in {
			return c
		}
	}
	c := &change{in: in}
	t.changes = append(t.changes, c)
	return c
}

// update rewrites the I row of in, changed by f. The caller holds in.op.
func (t *txn) update(in *inode, f func(*meta.Inode)) {
	c := t.change(in)
	c.apply = append(c.apply, f)
}

// storeSize sets the size of the row only; a.Size is up to update.
func (t *txn) storeSize(in *inode, size uint64) { t.change(in).stored = &size }

// after runs f together with the change of in in memory, under in.mu.
func (t *txn) after(in *inode, f func()) { t.change(in).after = f }

// get reads a row of zdbfs-meta as it will be after t.
func (t *txn) get(ctx context.Context, key []byte) (value []byte, found bool, err error) {
	if r, ok := t.pending(key); ok {
		return r.value, !r.del, nil
	}
	e, err := t.fs.meta.Get(ctx, key)
	if errors.Is(err, zdb.ErrNotFound) {
		return nil, false, nil
	}
	return e.Value, err == nil, err
}

// commit writes everything as one batch: visible when it returns, stable with the next sync. On error nothing changed.
func (t *txn) commit() error {
	defer t.close()
	for _, c := range t.changes {
		c.in.mu.RLock()
		row, gone := c.in.a, c.in.gone
		row.Size = c.in.stored
		c.ver = c.in.ver
		c.in.mu.RUnlock()
		if gone {
			return syscall.ESTALE // freed while the lock was waited for: its row must not come back
		}
		for _, f := range c.apply {
			f(&row)
		}
		if c.stored != nil {
			row.Size = *c.stored
		}
		t.set(meta.InodeKey(uint64(c.in.ino)), row.Append(nil))
	}
	if err := t.fs.commit(&t.batch, t.needs); err != nil {
		return err
	}
	for _, c := range t.changes {
		c.in.mu.Lock()
		size := c.in.a.Size
		for _, f := range c.apply {
			f(&c.in.a)
		}
		if c.stored != nil {
			c.in.stored = *c.stored
		} else if c.in.a.Size != size {
			c.in.stored = c.in.a.Size
		}
		c.in.saved = max(c.in.saved, c.ver)
		if c.after != nil {
			c.after()
		}
		c.in.mu.Unlock()
	}
	return nil
}

// close lets go of what t holds; commit does it too.
func (t *txn) close() {
	if t.shared {
		t.shared = false
		t.fs.sharedMu.Unlock()
	}
}

// lockShared keeps others from changing reference counts until the commit.
func (t *txn) lockShared() {
	if !t.shared {
		t.fs.sharedMu.Lock()
		t.shared = true
	}
}

// commit writes b, if there is anything in it.
func (fs *FS) commit(b *batch, needs zdb.Seq) error {
	if len(b.rows) == 0 && b.files == 0 {
		return nil
	}
	_, err := fs.commitBatch(b, needs)
	return err
}

// commitBatch is where every change of zdbfs-meta goes through. needs never decreases from batch to batch, which one lock
// around choosing it and writing it assures, and the number of inodes is that of the batches so far.
func (fs *FS) commitBatch(b *batch, needs zdb.Seq) (zdb.Commit, error) {
	fs.commitMu.Lock()
	defer fs.commitMu.Unlock()
	fs.needs = max(fs.needs, needs)
	files := fs.countFiles(b)
	c, err := fs.meta.commit(context.Background(), b, fs.needs)
	if err == nil {
		fs.files.Store(files)
	}
	return c, err
}

// touch sets mtime and ctime of a directory in memory; the row follows with the next batch that writes it, or with the
// flush.
func (fs *FS) touch(in *inode, now meta.Time) {
	in.mu.Lock()
	in.a.Mtime, in.a.Ctime = now, now
	in.ver++
	in.mu.Unlock()
	fs.dirty.add(in)
}
