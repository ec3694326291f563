package service

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"qsfs/zdbfs"
)

const (
	// maxDelay is the longest that one write is held up; more would look like a hang.
	maxDelay = 100 * time.Millisecond
	// slowFrom is the share of the budget from which writers are slowed.
	slowFrom = 0.8
	// fullFrom is the share from which files that are only written bypass the kernel's cache, so
	// that who writes hears ENOSPC at once.
	fullFrom = 0.95
	// kernelSlack is what the kernel may have accepted before we can refuse: twice what it is
	// allowed to hold dirty for the mount.
	kernelSlack = 128 << 20
	// roomPatience is how long a write waits for room while nothing leaves, longestWait how long in all. Who comes after a
	// wait in vain is refused at once, until something leaves.
	roomPatience = 5 * time.Second
	longestWait  = 20 * time.Second
)

// pressure slows writers down, and in the end refuses them, before undispersed data fills the local
// budget. The service feeds it; writers ask it at every write, without a lock.
type pressure struct {
	budget      atomic.Int64 // bytes that may be here undispersed
	undispersed atomic.Int64 // bytes that are, with what was admitted since they were counted
	overdrawn   atomic.Int64 // bytes of cached writes that were admitted without room, since there was some
	overdue     atomic.Int64 // how long beyond max_unshipped_age the oldest change waits, in ns
	maxAge      time.Duration
	throttled   atomic.Int64 // unix ns of the last delay
	// wanted is poked when a writer waits for room.
	wanted chan struct{}

	mu      sync.Mutex
	counted int64         // undispersed at the last update
	left    time.Time     // when something left last
	stalled bool          // somebody waited in vain since
	closing bool          // nothing leaves any more
	news    chan struct{} // closed at the next change
}

func newPressure(maxAge time.Duration) *pressure {
	return &pressure{maxAge: maxAge, wanted: make(chan struct{}, 1), news: make(chan struct{})}
}

// update takes in a new count.
func (p *pressure) update(budget, undispersed int64, age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if undispersed < p.counted {
		p.left, p.stalled = time.Now(), false
	}
	p.counted = undispersed
	p.tellLocked()
	p.budget.Store(budget)
	p.undispersed.Store(undispersed)
	if undispersed < budget {
		p.overdrawn.Store(0)
	}
	p.overdue.Store(int64(max(age-p.maxAge, 0)))
}

// evicted says that a segment has left: who waits for room has reason to. n are those of its bytes that counted.
func (p *pressure) evicted(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.stalled = time.Now(), false
	p.counted -= n
	p.undispersed.Add(-n)
	p.tellLocked()
}

// close ends the waiting: nobody measures from now on. What the kernel has accepted is still taken, from its reserve.
func (p *pressure) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	p.tellLocked()
}

func (p *pressure) tellLocked() {
	close(p.news)
	p.news = make(chan struct{})
}

// level is the share of the budget that is used.
func (p *pressure) level() float64 {
	b := p.budget.Load()
	if b <= 0 {
		return 1
	}
	return float64(p.undispersed.Load()) / float64(b)
}

// tight says that writers should hear of a full filesystem without a cache in between.
func (p *pressure) tight() bool { return p.level() >= fullFrom }

// take counts n bytes in if they fit: many wait, and what one takes is not there for the next.
func (p *pressure) take(n int) bool {
	for {
		u := p.undispersed.Load()
		if int64(n) > p.budget.Load()-u {
			return false
		}
		if p.undispersed.CompareAndSwap(u, u+int64(n)) {
			return true
		}
	}
}

func (p *pressure) full() bool { return p.undispersed.Load() >= p.budget.Load() }

// slowing says whether a writer was held up of late.
func (p *pressure) slowing() bool {
	return time.Since(time.Unix(0, p.throttled.Load())) < 5*time.Second
}

// delay grows smoothly from nothing: with the share of the budget above slowFrom, and with the time
// that the oldest change is overdue, up to as long again as it was allowed.
func (p *pressure) delay() time.Duration {
	f := (p.level() - slowFrom) / (1 - slowFrom)
	if p.maxAge > 0 {
		f = max(f, float64(p.overdue.Load())/float64(p.maxAge))
	}
	f = min(max(f, 0), 1)
	return time.Duration(f * f * float64(maxDelay))
}

// admit is zdbfs.Options.Admit.
func (p *pressure) admit(ctx context.Context, _ zdbfs.Ino, n int, fl zdbfs.WriteFlags) error {
	if !p.take(n) && !p.await(ctx, n) {
		if !fl.Cache {
			return syscall.ENOSPC
		}
		// write(2) has succeeded long ago: there is a reserve for it. It is counted from where the room
		// ended, for the budget may have shrunk far below what is here, when others fill the disk.
		if p.overdrawn.Add(int64(n)) > kernelSlack {
			p.overdrawn.Add(-int64(n))
			return syscall.ENOSPC
		}
		p.undispersed.Add(int64(n))
	}
	d := p.delay()
	if d < time.Millisecond {
		return nil
	}
	p.throttled.Store(time.Now().UnixNano())
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// await waits for room and takes it, while data leaves for the nodes or from the cache: a writer that is faster than they are is slowed to
// their speed and not refused.
func (p *pressure) await(ctx context.Context, n int) bool {
	start := time.Now()
	for {
		p.mu.Lock()
		news, left, stalled, closing := p.news, p.left, p.stalled, p.closing
		p.mu.Unlock()
		if p.take(n) {
			return true
		}
		if !stalled && left.Before(start) {
			left = start
		}
		rest := min(roomPatience-time.Since(left), longestWait-time.Since(start))
		if ctx.Err() != nil || closing {
			return false
		}
		if rest <= 0 {
			p.mu.Lock()
			p.stalled = p.stalled || time.Since(p.left) >= roomPatience
			p.mu.Unlock()
			return false
		}
		p.throttled.Store(time.Now().UnixNano())
		select {
		case p.wanted <- struct{}{}:
		default:
		}
		timer := time.NewTimer(rest)
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
