// Package overlay holds the recent entries of a log in memory, in key order,
// until the index has them.
//
// A Table is a skip list, with a hash beside it for single keys. It has one writer and any number of readers; who looks for a
// single key takes no lock. The list is brought up to date when somebody asks for the order: sorted in one go that costs a
// fraction of a search through a cold list for each entry, and most tables are never asked: on their way to the index they are only sorted. Every entry gets a version; a reader that looks at a version sees exactly what had been added up
// to it, so a snapshot costs nothing. Nothing is ever removed: a table is dropped as a whole.
package overlay

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"qsfs/zdb/segfile"
)

const maxHeight = 14

// Entry is what the overlay knows of a key. The slices are not copied.
type Entry struct {
	Key      []byte
	Value    []byte // when Inline
	Inline   bool
	Delete   bool
	Given    bool // a user gave its time
	Seq      segfile.Seq
	Time     int64
	Location segfile.Location
	Version  uint64
}

// Overhead is what an entry costs beside its key and value.
const Overhead = 240

// node is one version of a key. What a search looks at comes first.
type node struct {
	next   []atomic.Pointer[node]
	prefix [2]uint64 // the first bytes of the key, which decide most comparisons without a look at it
	Entry
	older *node // the version of the same key before; set before the hash has the node
	later *node // the one that was added before, of those that are not in the list yet
}

// prefixOf pads with zeros: where two prefixes differ, the keys differ in the same way.
func prefixOf(key []byte) (p [2]uint64) {
	if len(key) >= 16 {
		return [2]uint64{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}
	}
	var b [16]byte
	copy(b[:], key)
	return [2]uint64{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// Table is one generation of the overlay.
type Table struct {
	head   node
	height atomic.Int32
	bytes  atomic.Int64
	count  atomic.Int64
	hash   atomic.Pointer[hash] // nil while the table is empty
	slab   slab                 // the writer's
	loose  atomic.Pointer[node] // added and not in the list yet, the newest first

	orderMu sync.Mutex // of who brings loose nodes into the list
}

// New returns an empty table.
func New() *Table {
	t := &Table{head: node{next: make([]atomic.Pointer[node], maxHeight)}}
	t.height.Store(1)
	return t
}

// Bytes is what the table takes up, about; Len the number of its entries.
func (t *Table) Bytes() int64 { return t.bytes.Load() }

// Len is the number of entries, all versions counted.
func (t *Table) Len() int64 { return t.count.Load() }

// before orders by key, and the newest version of a key first.
func (n *node) before(key []byte, prefix *[2]uint64, version uint64) bool {
	if n.prefix[0] != prefix[0] {
		return n.prefix[0] < prefix[0]
	}
	if n.prefix[1] != prefix[1] {
		return n.prefix[1] < prefix[1]
	}
	c := bytes.Compare(n.Key, key)
	return c < 0 || c == 0 && n.Version > version
}

// seek finds the first node that is not before (key, version).
func (t *Table) seek(key []byte, version uint64) *node {
	x := &t.head
	prefix := prefixOf(key)
	var next, ahead *node // ahead is known not to be before
	for h := int(t.height.Load()) - 1; h >= 0; h-- {
		for {
			next = x.next[h].Load()
			if next == nil || next == ahead || !next.before(key, &prefix, version) {
				break
			}
			x = next
		}
		ahead = next
	}
	return next
}

// Add puts an entry in. Only one goroutine at a time may add, with rising versions. Single keys are found at once; the
// list gets the entry when somebody wants the order.
func (t *Table) Add(e Entry) {
	height := 1
	for height < maxHeight && rand.Uint32()%4 == 0 {
		height++
	}
	n := t.slab.node(height)
	n.Entry, n.prefix = e, prefixOf(e.Key)
	t.index(n)
	for {
		// Only who orders takes nodes away, all of them.
		n.later = t.loose.Load()
		if t.loose.CompareAndSwap(n.later, n) {
			break
		}
	}
	t.bytes.Add(int64(len(e.Key)+len(e.Value)) + Overhead)
	t.count.Add(1)
}

// All calls f with every entry, key by key, the newest of each first, until it says no.
func (t *Table) All(f func(*Entry) bool) {
	if nodes := t.unordered(); nodes != nil {
		for i := range nodes {
			if !f(&nodes[i].node.Entry) {
				return
			}
		}
		return
	}
	t.order()
	for n := t.head.next[0].Load(); n != nil && f(&n.Entry); n = n.next[0].Load() {
	}
}

// Iter walks the newest entries, up to a version, of all keys. Deletes are among them.
type Iter struct {
	t       *Table
	version uint64
	seq     segfile.Seq
	at      *node
	ordered bool // all that it may see is in the list
}

// NewIter returns an iterator that stands nowhere.
func (t *Table) NewIter(version uint64) *Iter { return t.NewIterAt(version, ^segfile.Seq(0)) }

// NewIterAt is NewIter over what has no higher sequence.
func (t *Table) NewIterAt(version uint64, seq segfile.Seq) *Iter {
	return &Iter{t: t, version: version, seq: seq}
}

// Entry is where the iterator stands, or nil.
func (it *Iter) Entry() *Entry {
	if it.at == nil {
		return nil
	}
	return &it.at.Entry
}

// order is done by the first seek and not before, for iterators are made under locks.
func (it *Iter) order() {
	if !it.ordered {
		it.t.order()
		it.ordered = true
	}
}

// SeekGE stands on the first key ≥ key.
func (it *Iter) SeekGE(key []byte) {
	it.order()
	it.at = it.t.seek(key, it.version)
	it.settle()
}

// settle moves on from versions that are too new to one that is visible.
func (it *Iter) settle() {
	for it.at != nil && (it.at.Version > it.version || it.at.Seq > it.seq) {
		it.at = it.at.next[0].Load()
	}
}

// Next goes to the next key.
func (it *Iter) Next() {
	key := it.at.Key
	for it.at != nil && bytes.Equal(it.at.Key, key) {
		it.at = it.at.next[0].Load()
	}
	it.settle()
}

// SeekLT stands on the last key < key; nil is behind all.
func (it *Iter) SeekLT(key []byte) {
	it.order()
	for {
		x := it.t.lastBefore(key)
		if x == nil {
			it.at = nil
			return
		}
		it.at = it.t.seek(x.Key, it.version)
		for it.at != nil && it.at.Seq > it.seq && bytes.Equal(it.at.Key, x.Key) {
			it.at = it.at.next[0].Load()
		}
		if it.at != nil && bytes.Equal(it.at.Key, x.Key) {
			return
		}
		key = x.Key // all its versions are too new
	}
}

// Prev goes to the key before.
func (it *Iter) Prev() { it.SeekLT(it.at.Key) }

func (t *Table) lastBefore(key []byte) *node {
	x := &t.head
	for h := int(t.height.Load()) - 1; h >= 0; h-- {
		for next := x.next[h].Load(); next != nil && (key == nil || bytes.Compare(next.Key, key) < 0); next = x.next[h].Load() {
			x = next
		}
	}
	if x == &t.head {
		return nil
	}
	return x
}
