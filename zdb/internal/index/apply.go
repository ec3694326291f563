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
	// Relocate: compaction moved it, and the index knew it before; nothing but its place is news.
	Relocate bool
	Entry
}

// Applier collects changes into transactions, in order. It reads what the index
// says before each change, so that a change that is there already, or is older, does nothing; live bytes and
// totals follow from what really changed and stand in the same transaction. What
// the policy wants of superseded versions becomes keys of their own.
//
// Only one Applier may be at work on an index.
type Applier struct {
	x       *Index
	policy  Policy
	active  bool // the policy keeps something
	txn     *badger.Txn
	size    int
	entries int
	pending pending // of this transaction
	carver  carver  // of this transaction
	sum     uint64  // of the key at work, for the filter
	absent  bool    // the filter says that the index has not had it so far
	live    map[segfile.ID]int64
	keys    int64
	bytes   int64
	// versions counts those that were added.
	versions int64
	// rebuild: the changes begin where the log does. Moved entries may come after newer ones of their key, and
	// after its delete: tombstones are kept, and superseded versions until Prune sees them all.
	rebuild bool
}

// NewApplier begins. rebuild says that the changes start at the beginning of the log.
func (x *Index) NewApplier(rebuild bool, policy Policy) *Applier {
	a := &Applier{x: x, rebuild: rebuild, policy: policy, active: policy.Active()}
	a.begin()
	return a
}

func (a *Applier) begin() {
	a.txn = a.x.db.NewTransactionAt(a.x.ts, true)
	a.size, a.entries = 0, 0
	a.pending.reset()
	a.carver.reset()
	a.live = make(map[segfile.ID]int64)
	a.keys, a.bytes, a.versions = 0, 0, 0
}

// Discard drops what was not flushed.
func (a *Applier) Discard() { a.txn.Discard() }

// Add takes one change. The transaction is written when it is full.
func (a *Applier) Add(c Change) error {
	need := len(c.Key) + len(c.Value) + 128
	if a.active || a.rebuild || a.hasVersions() {
		need += 2*versionSize(c.Key) + len(c.Key) + 64 // versions and a tombstone beside it
	}
	if a.size+need > maxTxnBytes || a.entries+len(a.live)+8 > maxTxnEntries {
		if err := a.flush(nil); err != nil {
			return err
		}
		crashpoint.Hit("zdb.apply.mid")
	}
	a.size += need
	a.x.beginFilter()
	old, err := a.current(c.Key)
	if err != nil {
		return err
	}
	switch {
	case old != nil && old.Seq == c.Seq:
		// The same one again: after a crash, or because it moved.
		if c.Delete {
			return nil
		}
		return a.put(c, old)
	case c.Relocate || old != nil && c.Seq < old.Seq:
		return a.older(c, old)
	case c.Delete:
		return a.remove(c, old)
	}
	if old == nil && a.rebuild {
		gone, err := a.gone(c.Key)
		if err != nil {
			return err
		}
		if gone > c.Seq {
			return a.older(c, nil)
		}
	}
	if err := a.supersede(c, old); err != nil {
		return err
	}
	return a.put(c, old)
}

// current is what the index has for key, with this transaction.
func (a *Applier) current(key []byte) (*Entry, error) {
	a.sum, a.absent = sumOf(key), false
	if e, ok := a.pending.get(key); ok {
		return e, nil
	}
	if !a.x.absent.maySum(a.sum) {
		a.absent = true
		return nil, nil
	}
	e, ok, err := a.x.look(key)
	if err != nil || !ok {
		return nil, err
	}
	return &e, nil
}

// hasVersions says whether it is worth looking for superseded versions.
func (a *Applier) hasVersions() bool { return a.x.state.versions+a.versions > 0 }

// put makes c the present version; old is the one before, which leaves.
func (a *Applier) put(c Change, old *Entry) error {
	a.entries++
	if old != nil {
		a.account(c.Key, old.version(false), -1)
		a.keys--
		a.bytes -= int64(len(c.Key)) + int64(old.Location.Length)
	}
	a.account(c.Key, c.version(false), 1)
	a.keys++
	a.bytes += int64(len(c.Key)) + int64(c.Location.Length)
	a.x.absent.note(a.sum, a.absent)
	k := a.userKey(c.Key)
	a.pending.put(k[1:], &c.Entry)
	value := appendEntry(a.carver.bytes(entryFixed+len(c.Value)+4), c.Key, c.Entry, false)
	return a.wrap(a.txn.SetEntry(a.carver.set(k, value)))
}

