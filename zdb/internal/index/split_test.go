package index

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"qsfs/zdb/segfile"
)

// TestSplitsChangeNothing: sets, deletes and what compaction moved, of few keys, give the same index in one transaction as in one for each change.
func TestSplitsChangeNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for round := range 5 {
		rebuild := round%4 == 3
		policy := Policy{}
		if round%2 == 1 {
			policy = Policy{KeepLast: 1 + round}
		}
		if round%5 == 4 {
			policy.KeepFor = time.Second
			policy.Age = func(v *Version) time.Duration { return time.Duration(1<<40 - v.Time) }
		}
		var changes []Change
		now := map[string]Change{} // newest of each
		for i := range 300 {
			key := fmt.Sprintf("key %02d", rng.IntN(30))
			old, ok := now[key]
			c := Change{Key: []byte(key), Entry: Entry{Seq: segfile.Seq(i + 1), Time: int64(i) << 30}}
			switch n := rng.IntN(10); {
			case n < 3 && ok && !old.Delete: // moved, once or again
				c = old
				c.Key, c.Relocate, c.Moved = []byte(key), !rebuild || rng.IntN(2) == 0, true
				c.Location = segfile.Location{Segment: segfile.ID(2 + rng.IntN(3)), Offset: int64(i) << 10, Length: old.Location.Length}
			case n < 5:
				c.Delete = true
				now[key] = c
			case n == 5 && ok:
				c = old // the same one again
			default:
				c.Location = segfile.Location{Segment: segfile.ID(1 + rng.IntN(3)), Offset: int64(i) << 10, Length: uint32(rng.IntN(200))}
				if rng.IntN(3) == 0 {
					c.Inline, c.Value = true, []byte(fmt.Sprint("value ", i))
					c.Location.Length = uint32(len(c.Value))
				}
				now[key] = c
			}
			changes = append(changes, c)
		}
		var want map[string]string
		for _, every := range []int{1, 7, 1000} {
			x := openTest(t, filepath.Join(t.TempDir(), "1"))
			a := x.NewApplier(rebuild, policy)
			buffer := make([]byte, 0, 64)
			for i, c := range changes {
				// Neither key nor value belong to the applier.
				buffer = append(append(buffer[:0], c.Key...), c.Value...)
				c.Key = buffer[:len(c.Key):len(c.Key)]
				if c.Inline {
					c.Value = buffer[len(c.Key):]
				}
				if err := a.Add(c); err != nil {
					t.Fatal(err)
				}
				if i%every == every-1 {
					if err := a.flush(nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := a.Flush(Position{Seq: 300}); err != nil {
				t.Fatal(err)
			}
			got := contents(t, x)
			if want == nil {
				want = got
			}
			if !maps.Equal(got, want) {
				for k, v := range want {
					if got[k] != v {
						t.Errorf("%q is %q, want %q", k, got[k], v)
					}
				}
				t.Fatalf("round %d, %d changes in a transaction: %d keys, want %d", round, every, len(got), len(want))
			}
			for key, c := range now {
				e, ok, err := x.Get([]byte(key))
				if err != nil || ok == c.Delete || ok && e.Seq != c.Seq {
					t.Fatalf("round %d: %s is %v, %v, %v, want %v", round, key, e, ok, err, c)
				}
			}
			a.Discard()
			if err := x.Retire(true); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func contents(t *testing.T, x *Index) map[string]string {
	t.Helper()
	txn := x.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.DefaultIteratorOptions)
	defer it.Close()
	all := make(map[string]string)
	for it.Rewind(); it.Valid(); it.Next() {
		v, err := it.Item().ValueCopy(nil)
		if err != nil {
			t.Fatal(err)
		}
		all[string(it.Item().KeyCopy(nil))] = string(v)
	}
	return all
}
