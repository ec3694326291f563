package zdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// overwritten writes keys in small segments, and overwrites or deletes most of them.
func overwritten(t *testing.T, n *Namespace) map[string]string {
	t.Helper()
	want := make(map[string]string)
	for round := range 4 {
		for i := range 200 {
			if round > 0 && i%(7*round) == 0 {
				continue
			}
			key := fmt.Sprintf("k%03d", i)
			if round == 3 && i%5 == 0 {
				del(t, n, key)
				delete(want, key)
				continue
			}
			value := fmt.Sprintf("%d of %s %s", round, key, strings.Repeat("x", i))
			put(t, n, key, value)
			want[key] = value
		}
	}
	return want
}

func del(t *testing.T, n *Namespace, keys ...string) {
	t.Helper()
	b := NewBatch()
	for _, k := range keys {
		b.Delete([]byte(k))
	}
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func wantAll(t *testing.T, n *Namespace, want map[string]string) {
	t.Helper()
	got := all(t, n)
	for k, v := range want {
		if got[k] != v {
			t.Fatalf("%s = %.30q, want %.30q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d keys, want %d", len(got), len(want))
	}
}

func dropIndex(t *testing.T, r *rig) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(r.dir, "index", "ns", badgerDir)); err != nil {
		t.Fatal(err)
	}
}

// TestCompact: everything is there after a run, after reopening, and after the index was made again from what
// is left of the log; and what is dead is gone.
func TestCompact(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	n := r.open()
	want := overwritten(t, n)
	res, err := n.Compact(t.Context(), CompactOptions{All: true})
	if err != nil || res.Segments == 0 || res.Freed == 0 || len(res.Kept) > 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	wantAll(t, n, want)
	before := n.Stats()
	if before.LogBytes > 2*before.LiveBytes {
		t.Errorf("%d bytes are left of the log, %d are live", before.LogBytes, before.LiveBytes)
	}
	segments := n.Segments()
	r.close()
	n = r.open()
	wantAll(t, n, want)
	r.close()
	dropIndex(t, r)
	n = r.open()
	wantAll(t, n, want)
	after := n.Segments()
	for i := range segments {
		if segments[i].Live != after[i].Live {
			t.Errorf("segment %d: %d live bytes, %d after the rebuild", segments[i].ID, segments[i].Live, after[i].Live)
		}
	}
	if s := n.Stats(); s.Keys != before.Keys || s.LiveBytes != before.LiveBytes || len(n.Lost()) > 0 {
		t.Errorf("after the rebuild %+v, before %+v, lost %v", s, before, n.Lost())
	}
	// A second run has nothing to do, or next to nothing.
	if res, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil || res.Segments > 2 {
		t.Errorf("second run: %+v, %v", res, err)
	}
}

// TestCompactHeld: an iterator from before reads its values to the end, and so does who holds places.
func TestCompactHeld(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	n := r.open()
	overwritten(t, n)
	want := all(t, n)
	it, err := n.NewIter(t.Context(), IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	hold := n.Hold()
	e, err := n.Locate(t.Context(), []byte("k001"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := n.Compact(t.Context(), CompactOptions{All: true})
	if err != nil || len(res.Kept) == 0 || res.Segments > 0 {
		t.Fatalf("with readers: %+v, %v", res, err)
	}
	count := 0
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil || string(v) != want[string(it.Key())] {
			t.Fatalf("%s = %.20q, %v", it.Key(), v, err)
		}
		count++
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil || count != len(want) {
		t.Fatalf("%d keys, %v", count, err)
	}
	p := make([]byte, e.Location.Length)
	if res, err = n.Compact(t.Context(), CompactOptions{}); err != nil || res.Segments > 0 {
		t.Fatalf("with a hold: %+v, %v", res, err)
	}
	if _, err := n.ReadLocation(t.Context(), e.Location, 0, p); err != nil || string(p) != want["k001"] {
		t.Fatalf("held place: %q, %v", p, err)
	}
	hold.Release()
	if res, err = n.Compact(t.Context(), CompactOptions{}); err != nil || res.Segments == 0 {
		t.Fatalf("without readers: %+v, %v", res, err)
	}
	if _, err := n.ReadLocation(t.Context(), e.Location, 0, p); !errors.Is(err, ErrSegment) {
		t.Errorf("a place that is gone: %v", err)
	}
	wantAll(t, n, want)
}