// userKey is userKey for as long as the transaction lasts.
func (a *Applier) userKey(key []byte) []byte {
	return append(append(a.carver.bytes(len(key)+1), prefixUser), key...)
}

// remove takes a delete that is newer than what is there.
func (a *Applier) remove(c Change, old *Entry) error {
	if a.rebuild {
		if err := a.noteGone(c); err != nil {
			return err
		}
	}
	if old == nil {
		// It may be one that is kept already, at a new place.
		return a.older(c, nil)
	}
	if err := a.supersede(c, old); err != nil {
		return err
	}
	a.entries++
	a.account(c.Key, old.version(false), -1)
	a.keys--
	a.bytes -= int64(len(c.Key)) + int64(old.Location.Length)
	k := a.userKey(c.Key)
	a.pending.put(k[1:], nil)
	if err := a.wrap(a.txn.Delete(k)); err != nil || !a.active && !a.hasVersions() {
		return err
	}
	// Something older may be kept, or left over from an earlier policy: this says until when it counted. Prune takes
	// it away if there is nothing.
	return a.keep(c.Key, c.version(true))
}

// supersede keeps old, before next takes its place, if the policy wants it.
func (a *Applier) supersede(next Change, old *Entry) error {
	if old == nil || !a.active {
		return nil
	}
	was, now := old.version(false), next.version(next.Delete)
	if !a.rebuild && !a.policy.Wants(next.Key, 1, &was, &now) {
		return nil
	}
	return a.keep(next.Key, was)
}

// older takes a version that is not the newest of its key: it is one that is kept, at a
// new place, or during a rebuild one that may have to be.
func (a *Applier) older(c Change, old *Entry) error {
	if !a.active && !a.hasVersions() {
		return nil
	}
	_, known, err := a.x.versionAt(a.txn, versionKey(c.Key, c.Seq), c.Seq)
	if err != nil {
		return err
	}
	if known || a.rebuild && a.active {
		return a.keep(c.Key, c.version(c.Delete))
	}
	if c.Relocate || c.Delete || !a.active || old == nil {
		return nil
	}
	was, now := c.version(false), old.version(false)
	if a.policy.Wants(c.Key, 1, &was, &now) {
		return a.keep(c.Key, was)
	}
	return nil
}

// keep writes a superseded version, in place of what is there of it.
func (a *Applier) keep(key []byte, v Version) error {
	k := versionKey(key, v.Seq)
	was, ok, err := a.x.versionAt(a.txn, k, v.Seq)
	if err != nil {
		return err
	}
	if ok {
		a.account(key, was, -1)
	} else {
		a.versions++
	}
	a.entries++
	a.account(key, v, 1)
	return a.wrap(a.txn.Set(k, appendEntry(nil, k, v.entry(), v.Delete)))
}

func (a *Applier) account(key []byte, v Version, sign int64) {
	a.live[v.Location.Segment] += sign * cost(key, &v)
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

// noteGone remembers the newest delete of a key while the index is rebuilt.
func (a *Applier) noteGone(c Change) error {
	gone, err := a.gone(c.Key)
	if err != nil || gone >= c.Seq {
		return err
	}
	k := goneKey(c.Key)
	a.entries++
	return a.wrap(a.txn.Set(k, seal(k, binary.LittleEndian.AppendUint64(nil, uint64(c.Seq)))))
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
		if live[id] == 0 {
			err = errors.Join(err, a.txn.Delete(segmentKey(id)))
			continue
		}
		err = errors.Join(err, set(segmentKey(id), le.AppendUint64(nil, uint64(live[id]))))
	}
	keys, bytes, versions := x.state.keys+a.keys, x.state.bytes+a.bytes, x.state.versions+a.versions
	totals := le.AppendUint64(le.AppendUint64(nil, uint64(keys)), uint64(bytes))
	err = errors.Join(err, set(totalsKey, le.AppendUint64(totals, uint64(versions))))
	if !x.state.format {
		err = errors.Join(err, set(formatKey, le.AppendUint32(nil, formatNumber)))
	}
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
	x.forget(&a.pending)
	x.mu.Lock()
	for id, n := range live {
		x.state.live[id] = n
		if n == 0 {
			delete(x.state.live, id)
		}
	}
	x.state.keys, x.state.bytes, x.state.versions, x.state.format = keys, bytes, versions, true
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
