package index

import (
	"bytes"

	"github.com/dgraph-io/badger/v4"

	"qsfs/zdb/segfile"
)

// Walker walks keys in order and gives what the index has for each.
type Walker interface {
	Seek(key []byte)
	Next()
	Valid() bool
	Key() []byte
	Entry() (Entry, error)
	// Err is why it ended early.
	Err() error
	Close()
}

// AtIter walks the keys as they were at a sequence, over present and superseded versions.
// It stands on no key that was deleted then.
type AtIter struct {
	x       *Index
	at      segfile.Seq
	present *Iter
	old     *badger.Iterator
	reverse bool

	key   []byte // nil: at the end
	entry Entry
	err   error
}

// NewIterAt returns an iterator that stands nowhere.
func (s *Snapshot) NewIterAt(reverse bool, at segfile.Seq) *AtIter {
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Reverse = reverse
	o.Prefix = []byte{prefixVersion}
	return &AtIter{x: s.x, at: at, reverse: reverse, present: s.NewIter(reverse), old: s.txn.NewIterator(o)}
}

// Seek stands on the first key ≥ key, or the last key ≤ key in reverse; in reverse nil is the end.
func (it *AtIter) Seek(key []byte) {
	it.present.Seek(key)
	switch {
	case it.reverse && key == nil:
		it.old.Seek([]byte{prefixVersion + 1})
	case it.reverse:
		it.old.Seek(versionKey(key, 0)) // behind all versions of key
	default:
		it.old.Seek(versionsOf(key))
	}
	it.settle()
}

// Next goes on in the iterator's direction.
func (it *AtIter) Next() { it.settle() }

// settle takes the next key that had a value then.
func (it *AtIter) settle() {
	for it.key = nil; it.err == nil; {
		found, e, ok, err := it.guarded()
		if err != nil {
			it.err = it.x.fail(err)
			return
		}
		if found == nil {
			return
		}
		if ok {
			it.key, it.entry = found, e
			return
		}
	}
}

// guarded is pull over what may be damaged.
func (it *AtIter) guarded() (key []byte, e Entry, ok bool, err error) {
	defer it.x.guard(&err)
	return it.pull()
}

// pull takes the next key from both sources; ok says that it had a value then.
func (it *AtIter) pull() (key []byte, e Entry, ok bool, err error) {
	if it.old.Valid() {
		if key, _, err = splitVersionKey(it.old.Item().Key()); err != nil {
			return nil, e, false, err
		}
	}
	if it.present.Valid() {
		c := 1
		if key != nil {
			if c = bytes.Compare(key, it.present.Key()); it.reverse {
				c = -c
			}
		}
		if c >= 0 {
			key = bytes.Clone(it.present.Key())
			if e, err = it.present.Entry(); err != nil {
				return nil, e, false, err
			}
			ok = e.Seq <= it.at
			it.present.Next()
			if c > 0 {
				return key, e, ok, nil
			}
		}
	}
	if key == nil {
		return nil, e, false, nil
	}
	// The newest of the superseded ones that is not too new; the present one goes before them.
	best := Version{}
	prefix := versionsOf(key)
	if !it.reverse {
		it.seekOld(prefix, key)
	}
	for ; it.old.ValidForPrefix(prefix); it.old.Next() {
		v, err := readVersion(it.old.Item())
		if err != nil {
			return nil, e, false, err
		}
		if v.Seq <= it.at && v.Seq > best.Seq {
			best = v
		}
		if !it.reverse && best.Seq > 0 {
			leaveVersions(it.old, prefix)
			break
		}
	}
	if !ok && best.Seq > 0 && !best.Delete {
		e, ok = best.entry(), true
	}
	return key, e, ok, nil
}

// seekOld leaves out, going forward, the versions of key that are too new.
func (it *AtIter) seekOld(prefix, key []byte) {
	to := versionKey(key, it.at)
	for range fewVersions {
		if !it.old.ValidForPrefix(prefix) || bytes.Compare(it.old.Item().Key(), to) >= 0 {
			return
		}
		it.old.Next()
	}
	if it.old.ValidForPrefix(prefix) && bytes.Compare(it.old.Item().Key(), to) < 0 {
		it.old.Seek(to)
	}
}

// Valid says whether it stands on a key.
func (it *AtIter) Valid() bool { return it.key != nil }

// Key is valid until the iterator moves.
func (it *AtIter) Key() []byte { return it.key }

// Entry is what the key had then.
func (it *AtIter) Entry() (Entry, error) { return it.entry, nil }

// Err is why it ended early.
func (it *AtIter) Err() error { return it.err }

// Close ends it.
func (it *AtIter) Close() {
	it.present.Close()
	it.old.Close()
}
