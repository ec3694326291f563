package cache

import (
	"context"
	"errors"
	"time"
)

// spanned is an error that knows which bytes of the segment the stripe has that could not be fetched.
type spanned interface{ Span() (off, n int64) }

// span is the bytes that are known to fail with err, which was the answer for byte off: those of its stripe, or that one alone.
func span(err error, off int64) (from, to int64) {
	var s spanned
	if errors.As(err, &s) {
		if at, n := s.Span(); at <= off && off-at < n {
			return at, at + n
		}
	}
	return off, off + 1
}

// failure is a stripe that was waited for in vain: its bytes, or the one that was asked for when the stripe is not known.
type failure struct {
	from, to  int64
	err       error
	until     time.Time
	answering string // then
}

// remember takes in how a fetch ended. One that works shows that the nodes are there again, so all that failed may be asked
// for; one that was in vain fails at once for a while.
func (f *Fetcher) remember(seg Segment, off int64, err error, inVain bool) {
	if err != nil && !inVain {
		return
	}
	now := failure{err: err}
	if inVain {
		now.from, now.to = span(err, off)
		now.answering = f.source.Answering(f.ctx)
		now.until = time.Now().Add(f.opt.Remember)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !inVain {
		clear(f.failed)
		return
	}
	for s, list := range f.failed {
		kept := list[:0]
		for _, old := range list {
			// What the new one covers is not needed any more.
			if time.Now().Before(old.until) && (s != seg || old.from < now.from || now.to < old.to) {
				kept = append(kept, old)
			}
		}
		f.failed[s] = kept
		if len(kept) == 0 {
			delete(f.failed, s)
		}
	}
	f.failed[seg] = append(f.failed[seg], now)
}

// recently gives the error of a stripe that was waited for in vain a moment ago, unless other nodes answer now than did then.
func (f *Fetcher) recently(ctx context.Context, seg Segment, off int64) error {
	late := f.lateAt(seg, off)
	if late == nil {
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

func (f *Fetcher) lateAt(seg Segment, off int64) *failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, late := range f.failed[seg] {
		if late.from <= off && off < late.to && time.Now().Before(late.until) {
			return &late
		}
	}
	return nil
}
