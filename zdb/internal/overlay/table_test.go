package overlay

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// TestModel compares gets and both directions of iteration at old versions with a list of all entries.
func TestModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	tab := New()
	if n := testing.AllocsPerRun(10, func() { tab.Get([]byte("x"), 1) }); n != 0 {
		t.Errorf("Get allocates %v times", n)
	}
	var all []Entry
	for v := uint64(1); v <= 3000; v++ {
		e := Entry{Key: fmt.Appendf(nil, "k%03d", rng.IntN(400)), Version: v, Delete: rng.IntN(4) == 0}
		tab.Add(e)
		all = append(all, e)
		if rng.IntN(100) == 0 { // entries come into the order in runs of any length
			it := tab.NewIter(v)
			if it.SeekGE(nil); it.Entry() == nil {
				t.Fatalf("version %d: nothing is there", v)
			}
			n := 0
			if tab.All(func(*Entry) bool { n++; return true }); n != int(v) {
				t.Fatalf("version %d: %d entries in order", v, n)
			}
		}
	}
	for _, version := range []uint64{0, 1, 17, 1000, 2999, 3000, 9999} {
		model := map[string]Entry{}
		for _, e := range all[:min(version, uint64(len(all)))] {
			model[string(e.Key)] = e
		}
		var keys []string
		for k := range model {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for i := range 400 {
			key := fmt.Appendf(nil, "k%03d", i)
			got, ok := tab.Get(key, version)
			want, has := model[string(key)]
			if ok != has || ok && got.Version != want.Version {
				t.Fatalf("Get(%s, %d) = %v %v, want %v %v", key, version, got, ok, want, has)
			}
		}
		it, n := tab.NewIter(version), 0
		for it.SeekGE(nil); it.Entry() != nil; it.Next() {
			if e := it.Entry(); string(e.Key) != keys[n] || e.Version != model[keys[n]].Version {
				t.Fatalf("at version %d forward %d: %s@%d, want %s@%d", version, n, e.Key, e.Version, keys[n], model[keys[n]].Version)
			}
			n++
		}
		for it.SeekLT(nil); it.Entry() != nil; it.Prev() {
			n--
			if e := it.Entry(); string(e.Key) != keys[n] || e.Version != model[keys[n]].Version {
				t.Fatalf("at version %d backward %d: %s@%d, want %s", version, n, e.Key, e.Version, keys[n])
			}
		}
		if n != 0 {
			t.Fatalf("at version %d: %d keys not seen backward", version, n)
		}
	}
}

// TestReadersAndWriter lets readers look while one goroutine adds; run it with -race too.
func TestReadersAndWriter(t *testing.T) {
	tab := New()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var last []byte
				added := tab.Len()
				it, seen := tab.NewIter(1<<62), map[string]bool{}
				for it.SeekGE(nil); it.Entry() != nil; it.Next() {
					seen[string(it.Entry().Key)] = true
					if last != nil && bytes.Compare(last, it.Entry().Key) >= 0 {
						t.Errorf("%s after %s", it.Entry().Key, last)
						return
					}
					last = it.Entry().Key
				}
				if len(seen) < int(min(added, 5000)) {
					t.Errorf("%d keys in order, %d had been added", len(seen), added)
					return
				}
			}
		})
	}
	for v := range uint64(20000) {
		tab.Add(Entry{Key: fmt.Appendf(nil, "%04d", v*7919%5000), Version: v + 1})
	}
	close(stop)
	wg.Wait()
	if tab.Len() != 20000 {
		t.Errorf("Len = %d", tab.Len())
	}
}

// TestAllBeforeOrder: who goes through a table that nobody has asked for its order gets it in order, and leaves it to iterators
// as it was.
func TestAllBeforeOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	tab := New()
	want := 0
	check := func() {
		t.Helper()
		var last *Entry
		n := 0
		tab.All(func(e *Entry) bool {
			if last != nil {
				if c := bytes.Compare(last.Key, e.Key); c > 0 || c == 0 && last.Version < e.Version {
					t.Fatalf("%s@%d before %s@%d", last.Key, last.Version, e.Key, e.Version)
				}
			}
			last = e
			n++
			return true
		})
		if n != want {
			t.Fatalf("%d entries, want %d", n, want)
		}
	}
	add := func() {
		for range 500 {
			want++
			tab.Add(Entry{Key: fmt.Appendf(nil, "a key with a long beginning %03d", rng.IntN(200)), Version: uint64(want)})
		}
	}
	check()
	for range 3 {
		add()
		check()
		if tab.head.next[0].Load() != nil {
			t.Fatal("the list was made for it")
		}
	}
	// Some of it in the list, some not.
	it := tab.NewIter(uint64(want))
	it.SeekGE(nil)
	add()
	check()
	keys := map[string]bool{}
	it = tab.NewIter(uint64(want))
	for it.SeekGE(nil); it.Entry() != nil; it.Next() {
		keys[string(it.Entry().Key)] = true
	}
	n := 0
	tab.All(func(*Entry) bool { n++; return n < 10 })
	if len(keys) < 150 || n != 10 {
		t.Errorf("%d keys, %d entries before it was to end", len(keys), n)
	}
}

// TestAllBeside lets somebody go through tables while their first order is made and entries come; run it with -race too.
func TestAllBeside(t *testing.T) {
	for range 100 {
		tab := New()
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 200 {
				tab.Add(Entry{Key: fmt.Appendf(nil, "%03d", i*7%200), Version: uint64(i + 1)})
			}
		})
		for range 2 {
			wg.Go(func() {
				for before := int64(0); before < 200; {
					before = tab.Len()
					n := int64(0)
					if tab.All(func(*Entry) bool { n++; return true }); n < before {
						t.Errorf("%d entries, there were %d", n, before)
					}
				}
			})
		}
		wg.Go(func() {
			for tab.Len() < 100 {
				runtime.Gosched()
			}
			tab.NewIter(1 << 62).SeekGE(nil)
		})
		wg.Wait()
	}
}
