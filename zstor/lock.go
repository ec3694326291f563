package zstor

import "context"

// lock is a mutex that a context can give up waiting for.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) lock() { l <- struct{}{} }

func (l lock) lockCtx(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lock) tryLock() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l lock) unlock() { <-l }
