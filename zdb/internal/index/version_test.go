package index

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"qsfs/zdb/segfile"
)

// feed takes changes in under a policy.
func feed(t *testing.T, x *Index, p Policy, changes ...Change) {
	t.Helper()
	a := x.NewApplier(false, p)
	defer a.Discard()
	for _, c := range changes {
		if err := a.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Flush(Position{}); err != nil {
		t.Fatal(err)
	}
}

func change(key string, seq segfile.Seq, remove bool) Change {
	c := Change{Key: []byte(key), Delete: remove}
	c.Seq, c.Location = seq, segfile.Location{Segment: 1, Offset: int64(seq) * 100, Length: 1}
	return c
}

// TestLeftOver: a version that an earlier policy kept is still there when the key is deleted under one that keeps nothing. Without
// the delete above it a pin that comes next would show it, and keep it.
func TestLeftOver(t *testing.T) {
	x, err := Open(filepath.Join(t.TempDir(), "1"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Retire(false)
	feed(t, x, Policy{KeepLast: 9}, change("k", 1, false), change("k", 2, false))
	feed(t, x, Policy{}, change("k", 3, true))
	pinned := Policy{Pins: []segfile.Seq{5}}
	feed(t, x, pinned, change("other", 6, false))
	look := func(when string) {
		t.Helper()
		s := x.Snapshot()
		defer s.Close()
		it := s.NewIterAt(false, 5)
		defer it.Close()
		if it.Seek(nil); it.Valid() {
			t.Errorf("%s: %s is there at the pin", when, it.Key())
		}
		if list, err := s.History([]byte("k"), 5, 1); err != nil || len(list) > 0 && !list[0].Delete {
			t.Errorf("%s: %+v, %v", when, list, err)
		}
	}
	look("before the sweep")
	if _, _, left, err := x.Prune(nil, pinned, 100); err != nil || left != 0 {
		t.Errorf("%d versions are left, %v", left, err)
	}
	look("after it")
	if live := x.Live()[1]; live != cost([]byte("other"), &Version{Location: segfile.Location{Length: 1}}) {
		t.Errorf("%d live bytes", live)
	}
}

// TestPruneLongKeys drops more than one transaction takes, of many long keys and of one key with very many versions.
func TestPruneLongKeys(t *testing.T) {
	for _, c := range []struct {
		name           string
		keys, versions int
		length         int
	}{{"long keys", 1500, 2, 4096}, {"many versions", 1, 10000, 10}} {
		x, err := Open(filepath.Join(t.TempDir(), "1"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		seq := segfile.Seq(1)
		var list []Change
		for range c.versions + 1 {
			for k := range c.keys {
				key := fmt.Sprintf("%06d", k) + strings.Repeat("\x00", c.length-6) // twice as long in a version
				list = append(list, change(key, seq, false))
				seq++
			}
		}
		feed(t, x, Policy{KeepLast: 1 << 20}, list...)
		var gone []Change
		for k := range c.keys {
			gone = append(gone, change(fmt.Sprintf("%06d", k)+strings.Repeat("\x00", c.length-6), seq, true))
			seq++
		}
		feed(t, x, Policy{KeepLast: 1 << 20}, gone...)
		if got, want := x.Versions(), int64(c.keys*(c.versions+2)); got != want {
			t.Fatalf("%s: %d versions, want %d", c.name, got, want)
		}
		for from := (*Place)(nil); ; {
			next, _, _, err := x.Prune(from, Policy{}, 4096)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if from = next; from == nil {
				break
			}
		}
		if got := x.Versions(); got != 0 {
			t.Errorf("%s: %d versions are left", c.name, got)
		}
		if err := x.Retire(false); err != nil {
			t.Fatal(err)
		}
	}
}
