package index

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"qsfs/zdb/segfile"
)

// keep is what Prune has to come to, said in another way: the versions of one key that stay, newest first, the present
// one among them. From the oldest on, a delete stays only right above a value that does.
func keep(p *Policy, versions []Version) (stay []Version) {
	rank := 0
	ranks := make([]int, len(versions))
	for i := 1; i < len(versions); i++ {
		if !versions[i].Repeats(&versions[i-1]) {
			rank++
		}
		ranks[i] = rank
	}
	for i := len(versions) - 1; i >= 0; i-- {
		v := versions[i]
		if v.Delete && len(stay) > 0 && !stay[0].Delete || !v.Delete && (i == 0 || p.Wants(nil, ranks[i], &v, &versions[i-1])) {
			stay = slices.Insert(stay, 0, v)
		}
	}
	return stay
}

func seqs(list []Version) (s []segfile.Seq) {
	for _, v := range list {
		s = append(s, v.Seq)
	}
	return s
}

// bySeq is an age of a second for each sequence, but for the last few.
func bySeq(now *segfile.Seq, fewer int) func(*Version) time.Duration {
	return func(v *Version) time.Duration {
		return time.Duration(int(*now)-int(v.Seq)-fewer) * time.Second
	}
}

// TestPruneModel prunes histories of all kinds in steps of any size, and looks after each step at what can be read: what stays
// is there all the time, and at a pin every key has what it had.
func TestPruneModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for round := range 60 {
		x, err := Open(filepath.Join(t.TempDir(), "1"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		keys := []string{"", "\x00", "\x00\x01", "a", "a\x00b", "b"}
		var changes []Change
		seq := segfile.Seq(0)
		for range 20 + rng.IntN(100) {
			seq++
			c := change("k"+keys[rng.IntN(len(keys))], seq, rng.IntN(3) == 0)
			c.Time = int64(seq) * int64(time.Second)
			changes = append(changes, c)
		}
		feed(t, x, Policy{KeepLast: 1 << 20}, changes...)
		p := Policy{KeepLast: rng.IntN(5), Age: bySeq(&seq, 0)}
		if rng.IntN(2) == 0 {
			p.KeepFor = time.Duration(rng.IntN(60)) * time.Second
		}
		for range rng.IntN(3) {
			p.Pins = append(p.Pins, segfile.Seq(1+rng.IntN(int(seq))))
		}
		slices.Sort(p.Pins)
		p.Pins = slices.Compact(p.Pins)

		want := map[string][]Version{}
		at := map[segfile.Seq]map[string]segfile.Seq{}
		for _, key := range keys {
			key = "k" + key
			list := history(t, x, key)
			want[key] = keep(&p, list)
			for _, pin := range p.Pins {
				if at[pin] == nil {
					at[pin] = map[string]segfile.Seq{}
				}
				if i := slices.IndexFunc(list, func(v Version) bool { return v.Seq <= pin }); i >= 0 && !list[i].Delete {
					at[pin][key] = list[i].Seq
				}
			}
		}
		check := func(when string) {
			t.Helper()
			for key, list := range want {
				have := seqs(history(t, x, key))
				for _, v := range list {
					if !slices.Contains(have, v.Seq) {
						t.Fatalf("round %d %s: of %q %v is gone, have %v, want %v, policy %+v", round, when, key, v.Seq, have, seqs(list), p)
					}
				}
			}
			s := x.Snapshot()
			defer s.Close()
			for pin, keys := range at {
				got := map[string]segfile.Seq{}
				it := s.NewIterAt(rng.IntN(2) == 0, pin)
				for it.Seek(nil); it.Valid(); it.Next() {
					e, _ := it.Entry()
					got[string(it.Key())] = e.Seq
				}
				it.Close()
				if fmt.Sprint(got) != fmt.Sprint(keys) {
					t.Fatalf("round %d %s: at %v %v, want %v", round, when, pin, got, keys)
				}
			}
		}
		check("before")
		steps, left := 0, 0
		for place := (*Place)(nil); ; steps++ {
			if rng.IntN(20) == 0 {
				place, left = nil, 0 // as after a restart
			}
			next, _, n, err := x.Prune(place, p, 1+rng.IntN(10))
			if err != nil {
				t.Fatal(err)
			}
			left += n
			check(fmt.Sprintf("after step %d", steps))
			if place = next; next == nil {
				break
			}
		}
		count := int64(0)
		for key, list := range want {
			if have := seqs(history(t, x, key)); !slices.Equal(have, seqs(list)) {
				t.Fatalf("round %d: of %q %v stays, want %v, policy %+v", round, key, have, seqs(list), p)
			}
			count += int64(len(list))
		}
		if present, _ := x.Totals(); count-present != x.Versions() || int64(left) != x.Versions() {
			t.Fatalf("round %d: %d versions, %d counted, %d left", round, count-present, x.Versions(), left)
		}
		if err := x.Retire(true); err != nil {
			t.Fatal(err)
		}
	}
}

func history(t *testing.T, x *Index, key string) []Version {
	t.Helper()
	s := x.Snapshot()
	defer s.Close()
	list, err := s.History([]byte(key), ^segfile.Seq(0), 1000)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
