package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"qsfs/zdb/segfile"
)

// Position is how far into the log the index has come.
type Position struct {
	Segment     segfile.ID
	Offset      int64
	Incarnation segfile.Incarnation
	Seq         segfile.Seq
}

// state is what the index says of itself, kept in the transactions that change it.
type state struct {
	applied Position
	known   bool // applied is set
	live    map[segfile.ID]int64
	keys    int64
	bytes   int64
	// versions is the number of superseded versions that are kept.
	versions int64
	format   bool // the mark of the present format is there
}

// formatNumber of what the index holds; another one is dropped and rebuilt.
const formatNumber = 2

var (
	appliedKey = []byte{prefixMeta, 'a'}
	totalsKey  = []byte{prefixMeta, 't'}
	liveKey    = []byte{prefixMeta, 'l'}
	formatKey  = []byte{prefixMeta, 'v'}
)

func segmentKey(id segfile.ID) []byte {
	return binary.BigEndian.AppendUint32(slices.Clone(liveKey), uint32(id))
}

// seal appends the checksum that every value has.
func seal(key, b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, entrySum(key, b))
}

func unseal(key, p []byte, n int) ([]byte, error) {
	if len(p) != n+4 || binary.LittleEndian.Uint32(p[n:]) != entrySum(key, p[:n]) {
		return nil, errValue
	}
	return p[:n], nil
}

func putPosition(p Position) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(p.Segment))
	b = le.AppendUint64(b, uint64(p.Offset))
	b = append(b, p.Incarnation[:]...)
	return seal(appliedKey, le.AppendUint64(b, uint64(p.Seq)))
}

// load reads the state and walks nothing else.
func (x *Index) load() error {
	txn := x.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	x.state = state{live: make(map[segfile.ID]int64)}
	le := binary.LittleEndian
	if p, err := value(txn, formatKey, 4); err != nil {
		return err
	} else if x.state.format = p != nil && le.Uint32(p) == formatNumber; p != nil && !x.state.format {
		return fmt.Errorf("index of format %d", le.Uint32(p))
	}
	if p, err := value(txn, appliedKey, 36); err != nil {
		return err
	} else if p != nil {
		if !x.state.format {
			return errors.New("index of an earlier format")
		}
		x.state.known = true
		x.state.applied = Position{
			Segment: segfile.ID(le.Uint32(p)), Offset: int64(le.Uint64(p[4:])),
			Incarnation: segfile.Incarnation(p[12:28]), Seq: segfile.Seq(le.Uint64(p[28:])),
		}
	}
	if p, err := value(txn, totalsKey, 24); err != nil {
		return err
	} else if p != nil {
		x.state.keys, x.state.bytes, x.state.versions = int64(le.Uint64(p)), int64(le.Uint64(p[8:])), int64(le.Uint64(p[16:]))
	}
	o := badger.DefaultIteratorOptions
	o.Prefix = liveKey
	it := txn.NewIterator(o)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		key := item.KeyCopy(nil)
		err := item.Value(func(p []byte) error {
			p, err := unseal(key, p, 8)
			if err == nil && len(key) == len(liveKey)+4 {
				x.state.live[segfile.ID(binary.BigEndian.Uint32(key[len(liveKey):]))] = int64(le.Uint64(p))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func value(txn *badger.Txn, key []byte, n int) ([]byte, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []byte
	err = item.Value(func(p []byte) error {
		p, err := unseal(key, p, n)
		out = slices.Clone(p)
		return err
	})
	return out, err
}

// Applied is how far the index has come; known is false for a new one.
func (x *Index) Applied() (p Position, known bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.state.applied, x.state.known
}

// Versions is the number of superseded versions that are kept.
func (x *Index) Versions() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.state.versions
}

// Live gives the live bytes per segment, Totals the number of keys and their bytes, all as of the last transaction.
func (x *Index) Live() map[segfile.ID]int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make(map[segfile.ID]int64, len(x.state.live))
	for id, n := range x.state.live {
		out[id] = n
	}
	return out
}

// Totals gives the number of keys and the bytes of keys and values.
func (x *Index) Totals() (keys, bytes int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.state.keys, x.state.bytes
}
