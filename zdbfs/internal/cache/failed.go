package cache

import "time"

// lookEvery is how often it is looked whether somebody answers who did not, while failures are remembered.
const lookEvery = 500 * time.Millisecond

// remember takes in how a fetch ended. One that works shows that the nodes are there again, so all that failed may be asked
// for; one that was in vain fails at once for a while. Stripes are told apart by the hint: where it is too large, a neighbour
// of an unreadable stripe fails with it for that while.
func (f *Fetcher) remember(key flightKey, err error, inVain bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		clear(f.failed)
	case inVain && !f.closed:
		f.failed[key] = failure{err, time.Now().Add(f.opt.Remember)}
		if !f.watched {
			f.watched = true
			f.wg.Go(f.watch)
		}
	}
}

// watch forgets failures when their time is over, and all of them when a node or the daemon comes back.
func (f *Fetcher) watch() {
	before := f.source.Answering(f.ctx)
	for f.expire() {
		timer := time.NewTimer(lookEvery)
		select {
		case <-f.ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		if now := f.source.Answering(f.ctx); now != before {
			before = now
			f.mu.Lock()
			clear(f.failed)
			f.mu.Unlock()
		}
	}
}

// expire says whether something is left to watch over; if not, the next failure starts a new watch.
func (f *Fetcher) expire() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for key, late := range f.failed {
		if !now.Before(late.until) {
			delete(f.failed, key)
		}
	}
	f.watched = len(f.failed) > 0 && f.ctx.Err() == nil
	return f.watched
}
