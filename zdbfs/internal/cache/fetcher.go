package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Stripe is what a Source gives: bytes of a segment, with the place of the first one.
type Stripe struct {
	Offset        int64
	SegmentLength int64
	Data          []byte
}

// Source fetches the stripe that holds byte off of a segment. It is asked again after an error for
// which Temporary is true, until the deadline of the context.
type Source interface {
	Stripe(ctx context.Context, seg Segment, off int64) (Stripe, error)
	Temporary(err error) bool
	// Answering names those who could be asked, as they are now: when it changes, what failed may work. It is quick.
	Answering(ctx context.Context) string
}

// FetcherOptions of a Fetcher.
type FetcherOptions struct {
	// Timeout is how long a stripe is asked for again, all attempts together (30 s). An attempt under way then has Grace
	// more (1 s): a source that keeps the same time has the better reason, and knows which stripe it was.
	Timeout, Grace time.Duration
	// StripeHint is the usual size of a stripe (1 MiB): readers of the same one are merged by it. A
	// wrong hint costs an extra round, nothing else.
	StripeHint int64
	// Remember is how long a stripe that was waited for in vain fails at once (3 s): the kernel asks again for a page after
	// its readahead has failed, and so would wait a second time.
	Remember time.Duration
	// Parallel bounds the stripes that are fetched at one time (32), so the memory they take.
	Parallel int64
	// Log gets what is not kept; nil discards. Failures are the caller's to tell.
	Log *slog.Logger
}

// FetchError says which bytes could not be fetched and why.
type FetchError struct {
	Segment Segment
	Offset  int64
	Err     error
}

// Error gives one line.
func (e *FetchError) Error() string {
	return fmt.Sprintf("fetch %s at %d: %v", e.Segment, e.Offset, e.Err)
}

// Unwrap gives the cause.
func (e *FetchError) Unwrap() error { return e.Err }

// Fetcher reads evicted bytes: from the cache, or from the source, once for all who wait.
type Fetcher struct {
	cache    *Cache
	source   Source
	opt      FetcherOptions
	parallel *semaphore.Weighted

	ctx    context.Context // of all fetches
	cancel context.CancelFunc

	mu      sync.Mutex
	flights map[flightKey]*flight
	failed  map[Segment][]failure // of late
	closed  bool
	wg      sync.WaitGroup
}

type flightKey struct {
	seg   Segment
	round int64 // offset in units of the hint
}

// flight is one fetch of the stripe that holds byte off; done is closed when stripe or err is set, gone when the stripe is
// in the cache and a new flight may begin.
type flight struct {
	off    int64
	done   chan struct{}
	gone   chan struct{}
	stripe Stripe
	err    error
}

// NewFetcher gives a Fetcher over c.
func NewFetcher(c *Cache, s Source, o FetcherOptions) *Fetcher {
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = time.Second
	}
	if o.StripeHint == 0 {
		o.StripeHint = 1 << 20
	}
	if o.Remember == 0 {
		o.Remember = 3 * time.Second
	}
	if o.Parallel == 0 {
		o.Parallel = 32
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Fetcher{
		ctx: ctx, cancel: cancel,
		cache: c, source: s, opt: o, parallel: semaphore.NewWeighted(o.Parallel),
		flights: make(map[flightKey]*flight), failed: make(map[Segment][]failure),
	}
}

// Fetch reads n bytes of a segment from off. It gives all of them or an error, and fetches no more
// stripes than hold them. A caller whose context ends stops waiting; the fetch itself goes on, for
// the cache and for others.
func (f *Fetcher) Fetch(ctx context.Context, seg Segment, off, n int64) ([]byte, error) {
	p := make([]byte, n)
	for done := int64(0); done < n; {
		got, err := f.next(ctx, seg, off+done, p[done:])
		if err != nil {
			return nil, err
		}
		done += int64(got)
	}
	return p, nil
}

// next fills the front of p with what one stripe has.
func (f *Fetcher) next(ctx context.Context, seg Segment, off int64, p []byte) (int, error) {
	for start := time.Now(); ; {
		if n := f.cache.ReadAt(seg, off, p); n > 0 {
			return n, nil
		}
		key := flightKey{seg, off / f.opt.StripeHint}
		if err := f.recently(ctx, seg, off); err != nil {
			return 0, err
		}
		fl, err := f.join(key, off)
		if err != nil {
			return 0, err
		}
		select {
		case <-fl.done:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if fl.err != nil && (fl.fails(off) || time.Since(start) >= f.opt.Timeout*3/4) {
			return 0, fl.err
		}
		if at := off - fl.stripe.Offset; at >= 0 && at < int64(len(fl.stripe.Data)) {
			return copy(p, fl.stripe.Data[at:]), nil
		}
		// The hint was wrong: that flight was for a neighbour.
		select {
		case <-fl.gone:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// join gives the flight that may bring byte off, and starts one if there is none.
func (f *Fetcher) join(key flightKey, off int64) (*flight, error) {
	seg := key.seg
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, &FetchError{seg, off, errors.New("shutting down")}
	}
	if fl := f.flights[key]; fl != nil {
		return fl, nil
	}
	fl := &flight{off: off, done: make(chan struct{}), gone: make(chan struct{})}
	f.flights[key] = fl
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		var inVain bool
		fl.stripe, inVain, fl.err = f.fetch(seg, off)
		// Before anybody hears of it, so that who asks again at once does not wait again.
		f.remember(seg, off, fl.err, inVain)
		close(fl.done)
		if fl.err == nil {
			if err := f.cache.Put(seg, fl.stripe.Offset, fl.stripe.Data); err != nil {
				f.opt.Log.Warn("a fetched stripe was not kept", "segment", seg.String(), "err", err)
			}
		}
		// Only now: who comes between would find it neither here nor in the cache.
		f.mu.Lock()
		delete(f.flights, key)
		f.mu.Unlock()
		close(fl.gone)
	}()
	return fl, nil
}

// fails says whether what failed is known to hold byte off too. Where it is not known, nobody is sent to wait a second time
// who has waited for most of the time with it.
func (fl *flight) fails(off int64) bool {
	from, to := span(fl.err, fl.off)
	return from <= off && off < to
}

// fetch asks the source until it answers, says that asking is useless, or time is up: then it was in vain.
func (f *Fetcher) fetch(seg Segment, off int64) (_ Stripe, inVain bool, _ error) {
	asking, stop := context.WithTimeout(f.ctx, f.opt.Timeout)
	defer stop()
	ctx, cancel := context.WithTimeout(f.ctx, f.opt.Timeout+f.opt.Grace)
	defer cancel()
	fail := func(err error) (Stripe, bool, error) {
		return Stripe{}, asking.Err() != nil, &FetchError{seg, off, err}
	}
	if err := f.parallel.Acquire(asking, 1); err != nil {
		return fail(fmt.Errorf("no free slot within %v", f.opt.Timeout))
	}
	defer f.parallel.Release(1)
	var last error
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		st, err := f.source.Stripe(ctx, seg, off)
		if err == nil {
			if off < st.Offset || off >= st.Offset+int64(len(st.Data)) {
				return fail(fmt.Errorf("asked for byte %d, got [%d, %d)", off, st.Offset, st.Offset+int64(len(st.Data))))
			}
			return st, false, nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if ctx.Err() == nil && !f.source.Temporary(err) {
			return fail(err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-asking.Done():
			timer.Stop()
			return fail(fmt.Errorf("gave up after %v: %w", f.opt.Timeout, last))
		case <-timer.C:
		}
	}
}

// Close refuses new fetches, cancels those in flight and waits for them.
func (f *Fetcher) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
}
