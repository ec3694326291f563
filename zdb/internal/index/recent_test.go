package index

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"qsfs/zdb/segfile"
)

func placeOf(i int) Entry {
	return Entry{Seq: segfile.MakeSeq(1, uint64(i)+1), Location: segfile.Location{Segment: 1, Offset: 256 + int64(i), Length: 5000}}
}

// TestRecentNeverOld: readers that fill the memory of places while an applier changes them never see an older entry than
// what was applied before they began, and a key that was removed stays so.
func TestRecentNeverOld(t *testing.T) {
	x := openTest(t, t.TempDir())
	defer x.Retire(false)
	keys := [][]byte{[]byte("a"), []byte("removed and set in turns"), make([]byte, recentKey), make([]byte, recentKey+1)}
	const rounds = 300
	var applied atomic.Int64 // rounds that are in
	var wg sync.WaitGroup
	fail := make(chan error, 8)
	for range 4 {
		wg.Go(func() {
			for applied.Load() < rounds {
				for k, key := range keys {
					before := int(applied.Load())
					e, ok, err := x.Get(key)
					after := int(applied.Load()) + 1 // one more may have become visible
					got := int(e.Location.Offset) - 255
					switch {
					case err != nil:
						fail <- err
						return
					case ok && (got < before || got > after) && k != 1, ok && k == 1 && (got < before-1 || got > after):
						fail <- fmt.Errorf("key %d: round %d, between %d and %d", k, got, before, after)
						return
					case !ok && before > 0 && k != 1:
						fail <- fmt.Errorf("key %d is gone after round %d", k, before)
						return
					case ok && k == 1 && got%2 == 0:
						fail <- fmt.Errorf("key %d: the place of a delete", k)
						return
					}
				}
			}
		})
	}
	for i := range rounds {
		a := x.NewApplier(false, Policy{})
		for k, key := range keys {
			c := Change{Key: key, Entry: placeOf(i), Delete: k == 1 && i%2 == 1}
			c.Seq = segfile.MakeSeq(1, uint64(i*len(keys)+k)+1)
			if err := a.Add(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Flush(Position{Segment: 1, Offset: int64(i), Seq: segfile.MakeSeq(1, uint64((i+1)*len(keys)))}); err != nil {
			t.Fatal(err)
		}
		a.Discard()
		applied.Store(int64(i + 1))
		if _, ok, err := x.Get(keys[1]); err != nil || ok != (i%2 == 0) {
			t.Fatalf("round %d: the key is there: %v, %v", i, ok, err)
		}
	}
	wg.Wait()
	select {
	case err := <-fail:
		t.Fatal(err)
	default:
	}
}

// TestRecentOwners: two indexes with the same keys do not see each other's places, nor those of one that was there before.
func TestRecentOwners(t *testing.T) {
	for i := range 3 {
		x := openTest(t, t.TempDir())
		a := x.NewApplier(false, Policy{})
		key := []byte("the same")
		if _, ok, err := x.Get(key); err != nil || ok {
			t.Fatalf("index %d is empty and has %v, %v", i, ok, err)
		}
		if err := a.Add(Change{Key: key, Entry: placeOf(i)}); err != nil {
			t.Fatal(err)
		}
		if err := a.Flush(Position{Segment: 1, Offset: 1, Seq: segfile.MakeSeq(1, uint64(i)+1)}); err != nil {
			t.Fatal(err)
		}
		a.Discard()
		for range 2 { // the second one from memory
			if e, ok, err := x.Get(key); err != nil || !ok || e.Location != placeOf(i).Location || e.Seq != placeOf(i).Seq {
				t.Fatalf("index %d: %+v, %v, %v", i, e, ok, err)
			}
		}
		if err := x.Retire(false); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecentLate: an entry that was read before its key changed is not remembered after.
func TestRecentLate(t *testing.T) {
	x := openTest(t, t.TempDir())
	defer x.Retire(false)
	key, old := []byte("late"), placeOf(1)
	_, version, _ := places.get(x.owner, key)
	places.forget(x.owner, key)
	places.put(x.owner, key, &old, version)
	if _, _, ok := places.get(x.owner, key); ok {
		t.Fatal("an entry from before the change is remembered")
	}
}
