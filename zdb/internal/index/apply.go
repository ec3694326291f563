package index

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/segfile"
)

// Change is one entry of the log on its way into the index.
type Change struct {
	Key    []byte
	Delete bool
	Moved  bool // compaction moved it: only counts if the index still has this sequence
	Entry
}

// Applier collects changes into transactions, in order. It reads what the index
// says before each change, so that a change that is there already, or is older, does nothing; live bytes and
// totals follow from what really changed and stand in the same transaction.
//
// Only one Applier may be at work on an index.
type Applier struct {
	x       *Index
	txn     *badger.Txn
	size    int
	entries int
	pending map[string]*Entry // of this transaction; nil is deleted
	live    map[segfile.ID]int64
	keys    int64
	bytes   int64
	// rebuild keeps tombstones, for moved entries that come after a delete of their key.
	rebuild bool
}

// NewApplier begins. rebuild says that the changes start at the beginning of the log.
func (x *Index) NewApplier(rebuild bool) *Applier {
	a := &Applier{x: x, rebuild: rebuild}
	x.beginFilter()
	a.begin()
	return a
}

func (a *Applier) begin() {
	a.txn = a.x.db.NewTransactionAt(a.x.ts, true)
	a.size, a.entries = 0, 0
	a.pending = make(map[string]*Entry)
	a.live = make(map[segfile.ID]int64)
	a.keys, a.bytes = 0, 0
}

// Discard drops what was not flushed.
func (a *Applier) Discard() { a.txn.Discard() }

// Add takes one change. The transaction is written when it is full.
func (a *Applier) Add(c Change) error {
	need := len(c.Key) + len(c.Value) + 128
	if a.size+need > maxTxnBytes || a.entries >= maxTxnEntries {
		if err := a.flush(nil); err != nil {
			return err
		}
		crashpoint.Hit("zdb.apply.mid")
	}
	old, err := a.current(c.Key)
	if err != nil {
		return err
	}
	ok, err := a.counts(c, old)
	if err != nil || !ok {
		return err
	}
	return a.put(c, old, need)
}

// current is what the index has for key, with this transaction.
func (a *Applier) current(key []byte) (*Entry, error) {
	if e, ok := a.pending[string(key)]; ok {
		return e, nil
	}
	e, ok, err := a.x.Get(key)
	if err != nil || !ok {
		return nil, err
	}
	return &e, nil
}

// counts says whether a change is news.
func (a *Applier) counts(c Change, old *Entry) (bool, error) {
	if old != nil {
		// The highest sequence of a key wins. The same sequence comes again after a crash, and when it moved.
		return c.Seq >= old.Seq, nil
	}
	if c.Delete {
		return a.rebuild, nil
	}
	if !c.Moved {
		return true, nil
	}
	if !a.rebuild {
		return false, nil // its key was deleted after the move was written
	}
	gone, err := a.gone(c.Key)
	return gone <= c.Seq, err
}

func (a *Applier) gone(key []byte) (segfile.Seq, error) {
	k := goneKey(key)
	p, err := value(a.txn, k, 8)
	if err != nil {
		return 0, a.x.fail(err)
	}
	if p == nil {
		return 0, nil
	}
	return segfile.Seq(binary.LittleEndian.Uint64(p)), nil
}

func (a *Applier) put(c Change, old *Entry, need int) error {
	a.size += need
	a.entries++
	if old != nil {
		n := int64(len(c.Key)) + int64(old.Location.Length)
		a.live[old.Location.Segment] -= n
		a.bytes -= n
		a.keys--
	}
	key := string(c.Key)
	if c.Delete {
		a.pending[key] = nil
		if a.rebuild {
			k := goneKey(c.Key)
			a.size += need
			a.entries++
			if err := a.txn.Set(k, seal(k, binary.LittleEndian.AppendUint64(nil, uint64(c.Seq)))); err != nil {
				return a.x.fail(err)
			}
		}
		if old == nil {
			return nil
		}
		return a.wrap(a.txn.Delete(userKey(c.Key)))
	}
	n := int64(len(c.Key)) + int64(c.Location.Length)
	a.live[c.Location.Segment] += n
	a.bytes += n
	a.keys++
	a.x.absent.note(c.Key)
	e := c.Entry
	a.pending[key] = &Entry{Location: e.Location, Seq: e.Seq}
	return a.wrap(a.txn.Set(userKey(c.Key), appendEntry(nil, c.Key, e)))
}

func (a *Applier) wrap(err error) error {
	if err != nil {
		return a.x.fail(err)
	}
	return nil
}

// Flush writes what is left and, with it, that the index has come to p.
func (a *Applier) Flush(p Position) error { return a.flush(&p) }

func (a *Applier) flush(p *Position) error {
	le := binary.LittleEndian
	x := a.x
	set := func(key, body []byte) error { return a.txn.Set(key, seal(key, body)) }
	var err error
	live := make(map[segfile.ID]int64, len(a.live))
	for id, n := range a.live {
		if n == 0 {
			continue
		}
		live[id] = x.state.live[id] + n
		err = errors.Join(err, set(segmentKey(id), le.AppendUint64(nil, uint64(live[id]))))
	}
	keys, bytes := x.state.keys+a.keys, x.state.bytes+a.bytes
	err = errors.Join(err, set(totalsKey, le.AppendUint64(le.AppendUint64(nil, uint64(keys)), uint64(bytes))))
	if p != nil {
		err = errors.Join(err, a.txn.Set(appliedKey, putPosition(*p)))
	}
	if err != nil {
		a.txn.Discard()
		return x.fail(err)
	}
	ts := x.ts + 1
	if err := a.txn.CommitAt(ts, nil); err != nil {
		return x.fail(fmt.Errorf("commit: %w", err))
	}
	x.mu.Lock()
	for id, n := range live {
		x.state.live[id] = n
	}
	x.state.keys, x.state.bytes = keys, bytes
	if p != nil {
		x.state.applied, x.state.known = *p, true
	}
	x.mu.Unlock()
	x.committed(ts)
	x.renewFilter()
	a.begin()
	return nil
}

// Forget removes the tombstones that a rebuild kept.
func (x *Index) Forget() error {
	for {
		txn := x.db.NewTransactionAt(x.ts, true)
		o := badger.DefaultIteratorOptions
		o.PrefetchValues = false
		o.Prefix = []byte{prefixGone}
		it := txn.NewIterator(o)
		n, size := 0, 0
		var err error
		for it.Rewind(); it.Valid() && n < maxTxnEntries && size < maxTxnBytes && err == nil; it.Next() {
			key := it.Item().KeyCopy(nil)
			n, size = n+1, size+len(key)+64
			err = txn.Delete(key)
		}
		it.Close()
		if err != nil || n == 0 {
			txn.Discard()
			if err != nil {
				return x.fail(err)
			}
			return nil
		}
		ts := x.ts + 1
		if err := txn.CommitAt(ts, nil); err != nil {
			return x.fail(err)
		}
		x.committed(ts)
	}
}

// Pending is the size of the transaction that is not written yet.
func (a *Applier) Pending() int { return a.size }
