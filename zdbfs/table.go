package zdbfs

import "sync"

const tableShards = 64

// inodeTable holds the inodes in memory and, apart from them, what the kernel refers to: lookups and opens are counts
// in maps, so that a kernel that knows a million inodes costs no million objects.
type inodeTable struct {
	limit  int // clean inodes per shard
	shards [tableShards]tableShard
}

type tableShard struct {
	mu      sync.Mutex
	inodes  map[Ino]*inode
	lookups map[Ino]uint64
	opens   map[Ino]uint32
	orphans map[Ino]orphanState
	cuts    map[Ino]uint64 // T rows
}

// orphanState is where an inode without a name stands.
type orphanState uint8

const (
	orphanHeld   orphanState = iota // the kernel may still refer to it
	orphanQueued                    // in the reaper's queue
	orphanTaken                     // being freed
)

func newInodeTable(limit int) *inodeTable {
	t := &inodeTable{limit: max(limit/tableShards, 4)}
	for i := range t.shards {
		s := &t.shards[i]
		s.inodes = make(map[Ino]*inode)
		s.lookups = make(map[Ino]uint64)
		s.opens = make(map[Ino]uint32)
		s.orphans = make(map[Ino]orphanState)
		s.cuts = make(map[Ino]uint64)
	}
	return t
}

func (t *inodeTable) shard(ino Ino) *tableShard { return &t.shards[ino%tableShards] }

// pin returns the inode's object, made if need be, and keeps it in memory.
func (t *inodeTable) pin(ino Ino) *inode {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.inodes[ino]
	if in == nil {
		in = &inode{ino: ino}
		s.inodes[ino] = in
	}
	in.pins++
	return in
}

// again pins an inode that the caller has pinned.
func (t *inodeTable) again(in *inode) {
	s := t.shard(in.ino)
	s.mu.Lock()
	in.pins++
	s.mu.Unlock()
}

// unpin lets go. Dirty inodes are pinned by the dirty queue, so one without pins holds nothing that a row does not.
func (t *inodeTable) unpin(in *inode) {
	s := t.shard(in.ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	in.pins--
	if in.pins > 0 {
		return
	}
	if !in.loaded || in.gone {
		delete(s.inodes, in.ino)
		return
	}
	if len(s.inodes) <= t.limit {
		return
	}
	// Go walks a map from a random place: that is the eviction policy.
	tries := 8
	for ino, old := range s.inodes {
		if old.pins == 0 {
			delete(s.inodes, ino)
			if len(s.inodes) <= t.limit {
				return
			}
		}
		if tries--; tries == 0 {
			return
		}
	}
}

// count adds a lookup; false if the inode is being freed.
func (t *inodeTable) count(ino Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.orphans[ino] == orphanTaken {
		return false
	}
	s.lookups[ino]++
	return true
}

// open adds an open; false if the inode is being freed.
func (t *inodeTable) open(ino Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.orphans[ino] == orphanTaken {
		return false
	}
	s.opens[ino]++
	return true
}

// drop takes lookups and opens away and says whether the inode is now an orphan that nobody refers to; it is then
// marked as queued.
func (t *inodeTable) drop(ino Ino, lookups uint64, opens uint32) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.lookups[ino]; n > lookups {
		s.lookups[ino] = n - lookups
	} else if n > 0 {
		delete(s.lookups, ino)
	}
	if n := s.opens[ino]; n > opens {
		s.opens[ino] = n - opens
	} else if n > 0 {
		delete(s.opens, ino)
	}
	return s.queueLocked(ino)
}

func (s *tableShard) queueLocked(ino Ino) bool {
	if st, ok := s.orphans[ino]; !ok || st != orphanHeld || s.lookups[ino] > 0 || s.opens[ino] > 0 {
		return false
	}
	s.orphans[ino] = orphanQueued
	return true
}

// orphan notes that ino has no name left and says, as drop does, whether it can be freed.
func (t *inodeTable) orphan(ino Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orphans[ino] = orphanHeld
	return s.queueLocked(ino)
}

// adopt undoes orphan, for a file made without a name that gets one.
func (t *inodeTable) adopt(ino Ino) {
	s := t.shard(ino)
	s.mu.Lock()
	delete(s.orphans, ino)
	s.mu.Unlock()
}

// take says whether a queued orphan may be freed now; if so nobody can refer to it any more.
func (t *inodeTable) take(ino Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.orphans[ino]
	if !ok || st == orphanTaken {
		return ok
	}
	if s.lookups[ino] > 0 || s.opens[ino] > 0 {
		s.orphans[ino] = orphanHeld
		return false
	}
	s.orphans[ino] = orphanTaken
	return true
}

// freed forgets an orphan whose rows are gone.
func (t *inodeTable) freed(ino Ino) {
	s := t.shard(ino)
	s.mu.Lock()
	delete(s.orphans, ino)
	delete(s.cuts, ino)
	s.mu.Unlock()
}

func (t *inodeTable) isOrphan(ino Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.orphans[ino]
	return ok
}

// cut returns the offset above which extents of ino are dead.
func (t *inodeTable) cut(ino Ino) (uint64, bool) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.cuts[ino]
	return at, ok
}

func (t *inodeTable) setCut(ino Ino, at uint64) {
	s := t.shard(ino)
	s.mu.Lock()
	s.cuts[ino] = at
	s.mu.Unlock()
}

func (t *inodeTable) clearCut(ino Ino) {
	s := t.shard(ino)
	s.mu.Lock()
	delete(s.cuts, ino)
	s.mu.Unlock()
}
