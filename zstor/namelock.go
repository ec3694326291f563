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
	n := l.enter(name)
	select {
	case n.held <- struct{}{}:
		return func() { <-n.held; l.leave(name, n) }, nil
	case <-ctx.Done():
		l.leave(name, n)
		return nil, ctx.Err()
	}
}

// tryLock is lock for who does not wait: nil when somebody works on the name.
func (l *nameLocks) tryLock(name string) (unlock func()) {
	n := l.enter(name)
	select {
	case n.held <- struct{}{}:
		return func() { <-n.held; l.leave(name, n) }
	default:
		l.leave(name, n)
		return nil
	}
}

func (l *nameLocks) enter(name string) *nameLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[string]*nameLock{}
	}
	n := l.m[name]
	if n == nil {
		n = &nameLock{held: make(chan struct{}, 1)}
		l.m[name] = n
	}
	n.users++
	return n
}

func (l *nameLocks) leave(name string, n *nameLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(l.m, name)
	}
}
