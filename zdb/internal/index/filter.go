package index

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	// A level's block is one cache line; a key sets blockProbes of its bits.
	blockWords  = 8
	blockProbes = 6
	bitsPerKey  = 12
	firstLevel  = 8 << 10 // keys; each further level takes levelGrowth times as many
	levelGrowth = 4
)

var filterSeed = maphash.MakeSeed()

// filter knows of most keys that are not in the index that they are not, without a look at Badger. It is a chain of
// Bloom filters with the bits of a key in one cache line (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient
// Bloom Filters", 2007); a full one is followed by a longer one, so nothing is ever hashed again. Keys are never removed.
// Readers take no lock.
type filter struct {
	levels atomic.Pointer[[]*level]

	mu    sync.Mutex // of those who add
	count int64      // keys added
	room  int64      // of the last level
}

type level struct {
	words  []atomic.Uint64
	blocks uint64
}

func newFilter() *filter {
	f := &filter{}
	f.levels.Store(&[]*level{})
	return f
}

// has is false only for a key that was never added.
func (f *filter) has(key []byte) bool { return f.hasSum(sumOf(key)) }

// sumOf is what filters go by.
func sumOf(key []byte) uint64 { return maphash.Bytes(filterSeed, key) }

func (f *filter) hasSum(sum uint64) bool {
	levels := *f.levels.Load()
	for i := range levels { // most keys are in the last one
		if levels[len(levels)-1-i].has(sum) {
			return true
		}
	}
	return false
}

func (f *filter) add(key []byte) { f.addSum(sumOf(key), false) }

// addSum adds a key by its sum; absent says that the filter is known not to have it.
func (f *filter) addSum(sum uint64, absent bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !absent && f.hasSum(sum) {
		return
	}
	levels := *f.levels.Load()
	if f.room == 0 {
		keys := int64(firstLevel)
		for range levels {
			keys *= levelGrowth
		}
		blocks := keys * bitsPerKey / (64 * blockWords)
		levels = append(levels[:len(levels):len(levels)], &level{words: make([]atomic.Uint64, blocks*blockWords), blocks: uint64(blocks)})
		f.levels.Store(&levels)
		f.room = keys
	}
	levels[len(levels)-1].set(sum)
	f.room--
	f.count++
}

// size is how many keys were added.
func (f *filter) size() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// block picks the cache line from the upper bits of the sum; the lower ones give the bits in it.
func (l *level) block(sum uint64) []atomic.Uint64 {
	at, _ := bits.Mul64(sum, l.blocks)
	return l.words[at*blockWords : (at+1)*blockWords]
}

func (l *level) has(sum uint64) bool {
	block := l.block(sum)
	for h, i := scatter(sum), 0; i < blockProbes; h, i = h>>9, i+1 {
		if block[h>>6%blockWords].Load()&(1<<(h&63)) == 0 {
			return false
		}
	}
	return true
}

func (l *level) set(sum uint64) {
	block := l.block(sum)
	for h, i := scatter(sum), 0; i < blockProbes; h, i = h>>9, i+1 {
		block[h>>6%blockWords].Or(1 << (h & 63))
	}
}

// scatter makes the bits within a block independent of the choice of the block.
func scatter(sum uint64) uint64 { return sum * 0x9e3779b97f4a7c15 }
