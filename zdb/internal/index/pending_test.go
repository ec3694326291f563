package index

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"qsfs/zdb/segfile"
)

// TestPending compares with a map, for keys in order, in no order, and mixed.
func TestPending(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var p pending
	for round := range 30 {
		p.reset()
		model := map[string]*Entry{}
		next, odd := 0, false
		for i := range 400 {
			k := rng.IntN(500)
			if round%3 == 0 || round%3 == 1 && rng.IntN(4) > 0 {
				next += rng.IntN(3)
				k = next
			} else {
				odd = true
			}
			key := fmt.Appendf(nil, "%06d", k)
			var e *Entry
			if rng.IntN(4) > 0 {
				e = &Entry{Seq: segfile.Seq(i + 1)}
			}
			p.put(key, e)
			model[string(key)] = e
			for range 3 {
				key := fmt.Appendf(nil, "%06d", rng.IntN(max(500, next)))
				want, has := model[string(key)]
				got, ok := p.get(key)
				if ok != has || (got == nil) != (want == nil) || got != nil && got.Seq != want.Seq {
					t.Fatalf("round %d: get(%s) = %v %v, want %v %v", round, key, got, ok, want, has)
				}
			}
		}
		seen := map[string]bool{}
		p.keys(func(key []byte) {
			if seen[string(key)] {
				t.Errorf("round %d: %s twice", round, key)
			}
			seen[string(key)] = true
		})
		if len(seen) != len(model) {
			t.Errorf("round %d: %d keys, want %d", round, len(seen), len(model))
		}
		if round%3 == 0 && len(p.odd) > 0 || odd && len(p.odd) == 0 {
			t.Errorf("round %d: %d keys outside of the run", round, len(p.odd))
		}
	}
}

// TestPendingKeepsWhatItGave: an entry that was looked up is not changed by what comes after it.
func TestPendingKeepsWhatItGave(t *testing.T) {
	var p pending
	for _, key := range []string{"b", "c", "a"} { // two in the run, one not
		p.put([]byte(key), &Entry{Seq: 1})
		e, ok := p.get([]byte(key))
		p.put([]byte(key), &Entry{Seq: 2})
		if !ok || e.Seq != 1 {
			t.Errorf("%s: %v %v", key, e, ok)
		}
	}
}

// TestCarver: what is carved before a reset never overlaps, and appending more than was asked for spoils nothing.
func TestCarver(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var c carver
	for round := range 5 {
		c.reset()
		var got [][]byte
		for i := range 2000 {
			n := 1 + rng.IntN(200)
			if rng.IntN(500) == 0 {
				n = maxCarved + rng.IntN(100)
			}
			p := c.bytes(n)
			if len(p) != 0 || cap(p) != n {
				t.Fatalf("round %d: %d of %d bytes, want 0 of %d", round, len(p), cap(p), n)
			}
			if got = append(got, append(p, bytes.Repeat([]byte{byte(i)}, n)...)); i%7 == 0 {
				_ = append(got[i], "beyond"...)
			}
			if e := c.set(got[i], nil); !bytes.Equal(e.Key, got[i]) || e.Value != nil || e.UserMeta != 0 {
				t.Fatalf("round %d: set %v", round, e)
			}
		}
		for i, p := range got {
			if !bytes.Equal(p, bytes.Repeat([]byte{byte(i)}, len(p))) {
				t.Fatalf("round %d: piece %d was written over", round, i)
			}
		}
	}
	chunks := len(c.chunks)
	c.reset()
	for range 2000 {
		c.bytes(1)
	}
	if len(c.chunks) != chunks {
		t.Errorf("%d chunks, %d were there", len(c.chunks), chunks)
	}
}
