package index

import (
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
)

// absence holds the filter of an index. A new index has it from the beginning; one that was there gets it from a walk
// over all keys, which runs beside everything else as soon as there is something to apply. Until it is through, every
// key may be there.
type absence struct {
	whole   atomic.Pointer[filter] // knows all keys
	filling atomic.Pointer[filter] // also told of new keys, while the walk runs

	mu     sync.Mutex
	stop   atomic.Bool // set once, under mu
	wg     sync.WaitGroup
	walked bool // the applier's: the walk of this opening was begun
}

// maySum is false when the index certainly does not have the key of that sum.
func (a *absence) maySum(sum uint64) bool {
	f := a.whole.Load()
	return f == nil || f.hasSum(sum)
}

// note is told of each key, by its sum, before it comes into the index. absent: maySum has just denied it.
func (a *absence) note(sum uint64, absent bool) {
	// In this order: a filter becomes whole before it stops being filled.
	if f := a.filling.Load(); f != nil {
		f.addSum(sum, false)
	}
	if f := a.whole.Load(); f != nil {
		f.addSum(sum, absent)
	}
}

// beginFilter is called by the applier before it adds: who only reads needs no walk. Nor does an empty index.
func (x *Index) beginFilter() {
	a := &x.absent
	if !a.walked {
		a.walked = true
		x.fill()
	}
}

// fill starts the walk. What was there before is in its snapshot, what comes from here on is noted. Only the applier
// calls it.
func (x *Index) fill() {
	a := &x.absent
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop.Load() {
		return
	}
	f := newFilter()
	a.filling.Store(f)
	txn := x.db.NewTransactionAt(x.ts, false)
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Prefix = []byte{prefixUser}
	it := txn.NewIterator(o)
	it.Rewind()
	keys := x.state.keys
	walk := func() {
		defer txn.Discard()
		defer it.Close()
		defer a.filling.Store(nil)
		var err error
		defer x.guard(&err)
		found := int64(0)
		for ; it.Valid() && !a.stop.Load(); it.Next() {
			f.add(it.Item().Key()[1:])
			found++
		}
		switch {
		case a.stop.Load():
		case found == keys:
			a.whole.Store(f)
		default:
			// Badger's iterators pass over what they cannot read. Without a filter each key is looked up.
			x.log.Warn("index has another number of keys than it says", "found", found, "keys", keys)
		}
	}
	if !it.Valid() {
		walk()
	} else {
		a.wg.Go(walk)
	}
}

// renewFilter begins another one when most of what it knows is gone. The one before serves until then. Only the applier calls it.
func (x *Index) renewFilter() {
	a := &x.absent
	if f := a.whole.Load(); f != nil && a.filling.Load() == nil && f.size() > 4*x.state.keys+1<<20 {
		x.fill()
	}
}

// end stops a walk that runs and waits for it.
func (a *absence) end() {
	a.mu.Lock()
	a.stop.Store(true)
	a.mu.Unlock()
	a.wg.Wait()
}
