package index

import "github.com/dgraph-io/badger/v4"

// Cost is what an entry counts as live bytes in its segment.
func (e *Entry) Cost(key []byte) int64 {
	v := e.version(false)
	return cost(key, &v)
}

// Cost is what a version counts as live bytes in its segment.
func (v *Version) Cost(key []byte) int64 { return cost(key, v) }

// Versions gives all superseded versions that are kept.
func (s *Snapshot) Versions(fn func(key []byte, v Version) error) (err error) {
	defer s.x.guard(&err)
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Prefix = []byte{prefixVersion}
	it := s.txn.NewIterator(o)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key, _, err := splitVersionKey(it.Item().Key())
		if err != nil {
			return s.x.fail(err)
		}
		v, err := readVersion(it.Item())
		if err != nil {
			return s.x.fail(err)
		}
		if err := fn(key, v); err != nil {
			return err
		}
	}
	return nil
}
