package index

import (
	"bytes"

	"github.com/dgraph-io/badger/v4"
)

// GoneIter walks the keys that are deleted and of which something may be kept. It holds one version at a time, however many a
// key has.
type GoneIter struct {
	x    *Index
	s    *Snapshot
	it   *badger.Iterator
	key  []byte
	mine []byte // what Badger's keys of its versions begin with; nil: it stands nowhere
	err  error
}

// NewGoneIter returns an iterator that stands nowhere.
func (s *Snapshot) NewGoneIter() *GoneIter {
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Prefix = []byte{prefixVersion}
	return &GoneIter{x: s.x, s: s, it: s.txn.NewIterator(o)}
}

// Seek stands on the first key ≥ key and says whether there is one.
func (it *GoneIter) Seek(key []byte) bool {
	it.mine = nil
	it.it.Seek(versionsOf(key))
	return it.Next()
}

// Next goes to the next key that is deleted.
func (it *GoneIter) Next() bool {
	defer it.x.guard(&it.err)
	for it.err == nil {
		if it.mine != nil {
			leaveVersions(it.it, it.mine)
			it.mine = nil
		}
		if !it.it.Valid() {
			return false
		}
		v, err := readVersion(it.it.Item())
		if err == nil {
			it.key, _, err = splitVersionKey(it.it.Item().Key())
		}
		if err != nil {
			it.err = it.x.fail(err)
			return false
		}
		it.mine = versionsOf(it.key)
		_, present, err := it.x.get(it.s.txn, it.key)
		if it.err = err; err == nil && !present && v.Delete {
			return true
		}
	}
	return false
}

// Key is where it stands.
func (it *GoneIter) Key() []byte { return it.key }

// Version gives the next version of the key, from the newest on, which is the delete; ok is false behind the oldest.
func (it *GoneIter) Version() (v Version, ok bool) {
	defer it.x.guard(&it.err)
	if it.err != nil || !it.it.ValidForPrefix(it.mine) {
		return v, false
	}
	v, err := readVersion(it.it.Item())
	if err != nil {
		it.err = it.x.fail(err)
		return v, false
	}
	it.it.Next()
	return v, true
}

// Err is why it ended early.
func (it *GoneIter) Err() error { return it.err }

// Close ends it.
func (it *GoneIter) Close() { it.it.Close() }

// fewVersions are left behind one by one; for more of them a search is cheaper.
const fewVersions = 8

// leaveVersions takes an iterator that goes forward behind the versions of a key, which begin with prefix.
func leaveVersions(it *badger.Iterator, prefix []byte) {
	for range fewVersions {
		if !it.ValidForPrefix(prefix) {
			return
		}
		it.Next()
	}
	if it.ValidForPrefix(prefix) {
		behind := bytes.Clone(prefix)
		behind[len(behind)-1] = versionEnd + 1 // no key has this behind a 0
		it.Seek(behind)
	}
}
