package zdbfs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"

	"qsfs/zdbfs/internal/meta"
)

// reaper frees inodes that have no name, no lookup and no open left, and finishes long truncations. What is left to do is
// in O and T rows: a crash loses nothing, Open starts again.
type reaper struct {
	mu   sync.Mutex
	inos []Ino // orphans
	cuts []Ino // truncated
	wake chan struct{}
	idle *sync.Cond // the queues are empty and nothing is being done
	busy bool
}

// reapQueue is how many orphans may wait before those who make more of them help.
const reapQueue = 1 << 16

func newReaper() *reaper {
	r := &reaper{wake: make(chan struct{}, 1)}
	r.idle = sync.NewCond(&r.mu)
	return r
}

func (r *reaper) orphaned(ino Ino) {
	r.mu.Lock()
	r.inos = append(r.inos, ino)
	r.mu.Unlock()
	r.poke()
}

func (r *reaper) truncated(ino Ino) {
	r.mu.Lock()
	r.cuts = append(r.cuts, ino)
	r.mu.Unlock()
	r.poke()
}

func (r *reaper) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reaper) crowded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.inos) > reapQueue
}

func (fs *FS) reapLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-fs.reap.wake:
		}
		for ctx.Err() == nil {
			more, err := fs.reapStep(ctx)
			if err != nil {
				fs.complain("space of deleted files cannot be given back now", err)
				// Everything is on record and in the queue: try again, slowly.
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
				more = true
			}
			if !more {
				break
			}
		}
	}
}

// reapStep does one batch of work and says whether there is more.
func (fs *FS) reapStep(ctx context.Context) (more bool, err error) {
	r := fs.reap
	r.mu.Lock()
	r.busy = true
	var inos []Ino
	var cut Ino
	if len(r.cuts) > 0 {
		cut, r.cuts = r.cuts[0], r.cuts[1:]
	} else {
		n := min(len(r.inos), 1024)
		inos, r.inos = r.inos[:n:n], r.inos[n:]
	}
	r.mu.Unlock()
	var left []Ino
	if cut != 0 {
		var again bool
		if again, err = fs.reapCut(ctx, cut); again || err != nil {
			defer r.truncated(cut)
		}
	} else if len(inos) > 0 {
		left, err = fs.reapOrphans(ctx, inos)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inos = append(r.inos, left...)
	r.busy = false
	more = len(r.inos)+len(r.cuts) > 0
	if !more {
		r.idle.Broadcast()
	}
	return more, err
}

// reapCut does one step of a truncation.
func (fs *FS) reapCut(ctx context.Context, ino Ino) (again bool, err error) {
	in, err := fs.inode(ctx, ino)
	if errors.Is(err, syscall.ESTALE) {
		return false, nil // freed as a whole
	} else if err != nil {
		return false, err
	}
	defer fs.table.unpin(in)
	in.io.Lock()
	defer in.io.Unlock()
	return fs.truncateStep(ctx, in)
}

// reapOrphans deletes what fits into one batch of the rows of inos and returns those that are not finished.
func (fs *FS) reapOrphans(ctx context.Context, inos []Ino) (left []Ino, err error) {
	t := fs.begin()
	defer t.close()
	t.frees = true
	var done []Ino
	var pinned []*inode
	defer func() {
		// Until the rows are gone the objects stay, which say so: whoever came in between would load the rows again.
		for _, in := range pinned {
			fs.table.unpin(in)
		}
	}()
	for i, ino := range inos {
		// With sharedMu held no lock of another inode may be waited for: who has that may wait for sharedMu.
		if i > 0 && (len(t.rows) >= batchRows/2 || t.shared) {
			left = append(left, inos[i:]...)
			break
		}
		if !fs.table.take(ino) {
			continue // somebody looked it up meanwhile: it comes again with the last Forget
		}
		in := fs.table.pin(ino)
		pinned = append(pinned, in)
		whole, err := fs.reapRows(ctx, t, in)
		if err != nil {
			return inos, fmt.Errorf("free inode %d: %w", ino, err)
		}
		if !whole {
			left = append(left, inos[i:]...)
			break
		}
		done = append(done, ino)
	}
	if err := t.commit(); err != nil {
		return inos, err
	}
	for _, ino := range done {
		fs.table.freed(ino)
	}
	return left, nil
}

// reapRows adds the deletion of the rows of one inode to t; false if they do not all fit.
func (fs *FS) reapRows(ctx context.Context, t *txn, in *inode) (bool, error) {
	// Nobody can come any more; those who came before are waited for.
	in.io.Lock()
	defer in.io.Unlock()
	in.op.Lock()
	defer in.op.Unlock()
	in.mu.RLock()
	gone := in.gone
	in.mu.RUnlock()
	if !gone { // else this is a later batch of it
		if err := fs.load(ctx, in); err != nil && !errors.Is(err, syscall.ESTALE) {
			return false, err
		}
	}
	in.mu.Lock()
	exists := in.loaded
	in.gone = true
	in.runs = runSet{}
	in.drops++
	fs.recountLocked(in)
	in.mu.Unlock()

	p := t.planExtents(ctx, in)
	defer p.close()
	to, err := p.replace(0, math.MaxUint64, nil)
	if err != nil {
		return false, err
	}
	if err := p.finish(); err != nil {
		return false, err
	}
	if to != math.MaxUint64 {
		return false, nil
	}
	n := uint64(in.ino)
	names, err := fs.xattrs(ctx, in)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if len(t.rows) >= batchRows {
			return false, nil
		}
		t.del(meta.XattrKey(n, name))
	}
	if exists {
		t.files--
	}
	t.del(meta.InodeKey(n))
	t.del(meta.OrphanKey(n))
	if _, cut := fs.table.cut(in.ino); cut {
		t.del(meta.TruncateKey(n))
	}
	return true, nil
}

// waitReaped waits until nothing is left to free or truncate, for tests and for a clean stop.
func (fs *FS) waitReaped() {
	fs.reap.mu.Lock()
	defer fs.reap.mu.Unlock()
	for len(fs.reap.inos)+len(fs.reap.cuts) > 0 || fs.reap.busy {
		fs.reap.idle.Wait()
	}
}
