// Package budget bounds the memory of what is in flight.
//
// There is one budget for everything that moves: uploads, repairs and fetches draw from it, so that
// the sum is what the configuration says. Fetches may use a reserve that uploads leave alone: a
// read never waits for a full pipeline of writes.
package budget

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// Budget is a number of bytes that can be taken and given back.
type Budget struct {
	total   int64
	used    atomic.Int64
	peak    atomic.Int64
	writes  *semaphore.Weighted
	reads   *semaphore.Weighted
	maxRead int64
	maxPut  int64
}

// New divides total: a quarter is kept for reads.
func New(total int64) *Budget {
	reads := total / 4
	return &Budget{
		total: total, maxRead: reads, maxPut: total - reads,
		writes: semaphore.NewWeighted(total - reads), reads: semaphore.NewWeighted(reads),
	}
}

// Write takes n bytes for an upload or a repair and gives the function that returns them. More
// than the whole budget is granted when nothing else is in flight, rather than never.
func (b *Budget) Write(ctx context.Context, n int64) (release func(), err error) {
	return b.take(ctx, b.writes, min(n, b.maxPut), n)
}

// Read takes n bytes for a fetch.
func (b *Budget) Read(ctx context.Context, n int64) (release func(), err error) {
	return b.take(ctx, b.reads, min(n, b.maxRead), n)
}

func (b *Budget) take(ctx context.Context, s *semaphore.Weighted, grant, n int64) (func(), error) {
	if n < 0 {
		return nil, fmt.Errorf("negative memory request %d", n)
	}
	if err := s.Acquire(ctx, grant); err != nil {
		return nil, fmt.Errorf("wait for memory: %w", err)
	}
	u := b.used.Add(n)
	for p := b.peak.Load(); u > p && !b.peak.CompareAndSwap(p, u); p = b.peak.Load() {
	}
	var done atomic.Bool
	return func() {
		if done.CompareAndSwap(false, true) {
			b.used.Add(-n)
			s.Release(grant)
		}
	}, nil
}

// Total is the whole budget, Used what is out, Peak the most that ever was.
func (b *Budget) Total() int64 { return b.total }

// Used is what is out now.
func (b *Budget) Used() int64 { return b.used.Load() }

// Peak is the most that was ever out.
func (b *Budget) Peak() int64 { return b.peak.Load() }
