package server

import (
	"bytes"
	"errors"
	"hash/maphash"
	"math/bits"
	"time"

	"qsfs/zdb"
)

// SETs of one connection that have arrived together are committed together: one write to the log, one frame and one turn at
// the commit lock for all of them. Each is checked and answered by itself and in order, as if it had come alone.

const (
	// togetherMost and togetherBytes bound how many SETs and bytes of values are committed together. A session begins with
	// togetherFirst, and goes by how long it takes: togetherTime is too long.
	togetherFirst = 16
	togetherMost  = 128
	togetherBytes = 256 << 10
	togetherTime  = 10 * time.Millisecond
	// keepBatch is how many bytes a session commits with a batch of its own, whose memory it keeps.
	keepBatch = 96 << 10
)

// A write is one SET or CAS on its way.
type write struct {
	command    *command
	args       [][]byte
	key, value []byte
	old        oldEntry // what it found
	same       bool     // the key has that value already
	failed     string   // the error it is answered with
}

func (w *write) stores() bool { return w.failed == "" && !w.same }

// stripes is a set of the locks of a namespace's keys.
type stripes [keyLocks / 64]uint64

func stripeOf(key []byte) int { return int(maphash.Bytes(keySeed, key) % keyLocks) }

func (h *stripes) has(i int) bool { return h[i/64]>>(i%64)&1 != 0 }

func (h *stripes) add(i int) { h[i/64] |= 1 << (i % 64) }

func (n *namespace) unlockAll(h *stripes) {
	for i, word := range h {
		for ; word != 0; word &= word - 1 {
			n.keys[64*i+bits.TrailingZeros64(word)].Unlock()
		}
	}
}

// gather returns the SET that is executed and those that are committed with it: they have arrived whole behind it,
// without another command in between, and set other keys. It has taken their locks, but waited for the first only: who waited
// for one and held others would make everybody wait for whoever is slow.
func (s *session) gather(args [][]byte, at time.Time) (sets []write, held stripes) {
	sets = append(s.sets[:0], write{command: s.command, args: args, key: args[1], value: args[2]})
	stripe := stripeOf(args[1])
	s.ns.keys[stripe].Lock()
	held.add(stripe)
	if !at.IsZero() || s.ns.sequential() || s.ns.limit() > 0 { // a time is the batch's, ids and quota go one by one
		s.sets = sets
		return sets, held
	}
	size := len(args[2])
	var c *command
	joins := func(args [][]byte) bool {
		if c = s.srv.find(args[0]); c == nil || !c.together || len(args) != 3 {
			return false
		}
		key := args[1]
		if size += len(args[2]); size > togetherBytes || len(key) == 0 || len(key) > maxKey {
			return false
		}
		if stripe = stripeOf(key); !held.has(stripe) {
			return s.ns.keys[stripe].TryLock()
		}
		for i := range sets {
			if bytes.Equal(sets[i].key, key) {
				return false
			}
		}
		return true
	}
	for len(sets) < s.together {
		args, ok := s.rd.ReadMore(joins)
		if !ok {
			break
		}
		held.add(stripe)
		sets = append(sets, write{command: c, args: args, key: args[1], value: args[2]})
		s.commands++
		if s.srv.metrics != nil {
			s.joined = append(s.joined, c)
		}
	}
	s.sets = sets
	return sets, held
}

// heldFor notes for how long the locks of n keys were held, which others may have waited for: while the disk is slow, or writers
// are slowed, that is shared by fewer.
func (s *session) heldFor(n int, d time.Duration) {
	if d > togetherTime {
		s.together = max(n/2, 1)
	} else if n == s.together {
		s.together = min(2*n, togetherMost)
	}
}

// emptyBatch gives a batch for size bytes. One of many is shared by all sessions, so that none keeps its memory.
func (s *session) emptyBatch(size int) (b *zdb.Batch, putBack func()) {
	if size <= keepBatch {
		s.batch.Reset()
		return s.batch, func() {}
	}
	b = s.srv.batches.Get().(*zdb.Batch)
	return b, func() { b.Reset(); s.srv.batches.Put(b) }
}

// store commits those of sets that are to be stored, in one batch, under their keys' locks and within the quota. When that
// fails, it says so in each of them; but where room is short each is tried by itself. A key that the namespace gave is noted.
func (s *session) store(eng *zdb.Namespace, sets []write, at time.Time) (seq zdb.Seq) {
	refuse := func(text string) {
		for i := range sets {
			if sets[i].stores() {
				sets[i].failed = text
			}
		}
	}
	each := func() (seq zdb.Seq) { // there may be room for some of them
		s.turn.alone = true
		for i := range sets {
			seq = max(seq, s.store(eng, sets[i:i+1], at))
		}
		s.turn.alone = false
		return seq
	}
	n := s.ns
	sequential := n.sequential()
	count, size, delta := 0, 0, int64(0)
	for i := range sets {
		w := &sets[i]
		if !w.stores() {
			continue
		}
		if sequential && !w.old.exists && len(w.key) > 0 {
			w.failed = errUpdateOnly
			continue
		}
		count++
		size += len(w.key) + len(w.value)
		delta += int64(len(w.value)) - w.old.payload()
	}
	if count == 0 {
		return 0
	}
	if limit := n.set.Load().MaxSize; limit > 0 {
		if err := n.count.ready(s.srv.ctx); err != nil {
			s.trouble("count a namespace", err)
			refuse(errWrite)
			return 0
		}
		if !s.fits(delta) || !n.reserve(delta, limit) {
			if count > 1 { // the limit is newer than what gather saw
				return each()
			}
			refuse(errQuota)
			return 0
		}
	} else {
		n.payload.Add(delta)
	}
	var err error
	if sequential { // one alone; see gather
		b, putBack := s.emptyBatch(size)
		b.SetTime(at)
		var done zdb.Commit
		sets[0].key, done, err = n.commitID(s.srv.ctx, eng, b, sets[0].key, sets[0].value)
		seq = done.Last
		putBack()
	} else {
		seq, err = s.commit(eng, sets, size, at)
	}
	if err != nil {
		n.payload.Add(-delta)
		if !sequential && errors.Is(err, zdb.ErrNoSpace) && (count > 1 || s.turn.shared) {
			return each()
		}
		s.trouble("write", err)
		refuse(errWrite)
		return 0
	}
	for i := range sets {
		w := &sets[i]
		if !w.stores() {
			continue
		}
		if w.old.exists {
			n.dirty.mark(w.old.Location.Segment)
		} else {
			n.adjust(1, w.key, 0)
		}
		n.sets.Add(1)
		n.setBytes.Add(int64(len(w.value)))
	}
	return seq
}
