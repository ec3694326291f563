package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("nodes are away")

// source serves one segment in stripes of size.
type source struct {
	data  []byte
	size  int64
	calls atomic.Int64
	gate  chan struct{} // nil: no waiting
	fail  func(call int64) error
	lost  int64 // the stripe that holds this byte fails with errAway; 0: none
	blunt bool  // errors do not say which stripe it was

	answering atomic.Int64
}

func (s *source) Answering(context.Context) string { return fmt.Sprint(s.answering.Load()) }

func (s *source) Stripe(ctx context.Context, _ Segment, off int64) (Stripe, error) {
	call := s.calls.Add(1)
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return Stripe{}, ctx.Err()
		}
	}
	if s.fail != nil {
		if err := s.fail(call); err != nil {
			return Stripe{}, s.failed(err, off/s.size*s.size)
		}
	}
	from := off / s.size * s.size
	if s.lost != 0 && s.lost/s.size*s.size == from {
		return Stripe{}, s.failed(errAway, from)
	}
	to := min(from+s.size, int64(len(s.data)))
	return Stripe{Offset: from, SegmentLength: int64(len(s.data)), Data: s.data[from:to]}, nil
}

func (s *source) failed(err error, from int64) error {
	if s.blunt {
		return err
	}
	return stripeError{err, from, s.size}
}

type stripeError struct {
	error
	off, n int64
}

func (e stripeError) Span() (off, n int64) { return e.off, e.n }
func (e stripeError) Unwrap() error        { return e.error }

func (s *source) Temporary(err error) bool { return errors.Is(err, errAway) }

func TestFetchTouchesOnlyItsStripes(t *testing.T) {
	for _, hint := range []int64{1000, 750, 1 << 20} {
		src := &source{data: pattern(1, 9500), size: 1000}
		f := NewFetcher(open(t, t.TempDir(), 1<<30), src, FetcherOptions{StripeHint: hint})
		for _, c := range []struct{ off, n, calls int64 }{{2500, 100, 1}, {2000, 1000, 0}, {3990, 20, 2}, {9400, 100, 1}, {0, 9500, 6}} {
			src.calls.Store(0)
			got, err := f.Fetch(t.Context(), seg, c.off, c.n)
			if err != nil || !bytes.Equal(got, src.data[c.off:c.off+c.n]) {
				t.Fatalf("hint %d, [%d, +%d): %v", hint, c.off, c.n, err)
			}
			if src.calls.Load() != c.calls {
				t.Errorf("hint %d, [%d, +%d): %d fetches, want %d", hint, c.off, c.n, src.calls.Load(), c.calls)
			}
			settle(f)
		}
		f.Close()
	}
}

// settle waits until what was fetched is in the cache.
func settle(f *Fetcher) { f.wg.Wait() }

func TestOneFetchForAll(t *testing.T) {
	src := &source{data: pattern(2, 5000), size: 1000, gate: make(chan struct{})}
	f := NewFetcher(open(t, t.TempDir(), 1<<30), src, FetcherOptions{StripeHint: 1000})
	defer f.Close()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			off := int64(1000 + i*20)
			got, err := f.Fetch(context.Background(), seg, off, 20)
			if err != nil || !bytes.Equal(got, src.data[off:off+20]) {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	close(src.gate)
	wg.Wait()
	if n := src.calls.Load(); n != 1 {
		t.Errorf("%d fetches for one stripe", n)
	}
}

func TestTemporaryIsTriedAgainUntilTheDeadline(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 1<<30)
	synctest.Test(t, func(t *testing.T) {
		src := &source{data: pattern(3, 500), size: 1000, fail: func(call int64) error {
			if call < 5 {
				return errAway
			}
			return nil
		}}
		f := NewFetcher(c, src, FetcherOptions{Timeout: 30 * time.Second})
		if _, err := f.Fetch(context.Background(), seg, 0, 10); err != nil {
			t.Errorf("nodes came back: %v", err)
		}
		f.Close()
		src.fail = func(int64) error { return errAway }
		f = NewFetcher(c, src, FetcherOptions{Timeout: 30 * time.Second})
		start := time.Now()
		_, err := f.Fetch(context.Background(), Segment{"zdbfs-data", 99}, 0, 10)
		if !errors.Is(err, errAway) {
			t.Errorf("got %v, want the reason", err)
		}
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("gave up after %v", d)
		}
		f.Close()
	})
}

func TestDamagedIsNotTriedAgain(t *testing.T) {
	bad := errors.New("damaged")
	src := &source{data: pattern(4, 500), size: 1000, fail: func(int64) error { return bad }}
	f := NewFetcher(open(t, t.TempDir(), 1<<30), src, FetcherOptions{})
	defer f.Close()
	if _, err := f.Fetch(t.Context(), seg, 0, 10); !errors.Is(err, bad) {
		t.Fatalf("got %v", err)
	}
	if src.calls.Load() != 1 {
		t.Errorf("%d attempts", src.calls.Load())
	}
}

func TestCancelledReaderDoesNotCancelTheFetch(t *testing.T) {
	src := &source{data: pattern(5, 500), size: 1000, gate: make(chan struct{})}
	c := open(t, t.TempDir(), 1<<30)
	f := NewFetcher(c, src, FetcherOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := f.Fetch(ctx, seg, 0, 10)
		done <- err
	}()
	for src.calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	close(src.gate)
	settle(f)
	f.Close()
	if got := readAll(c, seg, 0, 500); !bytes.Equal(got, src.data) {
		t.Error("the stripe did not reach the cache")
	}
	if _, err := f.Fetch(t.Context(), Segment{"zdbfs-data", 8}, 0, 1); err == nil {
		t.Error("a closed fetcher fetches")
	}
}
