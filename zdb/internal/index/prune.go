package index

import (
	"bytes"
	"math"

	"github.com/dgraph-io/badger/v4"
)

// Prune looks at the superseded versions of the keys from a place on, at about limit of them,
// and drops what the policy does not want. It gives the place where it stopped, nil at the end, and
// what it dropped and left. Like an Applier it must be alone.
func (x *Index) Prune(from []byte, policy Policy, limit int) (next []byte, dropped, left int, err error) {
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
	if from == nil {
		from = o.Prefix
	}
	it.Seek(from)
	for seen := 0; it.Valid(); {
		key, list, present, err := x.group(txn, it)
		if err != nil {
			return nil, dropped, left, err
		}
		if seen += len(list); seen > limit && seen > len(list) || a.entries > 0 && !a.roomToPrune(key, len(list)) {
			next = versionsOf(key)
			break
		}
		n, whole, err := a.prune(key, list, present)
		if err != nil {
			return nil, dropped, left, err
		}
		dropped += n
		if !whole {
			next = versionsOf(key) // the rest of this key
			break
		}
		left += len(list) - n
		if present {
			left--
		}
	}
	if dropped == 0 {
		return next, 0, left, nil
	}
	return next, dropped, left, a.flush(nil)
}

// group takes all versions of the key where the iterator stands, and leaves it behind them. The present
// version, if there is one, is the first.
func (x *Index) group(txn *badger.Txn, it *badger.Iterator) (key []byte, list []Version, present bool, err error) {
	key, _, err = splitVersionKey(it.Item().Key())
	if err != nil {
		return nil, nil, false, x.fail(err)
	}
	e, present, err := x.get(txn, key)
	if err != nil {
		return nil, nil, false, err
	}
	if present {
		list = append(list, e.version(false))
	}
	for prefix := versionsOf(key); it.Valid() && bytes.HasPrefix(it.Item().Key(), prefix); it.Next() {
		v, err := readVersion(it.Item())
		if err != nil {
			return nil, nil, false, x.fail(err)
		}
		list = append(list, v)
	}
	return key, list, present, nil
}

// roomToPrune says whether the transaction can take that many more deletes of versions of key.
func (a *Applier) roomToPrune(key []byte, n int) bool {
	return a.size+n*versionSize(key) <= maxTxnBytes && a.entries+len(a.live)+n+4 <= maxTxnEntries
}

// prune drops the versions of one key that the policy does not want. One transaction may be too
// small for those of one key; then it is not whole.
func (a *Applier) prune(key []byte, list []Version, present bool) (dropped int, whole bool, err error) {
	// From the oldest on, so that what is interrupted leaves no version without the delete above it.
	keep := a.policy.Keep(list)
	for i := len(list) - 1; i >= 0; i-- {
		v := list[i]
		if keep[i] || present && i == 0 {
			continue
		}
		if !a.roomToPrune(key, 1) {
			return dropped, false, nil
		}
		a.entries++
		a.size += versionSize(key)
		dropped++
		a.versions--
		a.account(key, v, -1)
		if err := a.txn.Delete(versionKey(key, v.Seq)); err != nil {
			return dropped, false, a.x.fail(err)
		}
	}
	return dropped, true, nil
}
