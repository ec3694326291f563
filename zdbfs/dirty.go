package zdbfs

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
)

// dirtyQueue holds the inodes that have something in memory only, oldest first, and counts their bytes.
type dirtyQueue struct {
	table *inodeTable
	bytes atomic.Int64  // written data in memory, also while it is being flushed
	less  chan struct{} // poked when bytes went down

	mu    sync.Mutex
	q     list.List      // of *inode, each pinned
	taken map[*inode]int // popped and not done, how often: what they had may not be committed yet
}

// add queues in, if it is not queued, with the present time.
func (d *dirtyQueue) add(in *inode) { d.addSince(in, time.Now()) }

// addSince queues in as dirty since then; the queue stays ordered.
func (d *dirtyQueue) addSince(in *inode, since time.Time) {
	d.mu.Lock()
	if in.queued {
		d.mu.Unlock()
		return
	}
	in.queued, in.since = true, since
	at := d.q.Back()
	for at != nil && at.Value.(*inode).since.After(since) {
		at = at.Prev()
	}
	if at == nil {
		d.q.PushFront(in)
	} else {
		d.q.InsertAfter(in, at)
	}
	// Pinned before the lock is given up, or whoever pops it would unpin first.
	d.table.again(in)
	d.mu.Unlock()
}

// pop takes the oldest inode that became dirty before then; the caller flushes it and calls done.
func (d *dirtyQueue) pop(before time.Time) *inode {
	d.mu.Lock()
	defer d.mu.Unlock()
	front := d.q.Front()
	if front == nil {
		return nil
	}
	in := front.Value.(*inode)
	if !in.since.Before(before) {
		return nil
	}
	d.q.Remove(front)
	in.queued = false
	d.taken[in]++
	return in
}

// done ends what pop began.
func (d *dirtyQueue) done(in *inode) {
	d.mu.Lock()
	if d.taken[in]--; d.taken[in] == 0 {
		delete(d.taken, in)
	}
	d.mu.Unlock()
	d.table.unpin(in)
}

// all returns every inode that has something in memory only, also those that somebody has popped, and leaves them where
// they are. The caller unpins each.
func (d *dirtyQueue) all() []*inode {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]*inode, 0, len(d.taken)+d.q.Len())
	for in := range d.taken {
		out = append(out, in)
	}
	for at := d.q.Front(); at != nil; at = at.Next() {
		if in := at.Value.(*inode); d.taken[in] == 0 {
			out = append(out, in)
		}
	}
	for _, in := range out {
		d.table.again(in)
	}
	return out
}

// sinceWhen is when in was queued last.
func (d *dirtyQueue) sinceWhen(in *inode) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return in.since
}

// rowBytes is what the attributes of an inode take in the log, about.
const rowBytes = 128

// Unflushed says how much is in memory and not even in the local log: bytes of content, and attributes for what their rows
// will take. since is when the oldest of it came; zero when there is nothing.
func (fs *FS) Unflushed() (n int64, since time.Time) {
	for _, in := range fs.dirty.all() {
		in.mu.RLock()
		dirty, bytes := in.dirtyLocked(), in.runs.bytes+in.flushing.bytes
		in.mu.RUnlock()
		if dirty {
			n += int64(bytes) + rowBytes
			if t := fs.dirty.sinceWhen(in); since.IsZero() || t.Before(since) {
				since = t
			}
		}
		fs.table.unpin(in)
	}
	return n, since
}

// Buffered is how much content is in memory and not in the local log.
func (fs *FS) Buffered() int64 { return fs.dirty.bytes.Load() }

func (d *dirtyQueue) size() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.q.Len()
}

// recountLocked brings the sum up to date after the runs of in changed.
func (fs *FS) recountLocked(in *inode) {
	n := in.runs.bytes + in.flushing.bytes
	fs.dirty.grow(n - in.counted)
	in.counted = n
}

// grow counts bytes in or, negative, out.
func (d *dirtyQueue) grow(n int) {
	d.bytes.Add(int64(n))
	if n < 0 {
		select {
		case d.less <- struct{}{}:
		default:
		}
	}
}
