package zdb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHistoryWhileItMoves: while versions go from the overlay to the index, are swept, moved and indexed anew, a list in pages has
// every version that is promised, once, and its value can be read; a deleted key is among the deleted ones.
func TestHistoryWhileItMoves(t *testing.T) {
	r := newRig(t)
	r.o.OverlayBytes = 64 << 10
	r.ns.SegmentSize = 64 << 10
	r.ns.Retention = &Retention{KeepFor: time.Hour}
	r.ns.Compaction = Compaction{Auto: true, LiveFraction: 0.9}
	n := r.open()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	const keys = 3
	var count [keys]atomic.Int64
	fails := make(chan error, 100)
	var wg sync.WaitGroup
	run := func(f func(rng *rand.Rand) error) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for ctx.Err() == nil {
				if err := f(rng); err != nil && ctx.Err() == nil {
					fails <- err
					cancel()
					return
				}
			}
		})
	}
	name := func(k int) []byte { return []byte("key" + strings.Repeat("\x00", k)) }
	// Version i of key k has i as its value; every seventh is a delete.
	for k := range keys {
		run(func(rng *rand.Rand) error {
			b := NewBatch()
			i := count[k].Load()
			many := int64(1 + rng.IntN(20))
			for j := i + 1; j <= i+many; j++ {
				if j%7 == 0 {
					b.Delete(name(k))
				} else {
					b.Set(name(k), []byte(strconv.FormatInt(j, 10)))
				}
				b.Set([]byte("next"), []byte(strings.Repeat("n", 100)))
				b.Set(fmt.Appendf(nil, "other%d", rng.IntN(50)), []byte(strings.Repeat("o", 200)))
			}
			if _, err := n.Commit(ctx, b); err != nil {
				return err
			}
			count[k].Store(i + many)
			if i > 3000 {
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		})
	}
	lists, pages := 0, 0
	list := func(rng *rand.Rand) error {
		k := rng.IntN(keys)
		least := count[k].Load()
		want, before := int64(-1), Seq(0)
		hold := n.Hold()
		defer hold.Release()
		for {
			limit := 1 + rng.IntN(600)
			page, err := n.History(ctx, name(k), before, limit)
			if err != nil {
				return err
			}
			pages++
			for _, v := range page {
				got := int64(0)
				if !v.Deleted {
					p := make([]byte, v.Length)
					if _, err := n.ReadLocation(ctx, v.Location, 0, p); err != nil {
						return fmt.Errorf("read version: %w", err)
					}
					if got, err = strconv.ParseInt(string(p), 10, 64); err != nil {
						return err
					}
				} else if got = want; want < 0 {
					got = (least + 6) / 7 * 7 // any
					want = -2
				}
				if want == -1 {
					if got < least-1 || got < least && least%7 != 0 {
						return fmt.Errorf("the list of %q begins at %d, %d were written", name(k), got, least)
					}
				} else if want >= 0 && (got != want || v.Deleted != (want%7 == 0)) {
					return fmt.Errorf("in the list of %q comes %d (deleted %v), want %d", name(k), got, v.Deleted, want)
				}
				if want == -2 {
					want = -1
					continue
				}
				want = got - 1
			}
			if len(page) < limit {
				if want > 0 {
					return fmt.Errorf("the list of %q ends above %d", name(k), want)
				}
				lists++
				return nil
			}
			before = page[len(page)-1].Seq
		}
	}
	run(list)
	run(func(rng *rand.Rand) error { // the deleted ones
		it, err := n.NewDeletedIter(ctx, IterOptions{})
		if err != nil {
			return err
		}
		for ok := it.Seek(nil); ok; ok = it.Next() {
			if !strings.HasPrefix(string(it.Key()), "key") || !it.Deleted().Deleted || it.Last().Deleted {
				err = fmt.Errorf("%q is listed as deleted", it.Key())
			}
		}
		time.Sleep(time.Millisecond)
		return errors.Join(err, it.Err(), it.Close())
	})
	run(func(rng *rand.Rand) error { // what goes on in the background
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		switch rng.IntN(6) {
		case 0:
			n.SetPlain([]byte("next"))
		case 1:
			n.SetPlain(nil)
		case 2:
			if rng.IntN(3) == 0 {
				return n.RebuildIndex(ctx)
			}
		case 3:
			seq, err := n.Pin(ctx)
			if err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
			return n.Unpin(seq)
		case 4:
			_, err := n.Compact(ctx, CompactOptions{})
			return err
		default:
			n.compactor.mu.Lock()
			defer n.compactor.mu.Unlock()
			return n.runSweep(ctx)
		}
		return nil
	})
	wg.Wait()
	close(fails)
	for err := range fails {
		t.Error(err)
	}
	t.Logf("%d lists, %d pages, %d versions, %d segments", lists, pages, n.Stats().Versions, len(n.Segments()))
	if t.Failed() {
		return
	}
	if res, err := n.Check(t.Context(), CheckOptions{}); err != nil || !res.Clean() {
		t.Errorf("%+v, %v", res, err)
	}
}
