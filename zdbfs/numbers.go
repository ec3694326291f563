package zdbfs

import (
	"sync"
	"sync/atomic"

	"qsfs/zdbfs/internal/meta"
)

// numbers hands out inode and blob numbers. They are reserved in the log, in a batch of its own that comes before any
// that uses them, so that a number is never handed out twice, whatever a crash cuts off.
type numbers struct {
	used atomic.Uint64 // next.Ino, for those who must not wait: mu is held over a commit

	mu       sync.Mutex
	next     meta.Counters
	reserved meta.Counters
}

const reserveNumbers = 4096

// start begins with c, before anybody asks.
func (n *numbers) start(c meta.Counters) {
	n.next, n.reserved = c, c
	n.used.Store(c.Ino)
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
	n.used.Store(n.next.Ino)
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
