package zdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"qsfs/zdb/segfile"
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

// TestLost: a segment that is gone without having been removed is missed; one that was compacted away is not.
func TestLost(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	n := r.open()
	want := overwritten(t, n)
	if _, err := n.Compact(t.Context(), CompactOptions{}); err != nil {
		t.Fatal(err)
	}
	gone := SegmentID(0)
	for _, s := range n.Segments() {
		if s.Sealed && s.Live > 0 {
			gone = s.ID
		}
	}
	// The place up to which the index has come lies behind the segment that will be lost.
	put(t, n, "last", "x")
	want["last"] = "x"
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.close()
	for _, path := range []string{filepath.Join(r.dir, "data", "ns", gone.DataName()), filepath.Join(r.dir, "index", "ns", gone.IndexName())} {
		if err := r.mem.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	n = r.open()
	if lost := n.Lost(); len(lost) != 1 || lost[0] != gone {
		t.Fatalf("lost %v, want %d", lost, gone)
	}
	var missing *MissingError
	bad := 0
	for k, v := range want {
		e, err := n.Get(t.Context(), []byte(k))
		switch {
		case errors.As(err, &missing) && missing.Segment == gone:
			bad++
		case err != nil || string(e.Value) != v:
			t.Fatalf("%s: %.20q, %v", k, e.Value, err)
		}
	}
	if bad == 0 || bad > len(want)/2 {
		t.Fatalf("%d of %d values are missing", bad, len(want))
	}
	r.close()
	dropIndex(t, r)
	n = r.open()
	if _, err := n.Get(t.Context(), []byte("k001")); !errors.As(err, &missing) {
		t.Fatalf("an index is made of a log with a hole: %v", err)
	}
	if err := n.AcceptLoss(gone); err != nil {
		t.Fatal(err)
	}
	if got := all(t, n); len(got) == 0 || len(got) >= len(want)+200 {
		t.Fatalf("%d keys", len(got))
	}
}

// TestCompactNoSpace: on a full disk a run fails and everything is as before.
func TestCompactNoSpace(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 16 << 10
	n := r.open()
	want := overwritten(t, n)
	r.mem.SetLimit(r.mem.Used() + 1<<10)
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("on a full disk: %v", err)
	}
	wantAll(t, n, want)
	// The log has room, the index has not.
	r.mem.SetLimit(r.mem.Used() + 8<<20)
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("without room for the index: %v", err)
	}
	wantAll(t, n, want)
	r.mem.SetLimit(1 << 40)
	if res, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil || res.Segments == 0 {
		t.Fatalf("with room again: %+v, %v", res, err)
	}
	wantAll(t, n, want)
}

// TestAutoBound overwrites everything ten times beside readers: the disk stays within twice what is live.
func TestAutoBound(t *testing.T) {
	keys := 4 << 10 // of 4 KiB: 16 MiB
	if os.Getenv("QSFS_LONG") != "" {
		keys = 256 << 10
	}
	live := int64(keys) * 4112
	db := openAt(t, t.TempDir(), nil)
	n := openNS(t, db, "ns", NamespaceOptions{SegmentSize: max(live/32, 1<<20), Compaction: Compaction{Auto: true}})
	value := make([]byte, 4096)
	rng := rand.New(rand.NewPCG(1, 2))
	most := int64(0)
	for i := 0; i < 11*keys; i += 16 {
		b := NewBatch()
		for k := range 16 {
			at := i + k
			if i >= keys {
				at = rng.IntN(keys)
			}
			b.Set(fmt.Appendf(nil, "%016d", at), value)
		}
		if _, err := n.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if i >= keys && i%1024 == 0 {
			if _, err := n.Get(t.Context(), fmt.Appendf(nil, "%016d", rng.IntN(keys))); err != nil {
				t.Fatal(err)
			}
			most = max(most, n.Stats().DiskBytes)
		}
	}
	t.Logf("%d MiB live, at most %d MiB on the disk", live>>20, most>>20)
	// What does not grow with the data: memtables of the index, and the segments at work.
	if limit := 2*live + 48<<20; most > limit {
		t.Errorf("%d bytes on the disk for %d live ones, want at most %d", most, live, limit)
	}
}

// FuzzBesideLog: the files beside the log are refused or written again to the same bytes.
func FuzzBesideLog(f *testing.F) {
	for _, k := range []keepRecord{{}, {Retention: Retention{KeepLast: 3, KeepFor: 5}, Pins: []pin{{1, 1}, {9, 2}}}} {
		p := appendKeep(nil, k)
		f.Add(p[:len(p)-4])
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, q := range [][]byte{p, binary.LittleEndian.AppendUint32(bytes.Clone(p), crc32.Checksum(p, segfile.Castagnoli))} {
			k, err := parseKeep(q)
			if err != nil {
				continue
			}
			if again, err := parseKeep(appendKeep(nil, k)); err != nil || !reflect.DeepEqual(again, k) {
				t.Fatalf("%+v became %+v, %v", k, again, err)
			}
		}
	})
}
