package index

import (
	"encoding/binary"
	"log/slog"
	"path/filepath"
	"testing"

	"qsfs/zdb/segfile"
)

func filterKey(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)*0x9e3779b97f4a7c15) }

// TestFilter: what was added is there over several levels, and of what was not, little is.
func TestFilter(t *testing.T) {
	const n = 200_000
	f := newFilter()
	for i := range n {
		f.add(filterKey(i))
	}
	wrong := 0
	for i := range n {
		if !f.has(filterKey(i)) {
			t.Fatalf("key %d was added and is not there", i)
		}
		if f.has(filterKey(n + i)) {
			wrong++
		}
	}
	if len(*f.levels.Load()) < 3 {
		t.Errorf("%d levels, want several", len(*f.levels.Load()))
	}
	if wrong > n/20 {
		t.Errorf("%d of %d keys that were not added pass", wrong, n)
	}
}

func openTest(t *testing.T, dir string) *Index {
	t.Helper()
	x, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func applyKeys(t *testing.T, x *Index, from, to int) {
	t.Helper()
	a := x.NewApplier(false, Policy{})
	defer a.Discard()
	for i := from; i < to; i++ {
		c := Change{Key: filterKey(i)}
		c.Seq, c.Location = segfile.MakeSeq(1, uint64(i)+1), segfile.Location{Segment: 1, Offset: 256, Length: 1}
		if err := a.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Flush(Position{Segment: 1, Offset: int64(to), Seq: segfile.MakeSeq(1, uint64(to))}); err != nil {
		t.Fatal(err)
	}
}

// TestFilterOfIndex: a new index has a filter, one that is opened gets it from a walk while the applier goes on, and
// no key is ever lost by it.
func TestFilterOfIndex(t *testing.T) {
	const half = 5000
	dir := filepath.Join(t.TempDir(), "1")
	check := func(x *Index, to int) {
		t.Helper()
		for i := range to {
			if _, ok, err := x.Get(filterKey(i)); err != nil || !ok {
				t.Fatalf("key %d: %v, %v", i, ok, err)
			}
		}
		if _, ok, err := x.Get([]byte("none")); err != nil || ok {
			t.Fatalf("a key that is not there: %v, %v", ok, err)
		}
	}
	x := openTest(t, dir)
	applyKeys(t, x, 0, half)
	if x.absent.whole.Load() == nil {
		t.Error("a new index has no filter")
	}
	check(x, half)
	if err := x.Retire(false); err != nil {
		t.Fatal(err)
	}
	x = openTest(t, dir)
	check(x, half)
	applyKeys(t, x, half, 2*half)
	check(x, 2*half)
	x.absent.wg.Wait()
	f := x.absent.whole.Load()
	if f == nil || f.size() < 2*half*9/10 {
		t.Errorf("after the walk the filter is %v", f)
	}
	check(x, 2*half)
	if err := x.Retire(false); err != nil {
		t.Fatal(err)
	}
	// A number of keys that does not agree is damage: nothing may be called absent then.
	x = openTest(t, dir)
	x.state.keys++
	applyKeys(t, x, 0, 1)
	x.absent.wg.Wait()
	if x.absent.whole.Load() != nil {
		t.Error("a filter of too few keys counts as whole")
	}
	check(x, 2*half)
	if err := x.Retire(false); err != nil {
		t.Fatal(err)
	}
}
