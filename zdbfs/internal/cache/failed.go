package cache

import (
	"context"
	"time"
)

// failure is a stripe that was waited for in vain.
type failure struct {
	err       error
	until     time.Time
	answering string // then
}

// remember takes in how a fetch ended. One that works shows that the nodes are there again, so all that failed may be asked
// for; one that was in vain fails at once for a while. Stripes are told apart by the hint: where it is too large, a neighbour
// of an unreadable stripe fails with it for that while.
func (f *Fetcher) remember(key flightKey, err error, inVain bool) {
	if err != nil && !inVain {
		return
	}
	now := failure{err: err}
	if inVain {
		now.answering = f.source.Answering(f.ctx)
		now.until = time.Now().Add(f.opt.Remember)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !inVain {
		clear(f.failed)
		return
	}
	for k, old := range f.failed {
		if time.Now().After(old.until) {
			delete(f.failed, k)
		}
	}
	f.failed[key] = now
}

// recently gives the error of a stripe that was waited for in vain a moment ago, unless other nodes answer now than did then.
func (f *Fetcher) recently(ctx context.Context, key flightKey) error {
	f.mu.Lock()
	late, ok := f.failed[key]
	f.mu.Unlock()
	if !ok || time.Now().After(late.until) {
		return nil
	}
	if f.source.Answering(ctx) == late.answering {
		return late.err
	}
	f.mu.Lock()
	clear(f.failed)
	f.mu.Unlock()
	return nil
}
