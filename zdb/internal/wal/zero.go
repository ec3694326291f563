package wal

import (
	"errors"
	"sync"
)

const (
	zeroChunk = 256 << 10
	// zeroAhead is how far zeros are written ahead of the log, zeroLow when the next stretch begins.
	zeroAhead = 4 << 20
	zeroLow   = 1 << 20
)

var zeros [zeroChunk]byte

// zeroer writes zeros ahead of the log: an fsync of blocks that were written
// before need not journal a new length. Zeros never parse as a batch.
type zeroer struct {
	mu    sync.Mutex // held over a write that makes the file longer
	limit int64      // length of the file
	round int        // counts segments

	on   bool // set before the goroutine starts, not changed after
	wake chan struct{}
	done chan struct{}
	wg   sync.WaitGroup
}

// write puts p at off. Where that is beyond what was written ahead, it excludes the zeros.
func (z *zeroer) write(h *Handle, p []byte, off int64) error {
	if !z.on {
		_, err := h.WriteAt(p, off)
		return err
	}
	end := off + int64(len(p))
	z.mu.Lock()
	if end > z.limit {
		defer z.mu.Unlock()
		if _, err := h.WriteAt(p, off); err != nil {
			return err
		}
		z.limit = end
		z.poke()
		return nil
	}
	low := z.limit-end < zeroLow
	z.mu.Unlock()
	if low {
		z.poke()
	}
	_, err := h.WriteAt(p, off)
	return err
}

func (z *zeroer) poke() {
	select {
	case z.wake <- struct{}{}:
	default:
	}
}

// reset begins a new file of the given length.
func (z *zeroer) reset(length int64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.limit = length
	z.round++
	if z.on {
		z.poke()
	}
}

func (z *zeroer) start(l *Log) {
	z.wake, z.done = make(chan struct{}, 1), make(chan struct{})
	z.on = true
	z.poke()
	z.wg.Go(func() {
		for {
			select {
			case <-z.done:
				return
			case <-z.wake:
			}
			if err := z.run(l); err != nil {
				l.o.Log.Debug("no zeros ahead of the log", "namespace", l.o.Namespace, "error", err)
			}
		}
	})
}

func (z *zeroer) halt() {
	if z.on {
		close(z.done)
		z.wg.Wait()
	}
}

// run writes one stretch, or up to the size of the segment.
func (z *zeroer) run(l *Log) error {
	l.mu.Lock()
	if l.stateLocked() != nil {
		l.mu.Unlock()
		return nil
	}
	handle, end := l.active.handle.Retain(), l.head.Offset
	z.mu.Lock()
	round := z.round
	z.mu.Unlock()
	l.mu.Unlock()
	wrote, err := z.stretch(l, handle, end, round)
	if wrote {
		// The new length becomes durable here and not in somebody's fsync. It is an fsync like any other:
		// the kernel may report a lost page of somebody's batch here, and to nobody else.
		err = errors.Join(err, l.fsync(handle))
	}
	return errors.Join(err, handle.Release())
}

func (z *zeroer) stretch(l *Log, handle *Handle, end int64, round int) (wrote bool, err error) {
	goal := min(end+zeroAhead, l.segmentSize.Load())
	for {
		if l.o.Room != nil && !l.o.Room(zeroAhead) {
			return wrote, nil
		}
		z.mu.Lock()
		if z.round != round || z.limit >= goal {
			z.mu.Unlock()
			return wrote, nil
		}
		n := min(zeroChunk, goal-z.limit)
		_, err := handle.WriteAt(zeros[:n], z.limit)
		if err == nil {
			z.limit += n
		}
		z.mu.Unlock()
		if err != nil {
			return wrote, err
		}
		wrote = true
	}
}
