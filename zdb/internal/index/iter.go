package index

import (
	"github.com/dgraph-io/badger/v4"
)

// Iter walks the keys of a snapshot.
type Iter struct {
	x       *Index
	it      *badger.Iterator
	reverse bool
}

// NewIter returns an iterator that stands nowhere.
func (s *Snapshot) NewIter(reverse bool) *Iter {
	o := badger.DefaultIteratorOptions
	// The values lie beside the keys: nothing to prefetch.
	o.PrefetchValues = false
	o.Reverse = reverse
	o.Prefix = []byte{prefixUser}
	return &Iter{x: s.x, it: s.txn.NewIterator(o), reverse: reverse}
}

// Seek stands on the first key ≥ key, or the last key ≤ key in reverse; in reverse nil is the end.
func (it *Iter) Seek(key []byte) {
	if it.reverse && key == nil {
		it.it.Seek([]byte{prefixUser + 1}) // behind all keys
		return
	}
	it.it.Seek(userKey(key))
}

// Next goes on in the iterator's direction.
func (it *Iter) Next() { it.it.Next() }

// Valid says whether it stands on a key.
func (it *Iter) Valid() bool { return it.it.Valid() }

// Key is valid until the iterator moves.
func (it *Iter) Key() []byte { return it.it.Item().Key()[1:] }

// Entry decodes what the index has for the key.
func (it *Iter) Entry() (e Entry, err error) {
	item := it.it.Item()
	key := item.Key()[1:]
	err = item.Value(func(p []byte) error {
		e, err = parseEntry(key, p)
		return err
	})
	if err != nil {
		return e, it.x.fail(err)
	}
	return e, nil
}

// Err is nil: what does not check is told by Entry.
func (it *Iter) Err() error { return nil }

// Close ends it.
func (it *Iter) Close() { it.it.Close() }
