package index

import (
	"bytes"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"qsfs/zdb/segfile"
)

const (
	recentSets   = 1 << 15
	recentWays   = 4
	recentShards = 1 << 8
	recentKey    = 40 // longest key that is remembered
)

// places are where recently read keys lie, of all indexes of the process together, so that its memory (10 MiB, made
// as it is used) does not grow with their number. A look at Badger costs a walk down skip lists and tables; this costs one
// cache line or two.
//
// What it says is never older than the index. A reader that found an entry in Badger may put it here only if nothing was
// forgotten in its shard since before it looked, and the applier has the keys of a transaction forgotten after the
// transaction is visible and before the overlay's table, which answered until then, goes.
var places recent

// indexes counts those that were opened: a place belongs to one of them.
var indexes atomic.Uint32

type recent struct {
	shards [recentShards]recentShard
}

type recentShard struct {
	mu      sync.Mutex
	version uint64       // counts what was forgotten
	hand    uint8        // the way that goes next
	slots   []recentSlot // nil until something is put here: who only writes needs none
	_       [16]byte
}

// recentSlot has no pointer in it, which spares the collector a look.
type recentSlot struct {
	owner        uint32 // 0 is none
	segment      segfile.ID
	length       uint32
	size         uint8
	moved, given bool
	offset, time int64
	seq          segfile.Seq
	key          [recentKey]byte
}

var recentSeed = maphash.MakeSeed()

// shard gives the shard that key belongs to, and the number of its set there.
func (r *recent) shard(owner uint32, key []byte) (*recentShard, int) {
	at := (maphash.Bytes(recentSeed, key) + uint64(owner)*0x9e3779b97f4a7c15) % recentSets
	return &r.shards[at%recentShards], int(at / recentShards)
}

// set gives the slots of a set, none if nothing was ever put into the shard. mu is held.
func (s *recentShard) set(i int) []recentSlot {
	if s.slots == nil {
		return nil
	}
	return s.slots[i*recentWays : (i+1)*recentWays]
}

func (s *recentSlot) is(owner uint32, key []byte) bool {
	return s.owner == owner && int(s.size) == len(key) && bytes.Equal(s.key[:s.size], key)
}

// get gives the place of key. If it is not here, version is what put wants to know.
func (r *recent) get(owner uint32, key []byte) (e Entry, version uint64, ok bool) {
	shard, at := r.shard(owner, key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	set := shard.set(at)
	for i := range set {
		if s := &set[i]; s.is(owner, key) {
			return Entry{
				Location: segfile.Location{Segment: s.segment, Offset: s.offset, Length: s.length},
				Seq:      s.seq, Time: s.time, Moved: s.moved, Given: s.given,
			}, 0, true
		}
	}
	return Entry{}, shard.version, false
}

// put remembers what Badger said after get, unless it may have changed since.
func (r *recent) put(owner uint32, key []byte, e *Entry, version uint64) {
	shard, at := r.shard(owner, key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.version != version {
		return
	}
	if shard.slots == nil {
		shard.slots = make([]recentSlot, recentSets/recentShards*recentWays)
	}
	set := shard.set(at)
	to := &set[shard.hand%recentWays]
	for i := range set {
		if s := &set[i]; s.owner == 0 || s.is(owner, key) {
			to = s
			break
		}
	}
	shard.hand++
	*to = recentSlot{
		owner: owner, segment: e.Location.Segment, length: e.Location.Length, size: uint8(len(key)),
		moved: e.Moved, given: e.Given, offset: e.Location.Offset, time: e.Time, seq: e.Seq,
	}
	copy(to.key[:], key)
}

// forget drops what is known of key.
func (r *recent) forget(owner uint32, key []byte) {
	shard, at := r.shard(owner, key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.version++
	set := shard.set(at)
	for i := range set {
		if s := &set[i]; s.is(owner, key) {
			s.owner = 0
		}
	}
}

// Get gives the newest entry of key. Values that stand in the index itself are not remembered: only places are.
func (x *Index) Get(key []byte) (Entry, bool, error) {
	if !x.absent.maySum(sumOf(key)) {
		return Entry{}, false, nil
	}
	if len(key) > recentKey {
		return x.look(key)
	}
	// Before anything is read: the applier has keys forgotten only where somebody may have put one.
	if !x.remembers.Load() {
		x.remembers.Store(true)
	}
	e, version, ok := places.get(x.owner, key)
	if ok {
		return e, true, nil
	}
	e, ok, err := x.look(key)
	if err == nil && ok && !e.Inline {
		places.put(x.owner, key, &e, version)
	}
	return e, ok, err
}

// forget drops the places of keys that a transaction has changed.
func (x *Index) forget(p *pending) {
	if !x.remembers.Load() {
		return
	}
	p.keys(func(key []byte) {
		if len(key) <= recentKey {
			places.forget(x.owner, key)
		}
	})
}
