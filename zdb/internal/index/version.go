package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/segfile"
)

// Version is one version of a key, the present one or a superseded one.
type Version struct {
	Seq      segfile.Seq
	Time     int64
	Delete   bool
	Moved    bool
	Given    bool
	Location segfile.Location
}

// version is what a superseded entry leaves.
func (e *Entry) version(remove bool) Version {
	return Version{Seq: e.Seq, Time: e.Time, Delete: remove, Moved: e.Moved, Given: e.Given, Location: e.Location}
}

// entry is what Badger holds of a version.
func (v *Version) entry() Entry {
	return Entry{Seq: v.Seq, Time: v.Time, Moved: v.Moved, Given: v.Given, Location: v.Location}
}

// Keys of superseded versions: the user's key with every 0 byte followed by 255, then 0 1, then
// the inverted sequence. So they lie in the order of the keys, the newest of each first.
const (
	versionEscape = 0xff
	versionEnd    = 1
)

// versionsOf is the prefix of the versions of key.
func versionsOf(key []byte) []byte {
	b := append(make([]byte, 0, len(key)+16), prefixVersion)
	for _, c := range key {
		b = append(b, c)
		if c == 0 {
			b = append(b, versionEscape)
		}
	}
	return append(b, 0, versionEnd)
}

func versionKey(key []byte, seq segfile.Seq) []byte {
	return binary.BigEndian.AppendUint64(versionsOf(key), ^uint64(seq))
}

// versionSize bounds what a version of key takes in a transaction.
func versionSize(key []byte) int {
	return len(key) + bytes.Count(key, []byte{0}) + 11 + entryFixed + 4 + 32
}

// splitVersionKey undoes versionKey.
func splitVersionKey(p []byte) (key []byte, seq segfile.Seq, err error) {
	if len(p) < 12 || p[0] != prefixVersion {
		return nil, 0, errValue
	}
	body, tail := p[1:len(p)-8], p[len(p)-8:]
	if !bytes.HasSuffix(body, []byte{0, versionEnd}) {
		return nil, 0, errValue
	}
	body = slices.Clone(body[:len(body)-2])
	key = body[:0]
	for i := 0; i < len(body); i++ {
		key = append(key, body[i])
		if body[i] == 0 {
			if i++; i == len(body) || body[i] != versionEscape {
				return nil, 0, errValue
			}
		}
	}
	return key, segfile.Seq(^binary.BigEndian.Uint64(tail)), nil
}

// parseVersion decodes what stands under a version's key.
func parseVersion(dbKey []byte, seq segfile.Seq, p []byte) (Version, error) {
	e, remove, err := decodeEntry(dbKey, p)
	if err != nil || e.Inline || e.Seq != seq {
		return Version{}, errValue
	}
	return e.version(remove), nil
}

// cost is what an entry takes up in its segment. Accounting counts with it.
func cost(key []byte, v *Version) int64 {
	if v.Moved {
		return int64(batch.MovedSize(len(key), int(v.Location.Length)))
	}
	return int64(batch.EntrySize(len(key), int(v.Location.Length)))
}

// versionAt reads one superseded version.
func (x *Index) versionAt(txn *badger.Txn, dbKey []byte, seq segfile.Seq) (v Version, ok bool, err error) {
	item, err := txn.Get(dbKey)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return v, false, nil
	}
	if err == nil {
		err = item.Value(func(p []byte) error {
			v, err = parseVersion(dbKey, seq, p)
			return err
		})
	}
	if err != nil {
		return v, false, x.fail(err)
	}
	return v, true, nil
}

// Get gives what the key had at the moment of the snapshot.
func (s *Snapshot) Get(key []byte) (Entry, bool, error) { return s.x.get(s.txn, key) }

// Version gives a superseded version that was kept then.
func (s *Snapshot) Version(key []byte, seq segfile.Seq) (Version, bool, error) {
	return s.x.versionAt(s.txn, versionKey(key, seq), seq)
}

// History gives the versions of key that are kept and not above a sequence, newest first, limit at most; the
// present one is among them. Present and superseded ones must come from one moment: without a snapshot half of a transaction that is
// being written would be seen.
func (s *Snapshot) History(key []byte, from segfile.Seq, limit int) (list []Version, err error) {
	x, txn := s.x, s.txn
	defer x.guard(&err)
	e, ok, err := x.get(txn, key)
	if err != nil {
		return nil, err
	}
	if ok && e.Seq <= from {
		list = append(list, e.version(false))
	}
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Prefix = versionsOf(key)
	it := txn.NewIterator(o)
	defer it.Close()
	for it.Seek(versionKey(key, from)); it.Valid() && len(list) < limit; it.Next() {
		v, err := readVersion(it.Item())
		if err != nil {
			return nil, x.fail(err)
		}
		list = append(list, v)
	}
	return list[:min(len(list), limit)], nil
}

// Above gives the oldest version of key that is kept and not below a sequence.
func (s *Snapshot) Above(key []byte, from segfile.Seq) (v Version, ok bool, err error) {
	x, txn := s.x, s.txn
	defer x.guard(&err)
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Prefix = versionsOf(key)
	o.Reverse = true
	it := txn.NewIterator(o)
	defer it.Close()
	if it.Seek(versionKey(key, from)); it.Valid() {
		if v, err = readVersion(it.Item()); err != nil {
			return v, false, x.fail(err)
		}
		return v, true, nil
	}
	e, ok, err := x.get(txn, key)
	return e.version(false), ok && e.Seq >= from, err
}

func readVersion(item *badger.Item) (v Version, err error) {
	_, seq, err := splitVersionKey(item.Key())
	if err != nil {
		return v, err
	}
	return versionOf(item, seq)
}

func versionOf(item *badger.Item, seq segfile.Seq) (v Version, err error) {
	err = item.Value(func(p []byte) error {
		v, err = parseVersion(item.Key(), seq, p)
		return err
	})
	return v, err
}
