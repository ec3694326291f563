package cache

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestFailureIsRememberedBriefly: who asks again for a stripe that was waited for in vain hears so at once, as does who came
// late to the wait; after a while, after a success elsewhere, and when somebody answers who did not, it is fetched again.
func TestFailureIsRememberedBriefly(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 1<<30)
	synctest.Test(t, func(t *testing.T) {
		const timeout = 30 * time.Second
		src := &source{data: pattern(6, 5000), size: 1000}
		away := func(int64) error { return errAway }
		f := NewFetcher(c, src, FetcherOptions{Timeout: timeout, StripeHint: 1000})
		defer f.Close()
		ask := func(what string, off int64, want error, after time.Duration) {
			t.Helper()
			start := time.Now()
			_, err := f.Fetch(context.Background(), seg, off, 10)
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
			if d := time.Since(start); d != after {
				t.Errorf("%s: after %v, want %v", what, d, after)
			}
		}
		src.fail = away
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { // all of them wait for one fetch
				time.Sleep(time.Duration(i) * time.Second)
				ask("together", int64(1000+i), errAway, timeout-time.Duration(i)*time.Second)
			})
		}
		wg.Wait()
		calls := src.calls.Load()
		ask("again", 1000, errAway, 0)
		ask("another page of it", 1700, errAway, 0)
		if n := src.calls.Load(); n != calls {
			t.Errorf("%d fetches more", n-calls)
		}
		ask("another stripe", 2000, errAway, timeout)
		ask("when it is forgotten", 1000, errAway, timeout)

		src.fail = nil
		ask("the nodes are there, and nobody noticed", 1000, errAway, 0)
		ask("a stripe that did not fail", 3000, nil, 0)
		ask("after that success", 1000, nil, 0)

		src.fail = away
		ask("one more", 4000, errAway, timeout)
		src.fail = nil
		src.answering.Add(1)
		ask("a node came back", 4000, nil, 0)
	})
}

// TestNeighboursOfAFailure: what can be read is read, next to what cannot, whatever the hint says of where stripes begin: while
// the other one is waited for, and while its failure is remembered.
func TestNeighboursOfAFailure(t *testing.T) {
	for _, blunt := range []bool{false, true} {
		dir := t.TempDir()
		c := open(t, dir, 1<<30)
		synctest.Test(t, func(t *testing.T) {
			const timeout = 30 * time.Second
			src := &source{data: pattern(6, 8000), size: 1000, lost: 5500, blunt: blunt}
			f := NewFetcher(c, src, FetcherOptions{Timeout: timeout, StripeHint: 4000})
			defer f.Close()
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := f.Fetch(t.Context(), seg, 5500, 10); !errors.Is(err, errAway) {
					t.Errorf("the lost stripe: %v", err)
				}
			})
			time.Sleep(timeout / 2)
			wg.Go(func() {
				if _, err := f.Fetch(t.Context(), seg, 6500, 10); err != nil {
					t.Errorf("blunt %v: the stripe behind, while the lost one is waited for: %v", blunt, err)
				}
			})
			wg.Wait()
			if _, err := f.Fetch(t.Context(), seg, 5500, 10); !errors.Is(err, errAway) {
				t.Errorf("the lost stripe: %v", err)
			}
			start := time.Now()
			if _, err := f.Fetch(t.Context(), seg, 4500, 10); err != nil || time.Since(start) > 0 {
				t.Errorf("blunt %v: the stripe before, after that: %v after %v", blunt, err, time.Since(start))
			}
		})
	}
}

// TestDamageIsNotRemembered: an answer that came at once is asked for again at once.
func TestDamageIsNotRemembered(t *testing.T) {
	bad := errors.New("damaged")
	src := &source{data: pattern(4, 500), size: 1000, fail: func(call int64) error {
		if call == 1 {
			return bad
		}
		return nil
	}}
	f := NewFetcher(open(t, t.TempDir(), 1<<30), src, FetcherOptions{})
	defer f.Close()
	if _, err := f.Fetch(t.Context(), seg, 0, 10); !errors.Is(err, bad) {
		t.Fatalf("got %v", err)
	}
	if _, err := f.Fetch(t.Context(), seg, 0, 10); err != nil {
		t.Errorf("mended, and %v", err)
	}
}
