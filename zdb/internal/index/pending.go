package index

import (
	"bytes"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// pending knows what the transaction that is being collected makes of the keys. They come in order, each once, but for what compaction
// moved and while an index is rebuilt: so they lie in a run, and only what does not continue it in a map.
type pending struct {
	run []pendingKey
	odd map[string]*Entry // never a key behind the end of the run
}

type pendingKey struct {
	key   []byte
	gone  bool
	entry Entry
}

// ahead says that key comes after all keys that are known.
func (p *pending) ahead(key []byte) bool {
	return len(p.run) == 0 || bytes.Compare(key, p.run[len(p.run)-1].key) > 0
}

func (p *pending) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(p.run, key, func(k pendingKey, key []byte) int { return bytes.Compare(k.key, key) })
}

// get gives what the transaction makes of key; nil is that it deletes it. ok says whether it changes it at all.
func (p *pending) get(key []byte) (e *Entry, ok bool) {
	if p.ahead(key) {
		return nil, false
	}
	if i, ok := p.find(key); ok {
		if p.run[i].gone {
			return nil, true
		}
		e := p.run[i].entry // the one in the run may change
		return &e, true
	}
	e, ok = p.odd[string(key)]
	return e, ok
}

// put notes a change; nil is a delete. key must not change.
func (p *pending) put(key []byte, e *Entry) {
	k := pendingKey{key: key, gone: e == nil}
	if e != nil {
		k.entry = *e
		k.entry.Inline, k.entry.Value = false, nil
	}
	if p.ahead(key) {
		p.run = append(p.run, k)
		return
	}
	if i, ok := p.find(key); ok {
		p.run[i] = k
		return
	}
	if p.odd == nil {
		p.odd = make(map[string]*Entry)
	}
	if e == nil {
		p.odd[string(key)] = nil
		return
	}
	kept := k.entry
	p.odd[string(key)] = &kept
}

// keys calls f with each key that is changed.
func (p *pending) keys(f func(key []byte)) {
	for i := range p.run {
		f(p.run[i].key)
	}
	for key := range p.odd {
		f([]byte(key))
	}
}

func (p *pending) reset() {
	p.run = p.run[:0]
	clear(p.odd)
}

const (
	firstCarved = 4 << 10
	maxCarved   = 64 << 10
	carvedSets  = 128
)

// carver makes what a transaction refers to by the dozen, and again for the next one: Badger has copied all of it when a commit
// has returned.
type carver struct {
	chunks [][]byte
	chunk  int // that is carved from
	sets   [][]badger.Entry
	used   int // of sets
}

// bytes gives room to append n bytes to.
func (c *carver) bytes(n int) []byte {
	for ; c.chunk < len(c.chunks); c.chunk++ {
		p := &c.chunks[c.chunk]
		if at := len(*p); cap(*p)-at >= n {
			*p = (*p)[:at+n]
			return (*p)[at : at : at+n]
		}
	}
	size := firstCarved
	if len(c.chunks) > 0 {
		size = min(2*cap(c.chunks[len(c.chunks)-1]), maxCarved)
	}
	p := make([]byte, n, max(size, n))
	c.chunks = append(c.chunks, p)
	return p[0:0:n]
}

// set gives what Badger wants to know of a change.
func (c *carver) set(key, value []byte) *badger.Entry {
	if c.used == len(c.sets)*carvedSets {
		c.sets = append(c.sets, make([]badger.Entry, carvedSets))
	}
	e := &c.sets[c.used/carvedSets][c.used%carvedSets]
	c.used++
	*e = badger.Entry{Key: key, Value: value}
	return e
}

// reset makes everything free again: nothing refers to it any more.
func (c *carver) reset() {
	for i := range c.chunks {
		c.chunks[i] = c.chunks[i][:0]
	}
	c.chunk, c.used = 0, 0
}
