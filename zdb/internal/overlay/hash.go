package overlay

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
)

var hashSeed = maphash.MakeSeed()

// firstSlots is the length of a new hash; it doubles when it is half full.
const firstSlots = 16

// hash finds the newest node of a key in one step, where the skip list needs twenty. It has open addresses, one writer,
// and readers that take no lock: a slot only ever goes from empty to a key and stays that key's, and a hash that grows is
// replaced as a whole by one that has the same nodes. A reader that still looks at the one before misses only what was
// added after the version it looks at.
type hash struct {
	// tags have 0 for an empty slot, else some bits of the key's hash, so that a key which is not there costs no visit to a
	// node. A tag is stored after its node.
	tags  []atomic.Uint32
	nodes []atomic.Pointer[node]
	used  int // the writer's
}

func newHash(slots int) *hash {
	return &hash{tags: make([]atomic.Uint32, slots), nodes: make([]atomic.Pointer[node], slots)}
}

func tagOf(sum uint64) uint32 { return uint32(sum>>32) | 1 }

// find gives the slot of key: the one that holds it, with its newest node, or the empty one where it belongs.
func (x *hash) find(key []byte, sum uint64) (slot int, n *node) {
	mask, tag := len(x.tags)-1, tagOf(sum)
	for slot = int(sum) & mask; ; slot = (slot + 1) & mask {
		switch x.tags[slot].Load() {
		case 0:
			return slot, nil
		case tag:
			if n := x.nodes[slot].Load(); bytes.Equal(n.Key, key) {
				return slot, n
			}
		}
	}
}

// put makes n the newest node of its key.
func (x *hash) put(slot int, n *node, sum uint64) {
	x.nodes[slot].Store(n)
	if n.older == nil {
		x.tags[slot].Store(tagOf(sum))
		x.used++
	}
}

// grown is a hash of twice the length with the same nodes.
func (x *hash) grown() *hash {
	y := newHash(2 * len(x.tags))
	for i := range x.nodes {
		if n := x.nodes[i].Load(); n != nil {
			sum := maphash.Bytes(hashSeed, n.Key)
			slot, _ := y.find(n.Key, sum)
			y.nodes[slot].Store(n)
			y.tags[slot].Store(tagOf(sum))
		}
	}
	y.used = x.used
	return y
}

// index notes a node that is in the list already, the newest of its key.
func (t *Table) index(n *node) {
	x := t.hash.Load()
	if x == nil || 2*(x.used+1) > len(x.tags) {
		if x == nil {
			x = newHash(firstSlots)
		} else {
			x = x.grown()
		}
		t.hash.Store(x)
	}
	sum := maphash.Bytes(hashSeed, n.Key)
	slot, older := x.find(n.Key, sum)
	n.older = older
	x.put(slot, n, sum)
}

// Get gives the newest entry of key up to version.
func (t *Table) Get(key []byte, version uint64) (*Entry, bool) {
	x := t.hash.Load()
	if x == nil {
		return nil, false
	}
	_, n := x.find(key, maphash.Bytes(hashSeed, key))
	for n != nil && n.Version > version {
		n = n.older
	}
	if n == nil {
		return nil, false
	}
	return &n.Entry, true
}

// Versions calls f with the entries of one key, newest first, until it says no.
func (t *Table) Versions(key []byte, f func(*Entry) bool) {
	x := t.hash.Load()
	if x == nil {
		return
	}
	for _, n := x.find(key, maphash.Bytes(hashSeed, key)); n != nil && f(&n.Entry); n = n.older {
	}
}
