package zdb

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// walk lists what an iterator meets, from seek on.
func walk(t *testing.T, n *Namespace, o IterOptions, seek []byte) string {
	t.Helper()
	it, err := n.NewIter(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for ok := it.Seek(seek); ok; ok = it.Next() {
		e, err := it.Entry()
		if err != nil {
			t.Fatal(err)
		}
		if !o.KeysOnly && string(e.Value) != "v"+string(e.Key) {
			t.Errorf("%s has value %q", e.Key, e.Value)
		}
		if o.KeysOnly && e.Value != nil {
			t.Errorf("value with KeysOnly: %q", e.Value)
		}
		got = append(got, string(it.Key()))
	}
	if it.Valid() || it.Next() {
		t.Error("valid behind the end")
	}
	if err := errors.Join(it.Err(), it.Close(), it.Close()); err != nil {
		t.Fatal(err)
	}
	return strings.Join(got, " ")
}

// TestIterBounds goes both ways over keys that are spread over index and two generations of the overlay.
func TestIterBounds(t *testing.T) {
	n, model := spread(t)
	// The applier works in the background: sometimes it has emptied a generation already.
	for try := 0; len(n.view.Load().tables) != 2; try++ {
		if try == 50 {
			t.Fatal("the overlay never has two generations")
		}
		n, model = spread(t)
	}
	var keys []string
	for k := range model {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	bounds := [][]byte{nil, {}, []byte("a"), []byte("bb"), []byte("c\x55"), []byte("cc"), []byte("zz")}
	for _, lower := range bounds {
		for _, upper := range bounds {
			for _, seek := range bounds {
				if seek != nil && len(seek) == 0 {
					continue
				}
				if upper != nil && len(upper) == 0 {
					continue
				}
				var fwd, back []string
				for _, k := range keys {
					if k < string(lower) || upper != nil && k >= string(upper) {
						continue
					}
					if k >= string(seek) {
						fwd = append(fwd, k)
					}
					if seek == nil || k <= string(seek) {
						back = append(back, k)
					}
				}
				slices.Reverse(back)
				o := IterOptions{Lower: lower, Upper: upper}
				if got, want := walk(t, n, o, seek), strings.Join(fwd, " "); got != want {
					t.Errorf("[%q, %q) from %q: %q, want %q", lower, upper, seek, got, want)
				}
				o.Reverse, o.KeysOnly = true, true
				if got, want := walk(t, n, o, seek), strings.Join(back, " "); got != want {
					t.Errorf("reverse [%q, %q) from %q: %q, want %q", lower, upper, seek, got, want)
				}
			}
		}
	}
}

// TestSnapshots: writers move a sum around between keys, one batch each; every
// iterator sees the same total, while batches are applied under it.
func TestSnapshots(t *testing.T) {
	r := newRig(t)
	r.o.OverlayBytes = 64 << 10
	r.ns.InlineMax = 64
	n := r.open()
	const accounts, total = 40, 40 * 1000
	b := NewBatch()
	for i := range accounts {
		b.Set(fmt.Appendf(nil, "acc%02d", i), []byte("1000"))
	}
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var writers, readers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				from, to := fmt.Appendf(nil, "acc%02d", rng.IntN(accounts)), fmt.Appendf(nil, "acc%02d", rng.IntN(accounts))
				if string(from) == string(to) {
					continue
				}
				b := NewBatch()
				_, err := n.CommitIf(t.Context(), b, func(r Reader) error {
					a, err := r.Get(from)
					if err != nil {
						return err
					}
					z, err := r.Get(to)
					if err != nil {
						return err
					}
					x, _ := strconv.Atoi(string(a.Value))
					y, _ := strconv.Atoi(string(z.Value))
					b.Set(from, strconv.AppendInt(nil, int64(x-1), 10))
					b.Set(to, strconv.AppendInt(nil, int64(y+1), 10))
					return nil
				})
				if err != nil {
					t.Errorf("transfer: %v", err)
					return
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for range 300 {
				it, err := n.NewIter(t.Context(), IterOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				sum, keys := 0, 0
				for ok := it.First(); ok; ok = it.Next() {
					v, err := it.Value()
					if err != nil {
						t.Error(err)
					}
					x, _ := strconv.Atoi(string(v))
					sum, keys = sum+x, keys+1
				}
				if err := errors.Join(it.Err(), it.Close()); err != nil {
					t.Error(err)
				}
				if sum != total || keys != accounts {
					t.Errorf("%d keys with a sum of %d, want %d with %d", keys, sum, accounts, total)
					return
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	writers.Wait()
	if s := n.Stats(); s.Commits < 100 {
		t.Errorf("only %d commits", s.Commits)
	}
}

// spread makes a namespace whose keys are in the index and in two generations of the overlay, and says which live.
func spread(t *testing.T) (*Namespace, map[string]bool) {
	t.Helper()
	n := newRig(t).open()
	model := map[string]bool{}
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 3 {
		b := NewBatch()
		for range 60 {
			k := strings.Repeat(string(rune('a'+rng.IntN(5))), 1+rng.IntN(3)) + string(rune(rng.IntN(4)*0x55))
			if rng.IntN(3) == 0 {
				b.Delete([]byte(k))
				delete(model, k)
			} else {
				b.Set([]byte(k), []byte("v"+k))
				model[k] = true
			}
		}
		if _, err := n.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		switch round {
		case 0:
			if err := n.apply(t.Context()); err != nil {
				t.Fatal(err)
			}
		case 1:
			n.freeze()
		}
	}
	return n, model
}
