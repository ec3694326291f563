package zdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// besider writes pairs of keys in one batch each, so that whoever looks sees both alike.
type besider struct {
	t     *testing.T
	r     *rig
	n     *Namespace
	ctx   context.Context
	mu    sync.Mutex
	want  map[string]string
	saved map[SegmentID][]byte

	iterated, pinned, evicted, removed int
}

func (b *besider) fetch(_ context.Context, _ string, id SegmentID, off, n int64) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.saved[id]; off+n <= int64(len(p)) {
		return p[off : off+n], nil
	}
	return nil, fmt.Errorf("no copy of d%d", id)
}

func (b *besider) write(w int, rng *rand.Rand) error {
	batch := NewBatch()
	changes := make(map[string]string)
	for range 1 + rng.IntN(4) {
		pair := fmt.Sprintf("%d/%02d/", w, rng.IntN(40))
		value := fmt.Sprintf("%d %s", rng.Uint64(), strings.Repeat("x", rng.IntN(300)))
		for _, half := range []string{"a", "b"} {
			if rng.IntN(3) == 0 && half == "a" {
				value = ""
			}
			if value == "" {
				batch.Delete([]byte(pair + half))
			} else {
				batch.Set([]byte(pair+half), []byte(value))
			}
			changes[pair+half] = value
		}
	}
	_, err := b.n.Commit(b.ctx, batch)
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		for k, v := range changes {
			if v == "" {
				delete(b.want, k)
			} else {
				b.want[k] = v
			}
		}
	}
	return err
}

func (b *besider) dump(o IterOptions) (map[string]string, error) {
	it, err := b.n.NewIter(b.ctx, o)
	if err != nil {
		return nil, err
	}
	got := make(map[string]string)
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", it.Key(), err), it.Close())
		}
		got[string(it.Key())] = string(v)
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		return nil, err
	}
	for k, v := range got {
		other := k[:len(k)-1] + string('a'+'b'-k[len(k)-1])
		if got[other] != v {
			return nil, fmt.Errorf("%s is %.30q, and %s, of the same batch, %.30q", k, v, other, got[other])
		}
	}
	return got, nil
}

func (b *besider) iterate(*rand.Rand) error {
	_, err := b.dump(IterOptions{})
	b.iterated++
	return err
}

func (b *besider) pin(rng *rand.Rand) error {
	seq, err := b.n.Pin(b.ctx)
	if err != nil {
		return err
	}
	first, err := b.dump(IterOptions{At: seq})
	for range 3 {
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
		var again map[string]string
		if again, err = b.dump(IterOptions{At: seq, Reverse: rng.IntN(2) == 0}); err == nil && !maps.Equal(first, again) {
			err = fmt.Errorf("at %v there were %d keys, now %d, or others", seq, len(first), len(again))
		}
	}
	b.pinned++
	return errors.Join(err, b.n.Unpin(seq))
}

func (b *besider) get(rng *rand.Rand) error {
	key := fmt.Sprintf("%d/%02d/a", rng.IntN(2), rng.IntN(40))
	if _, err := b.n.Get(b.ctx, []byte(key)); err != nil && err != ErrNotFound {
		return err
	}
	return nil
}

func (b *besider) evict(rng *rand.Rand) error {
	time.Sleep(20 * time.Millisecond)
	for _, s := range b.n.Segments() {
		if !s.Sealed || !s.Local || rng.IntN(4) > 0 {
			continue
		}
		f, err := b.r.mem.Open(filepath.Join(b.r.dir, "data", "ns", s.ID.DataName()), false)
		if err != nil {
			continue // removed meanwhile
		}
		p := make([]byte, s.Length)
		if _, err := f.ReadAt(p, 0); err != nil {
			return err
		}
		b.mu.Lock()
		b.saved[s.ID] = p
		b.mu.Unlock()
		if err := b.n.Evict(b.ctx, s.ID); err != nil && !errors.Is(err, ErrSegment) {
			return err
		}
		b.evicted++
	}
	return nil
}

func (b *besider) compact(rng *rand.Rand) error {
	_, err := b.n.Compact(b.ctx, CompactOptions{All: rng.IntN(2) == 0})
	return err
}

// TestCompactBeside compacts beside writers, readers, iterators, pins, evictions and rebuilds of the index.
func TestCompactBeside(t *testing.T) {
	t.Parallel()
	long := 4 * time.Second
	if os.Getenv("QSFS_LONG") != "" {
		long = 2 * time.Minute
	}
	r := newRig(t)
	r.ns.SegmentSize, r.ns.InlineMax = 16<<10, 100
	r.ns.Compaction = Compaction{Auto: true, RateBytes: -1}
	b := &besider{t: t, r: r, want: make(map[string]string), saved: make(map[SegmentID][]byte)}
	r.o.Fetch = b.fetch
	b.n = r.open()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	b.ctx = t.Context()
	var wg sync.WaitGroup
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i, do := range []func(*rand.Rand) error{
		func(rng *rand.Rand) error { return b.write(0, rng) },
		func(rng *rand.Rand) error { return b.write(1, rng) },
		b.get, b.iterate, b.pin, b.evict, b.compact,
		func(*rand.Rand) error {
			time.Sleep(time.Second)
			return b.n.RebuildIndex(b.ctx)
		},
		func(rng *rand.Rand) error {
			time.Sleep(50 * time.Millisecond)
			return b.n.SetRetention(Retention{KeepLast: rng.IntN(4)})
		},
	} {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := do(rng); err != nil {
					t.Errorf("worker %d: %v", i, err)
					cancel()
				}
			}
		})
	}
	wg.Wait()
	segments := b.n.Segments()
	b.removed = int(segments[len(segments)-1].ID) + 1 - len(segments)
	if b.iterated < 5 || b.pinned < 1 || b.evicted < 5 || b.removed < 10 {
		t.Errorf("%d iterations, %d pins, %d evictions, %d removed segments: too few to say anything", b.iterated, b.pinned, b.evicted, b.removed)
	}
	wantAll(t, b.n, b.want)
	if res, err := b.n.Check(t.Context(), CheckOptions{}); err != nil || !res.Clean() {
		t.Errorf("%+v, %v", res, err)
	}
	if err := b.n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.powerOff()
	wantAll(t, r.open(), b.want)
	r.close()
	dropIndex(t, r)
	wantAll(t, r.open(), b.want)
}
