package bazil

import (
	"context"
	"sync"

	"bazil.org/fuse"
)

// maxEarly bounds the interrupts that are kept for requests not yet begun.
const maxEarly = 256

// interrupts cancels the requests that may be cancelled. Two goroutines read requests, so an
// interrupt can be seen before the request that it is for: it is kept until that one begins.
type interrupts struct {
	mu      sync.Mutex
	running map[fuse.RequestID]context.CancelFunc
	early   map[fuse.RequestID]struct{}
	order   []fuse.RequestID // of early, oldest first
}

func newInterrupts() interrupts {
	return interrupts{
		running: make(map[fuse.RequestID]context.CancelFunc),
		early:   make(map[fuse.RequestID]struct{}),
	}
}

// begin gives the context of a request that may be interrupted. The caller calls finish.
func (t *interrupts) begin(id fuse.RequestID) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running[id] = cancel
	if _, ok := t.early[id]; ok {
		cancel()
	}
	return ctx
}

func (t *interrupts) finish(id fuse.RequestID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cancel := t.running[id]; cancel != nil {
		cancel()
		delete(t.running, id)
	}
}

// interrupt cancels id. Numbers are not used twice, so one that never comes does no harm.
func (t *interrupts) interrupt(id fuse.RequestID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cancel := t.running[id]; cancel != nil {
		cancel()
		return
	}
	if _, ok := t.early[id]; ok {
		return
	}
	if len(t.order) == maxEarly {
		delete(t.early, t.order[0])
		t.order = t.order[1:]
	}
	t.early[id] = struct{}{}
	t.order = append(t.order, id)
}
