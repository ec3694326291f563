package server

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb"
)

// turns brings what several sessions of a namespace write into one batch. The first of them leads: it lets those run that
// are ready to, and commits what they bring together with its own. All hold the locks of their keys, so no key is written twice.
type turns struct {
	mu   sync.Mutex
	lead *turn // takes members; nil: nobody does

	// crowd is above 0 while others may be expected: it is set when some came and falls when none did. While it is 0 only
	// every crowdProbe-th writer looks, for to let others run costs one that is alone as much as a lookup.
	crowd atomic.Int32
	alone atomic.Uint32
}

const (
	crowdMost  = 16
	crowdProbe = 64
	// turnBytes is how much one may bring that is to be committed with others; all bring togetherBytes at most.
	turnBytes = togetherBytes / 2
)

// A turn is what one session brings.
type turn struct {
	sets    []write
	size    int // bytes, of the members too
	members []*turn
	done    chan struct{} // tells a member that seq and err are there
	seq     zdb.Seq
	err     error
	shared  bool // others were in the batch
	alone   bool // share it with nobody
}

// commit writes those of sets that are to be stored, which have size bytes, in one batch that others may share, and
// returns its last sequence.
func (s *session) commit(eng *zdb.Namespace, sets []write, size int, at time.Time) (zdb.Seq, error) {
	t := &s.turn
	t.sets, t.size = sets, size
	if t.alone || !at.IsZero() || size > turnBytes || s.ns.turns.leads(t) {
		b, putBack := s.emptyBatch(t.size)
		b.SetTime(at)
		t.commit(s.srv.ctx, eng, b)
		putBack()
	}
	t.sets = nil
	return t.seq, t.err
}

// commit commits what t and its members bring, and tells them.
func (t *turn) commit(ctx context.Context, eng *zdb.Namespace, b *zdb.Batch) {
	t.add(b)
	for _, m := range t.members {
		m.add(b)
	}
	var done zdb.Commit
	done, t.err = eng.Commit(ctx, b)
	t.seq, t.shared = done.Last, len(t.members) > 0
	for i, m := range t.members {
		m.seq, m.err, m.shared = t.seq, t.err, true
		m.done <- struct{}{}
		t.members[i] = nil
	}
	t.members = t.members[:0]
}

func (t *turn) add(b *zdb.Batch) {
	for i := range t.sets {
		if w := &t.sets[i]; w.stores() {
			b.Set(w.key, w.value)
		}
	}
}

// leads reports whether t is to commit, with the members that it has now. Else another one has committed t.
func (q *turns) leads(t *turn) bool {
	q.mu.Lock()
	if l := q.lead; l != nil && l.size+t.size <= togetherBytes {
		l.members = append(l.members, t)
		l.size += t.size
		q.mu.Unlock()
		<-t.done
		return false
	}
	if q.crowd.Load() == 0 && q.alone.Add(1)%crowdProbe != 0 {
		q.mu.Unlock()
		return true
	}
	q.lead = t // in the place of one that is full
	q.mu.Unlock()
	runtime.Gosched()
	q.mu.Lock()
	if q.lead == t {
		q.lead = nil
	}
	q.mu.Unlock() // nobody joins t any more
	if crowd := q.crowd.Load(); len(t.members) > 0 {
		q.crowd.Store(crowdMost)
	} else if crowd > 0 {
		q.crowd.Store(crowd - 1)
	}
	return true
}
