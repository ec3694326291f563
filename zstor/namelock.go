package zstor

import (
	"context"
	"sync"
)

// nameLocks lets one operation at a time work on a name. What a file's name stands for is read, made and replaced in
// several steps; two at once would each replace the same generation, and one of theirs would be named by nothing.
type nameLocks struct {
	mu sync.Mutex
	m  map[string]*nameLock
}

type nameLock struct {
	held  chan struct{} // has one place
	users int           // who holds it or waits; guarded by nameLocks.mu
}

// lock waits for a name; the caller calls unlock, once.
func (l *nameLocks) lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	if l.m == nil {
		l.m = map[string]*nameLock{}
	}
	n := l.m[name]
	if n == nil {
		n = &nameLock{held: make(chan struct{}, 1)}
		l.m[name] = n
	}
	n.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if n.users--; n.users == 0 {
			delete(l.m, name)
		}
	}
	select {
	case n.held <- struct{}{}:
		return func() { <-n.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
