package zdbfs

import (
	"context"
	"fmt"
	"sync"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

// numbers hands out inode and blob numbers. They are reserved in the log, in a batch of its own that comes before any
// that uses them, so that a number is never handed out twice, whatever a crash cuts off.
type numbers struct {
	mu       sync.Mutex
	next     meta.Counters
	reserved meta.Counters
}

const reserveNumbers = 4096

// start begins with c, before anybody asks.
func (n *numbers) start(c meta.Counters) {
	n.next, n.reserved = c, c
}

func (n *numbers) ino(fs *FS) (Ino, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next.Ino >= n.reserved.Ino {
		if err := n.reserveLocked(fs, meta.Counters{Ino: n.next.Ino + reserveNumbers, Blob: n.reserved.Blob}); err != nil {
			return 0, err
		}
	}
	n.next.Ino++
	return Ino(n.next.Ino - 1), nil
}

// blobs returns the first of count numbers in a row.
func (n *numbers) blobs(fs *FS, count int) (uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if end := n.next.Blob + uint64(count); end > n.reserved.Blob {
		if err := n.reserveLocked(fs, meta.Counters{Ino: n.reserved.Ino, Blob: end + reserveNumbers}); err != nil {
			return 0, err
		}
	}
	n.next.Blob += uint64(count)
	return n.next.Blob - uint64(count), nil
}

func (n *numbers) reserveLocked(fs *FS, to meta.Counters) error {
	var b batch
	b.set(meta.CountersKey(), to.Append(nil))
	b.frees = true // 17 bytes; deletes of blobs and moves of content must not fail for them
	if err := fs.commit(&b, 0); err != nil {
		return err
	}
	n.reserved = to
	return nil
}

// countFiles adds to b what it does to the number of inodes, which becomes what is returned with its commit. The caller
// holds commitMu: the order of the batches is the order of the counting, so a crash that cuts the log cuts the count too.
func (fs *FS) countFiles(b *batch) (files uint64) {
	files = uint64(max(int64(fs.files.Load())+b.files, 0)) // below 0 only by damage, which Check names
	if b.files != 0 {
		b.set(meta.FilesKey(), meta.AppendUint64(nil, files))
	}
	return files
}

// loadFiles reads the number of inodes. A filesystem made before it was kept is counted, once.
func (fs *FS) loadFiles(ctx context.Context) error {
	e, err := fs.meta.Get(ctx, meta.FilesKey())
	if err == nil {
		n, err := meta.DecodeUint64(e.Value)
		fs.files.Store(n)
		return err
	} else if !isNotFound(err) {
		return fmt.Errorf("read the number of inodes: %w", err)
	}
	it, err := fs.meta.iter(ctx, []byte{meta.KindInode}, []byte{meta.KindInode + 1}, true)
	if err != nil {
		return err
	}
	defer it.Close()
	b := batch{frees: true} // a few bytes, once
	for ok := it.Seek([]byte{meta.KindInode}); ok; ok = it.Next() {
		b.files++
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("count inodes: %w", err)
	}
	fs.o.Log.Info("inodes counted", "files", b.files)
	return fs.commit(&b, zdb.Seq(0))
}
