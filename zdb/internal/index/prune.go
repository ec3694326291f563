package index

import (
	"bytes"
	"math"

	"github.com/dgraph-io/badger/v4"
)

// Place is where Prune stopped, for another call to go on there. nil is the beginning, and the end.
//
// It holds what the judgement of the next version needs, so that a key with any number of versions is looked at once,
// however many calls that takes. What changed above it meanwhile makes a version stay until the next round, no more.
type Place struct {
	index uint32 // another one may have again what was dropped
	at    []byte // Badger's key
	judging
}

// above is what a version is judged by, beside itself.
type above struct {
	next *Version // the version right above; nil: there is none
	rank int      // of that one
}

// under gives the rank of v right below.
func (a *above) under(v *Version) int {
	if a.next == nil {
		return 0
	}
	if v.Repeats(a.next) {
		return a.rank
	}
	return a.rank + 1
}

// judging is how far the versions of a key were looked at, newest first.
//
// A delete stays only right above a value that stays: it says until when that one counted. So a delete is held until it is
// seen what lies below, and goes after all that. Wherever a transaction ends, no version is left without the delete above it.
type judging struct {
	key []byte // nil: none
	above
	held *Version // a delete
	old  bool     // it was held by an earlier call
}

// pruner drops what the policy does not want.
type pruner struct {
	a   *Applier
	txn *badger.Txn
	judging
	dropped int
	left    int
}

// Prune looks at the superseded versions of the keys from a place on, at limit of them, and drops what the policy does not
// want, in one transaction. It gives the place where it stopped, and what it dropped and left. Like an Applier it must be alone.
func (x *Index) Prune(from *Place, policy Policy, limit int) (next *Place, dropped, left int, err error) {
	defer x.guard(&err)
	a := x.NewApplier(false, policy)
	defer a.Discard()
	txn := x.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Prefix = []byte{prefixVersion}
	it := txn.NewIterator(o)
	defer it.Close()
	w := pruner{a: a, txn: txn}
	switch {
	case from == nil:
		it.Seek(o.Prefix)
	case from.index != x.owner && from.key != nil:
		it.Seek(versionsOf(from.key))
	default:
		it.Seek(from.at)
		w.judging = from.judging
		w.old = true
	}
	for seen := 0; it.Valid(); it.Next() {
		if next, err = w.look(it.Item(), seen >= limit); err != nil {
			return nil, 0, 0, err
		}
		if next != nil {
			break
		}
		seen++
	}
	if next == nil {
		err = w.end()
	}
	if err == nil && w.dropped > 0 {
		err = a.flush(nil)
	}
	if err != nil {
		return nil, 0, 0, err
	}
	return next, w.dropped, w.left, nil
}

// look takes the next version, or gives the place where to go on if there is no room for it, or enough was done.
func (w *pruner) look(item *badger.Item, enough bool) (*Place, error) {
	dbKey := item.Key()
	if w.key != nil && !bytes.HasPrefix(dbKey, versionsOf(w.key)) {
		if err := w.end(); err != nil {
			return nil, err
		}
		w.judging = judging{}
	}
	key, seq, err := splitVersionKey(dbKey)
	if err != nil {
		return nil, w.a.x.fail(err)
	}
	// Each version may drop itself and the delete that is held, and so may the end.
	if enough || !w.a.roomToPrune(key, 3) {
		return &Place{index: w.a.x.owner, at: bytes.Clone(dbKey), judging: w.judging}, nil
	}
	if w.key == nil {
		if err := w.begin(key); err != nil {
			return nil, err
		}
	}
	v, err := versionOf(item, seq)
	if err != nil {
		return nil, w.a.x.fail(err)
	}
	return nil, w.judge(&v)
}

// begin takes the next key, which has superseded versions.
func (w *pruner) begin(key []byte) error {
	e, present, err := w.a.x.get(w.txn, key)
	if err != nil {
		return err
	}
	w.key, w.above = key, above{}
	if present {
		v := e.version(false)
		w.above.next = &v
	}
	return nil
}

// judge takes the next version of the key.
func (w *pruner) judge(v *Version) error {
	rank, next := w.under(v), w.next
	w.above = above{next: v, rank: rank}
	switch {
	case v.Delete:
		// Of deletes with nothing that stays between them the oldest one counts.
		err := w.end()
		w.held, w.old = v, false
		return err
	case next == nil || w.a.policy.Wants(w.key, rank, v, next):
		w.left++
		if w.held != nil {
			w.left++
			w.held = nil
		}
		return nil
	}
	return w.drop(v)
}

// end drops the delete that is held: nothing stays below it.
func (w *pruner) end() error {
	v := w.held
	if w.held = nil; v == nil {
		return nil
	}
	if w.old {
		now, ok, err := w.a.x.versionAt(w.txn, versionKey(w.key, v.Seq), v.Seq)
		if err != nil || !ok {
			return err
		}
		v = &now // it may lie elsewhere by now
	}
	return w.drop(v)
}

func (w *pruner) drop(v *Version) error {
	a := w.a
	a.entries++
	a.size += versionSize(w.key)
	a.versions--
	a.account(w.key, *v, -1)
	w.dropped++
	return a.wrap(a.txn.Delete(versionKey(w.key, v.Seq)))
}

// roomToPrune says whether the transaction can take that many more deletes of versions of key.
func (a *Applier) roomToPrune(key []byte, n int) bool {
	return a.size+n*versionSize(key) <= maxTxnBytes && a.entries+len(a.live)+n+4 <= maxTxnEntries
}
