package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb"
)

// maxsize bounds two things. The payload of live entries never exceeds it, to the byte, as with the original. And what
// the namespace takes on disk, everything counted (segments, index, what is dead and not yet compacted, history that is
// kept), stays below maxsize + a quarter + 64 MiB: writes are taken up to maxsize + quotaRoom; what is above that is room
// for deletes, for values that shrink, for compaction, which copies before it removes, and for the index.
const (
	quotaRoom = 16 << 20
	// quotaSlack bounds what writes that do not make the namespace larger may take above maxsize + quotaRoom.
	quotaSlack = 8 << 20
	// quotaSegments is in how many segments maxsize is split at least, so that one can be compacted in the room there is.
	quotaSegments   = 16
	quotaMinSegment = 1 << 20
	// quotaLook is after how many bytes the disk is looked at again.
	quotaLook = 256 << 10
	// quotaWait is how long a write waits for compaction to make room.
	quotaWait = 10 * time.Second
	// quotaRetry is after what time compaction is tried again that freed too little: what is kept for a time expires.
	quotaRetry = 30 * time.Second
	// entryExtra is what an entry takes on disk beside its value and twice its key, at most, in log and index together.
	entryExtra = 160
)

// A quota knows what a namespace takes on disk.
type quota struct {
	disk     atomic.Int64 // when it was last looked at
	grown    atomic.Int64 // written since
	inflight atomic.Int64 // asked for and not yet written

	mu       sync.Mutex
	look     zdb.Stats
	reclaim  chan struct{} // closed when the compaction under way has made room or ended; nil: there is none
	futile   int64         // dead bytes that the last compaction left, if it freed hardly any; else 0
	futileAt time.Time
	stopped  bool
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

func (q *quota) used() int64 { return q.disk.Load() + q.grown.Load() + q.inflight.Load() }

func (s *Server) segmentSize() int64 {
	if s.o.SegmentSize == 0 {
		return zdb.DefaultSegmentSize
	}
	return s.o.SegmentSize
}

// quotaSegment is the length at which a segment of a limited namespace is sealed.
func quotaSegment(limit, usual int64) int64 {
	return min(max(limit/quotaSegments, quotaMinSegment), usual)
}

// segmentSize is the length at which a segment of the namespace is sealed.
func (n *namespace) segmentSize() int64 {
	usual := n.srv.segmentSize()
	if limit := n.limit(); limit > 0 {
		return quotaSegment(limit, usual)
	}
	return usual
}

// limit is maxsize in a form to reckon with; 0 is none.
func (n *namespace) limit() int64 { return int64(min(n.set.Load().MaxSize, 1<<60)) }

// mayGrow lets a write through that may make the namespace larger by an entry, waits for compaction if that can make
// room, or marks the session as over the limit: then only values that shrink are taken. Nothing is locked meanwhile.
func (s *session) mayGrow(key, value []byte) {
	n, limit := s.ns, s.ns.limit()
	s.over = false
	if limit == 0 {
		return
	}
	q := &n.quota
	s.reserved = int64(len(value)+len(value)/4096+2*len(key)) + entryExtra
	q.inflight.Add(s.reserved)
	soft := limit + quotaRoom
	if q.grown.Load() < quotaLook && q.used() <= soft*7/8 && q.disk.Load() > 0 {
		return
	}
	deadline := time.Now().Add(quotaWait)
	for first := true; ; first = false {
		n.lookAtDisk(s.srv.ctx)
		if q.used() <= soft*7/8 {
			return
		}
		progress := n.reclaim(limit)
		if q.used() <= soft {
			return
		}
		if progress == nil || time.Now().After(deadline) || first && !s.flushed() {
			s.over = true
			return
		}
		select {
		case <-progress:
		case <-time.After(time.Until(deadline)):
		case <-s.srv.ctx.Done():
			s.over = true
			return
		}
	}
}

// willDelete counts the delete of a key. It is never refused.
func (s *session) willDelete(key []byte) {
	if s.ns.limit() > 0 {
		s.reserved = int64(2*len(key)) + entryExtra
		s.ns.quota.inflight.Add(s.reserved)
	}
}

// grew settles what was reserved: it has been written, or will be seen not to have been when the disk is looked at.
func (s *session) grew() {
	n, q := s.ns, &s.ns.quota
	over := s.over
	q.grown.Add(s.reserved)
	q.inflight.Add(-s.reserved)
	s.reserved, s.over = 0, false
	if q.grown.Load() < quotaLook && !over {
		return
	}
	n.lookAtDisk(s.srv.ctx)
	if limit := n.limit(); q.used() > (limit+quotaRoom)*7/8 {
		n.reclaim(limit)
	}
}

// fits says whether a write that was over the limit may be taken: it must not make the namespace larger.
func (s *session) fits(delta int64) bool {
	return !s.over || delta <= 0 && s.ns.quota.used() <= s.ns.limit()+quotaRoom+quotaSlack
}

// lookAtDisk takes new figures. life must not be held.
func (n *namespace) lookAtDisk(ctx context.Context) {
	eng, err := n.acquire(ctx)
	if err != nil {
		return
	}
	n.quota.lookAt(n, eng)
	n.release()
}

func (q *quota) lookAt(n *namespace, eng *zdb.Namespace) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.grown.Store(0) // before the figures: what is written meanwhile counts twice, not never
	q.look = eng.Stats()
	q.disk.Store(max(q.look.DiskBytes, 1))
}

// enoughFor is how much a compaction has to free to be worth it.
func enoughFor(limit int64) int64 { return max(limit/64, quotaMinSegment) }

// reclaim starts compaction where that can make room. The channel tells the next time that it has; nil says that there
// is nothing to gain.
func (n *namespace) reclaim(limit int64) <-chan struct{} {
	n.life.RLock()
	defer n.life.RUnlock()
	eng := n.eng.Load()
	if eng == nil {
		return nil
	}
	q := &n.quota
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.reclaim != nil {
		return q.reclaim
	}
	enough := enoughFor(limit)
	dead := n.dead()
	if q.stopped || dead < enough || q.futile > 0 && dead < q.futile+enough && time.Since(q.futileAt) < quotaRetry {
		return nil
	}
	ctx, cancel := context.WithCancel(n.srv.ctx)
	q.cancel, q.reclaim = cancel, make(chan struct{})
	q.wg.Go(func() {
		defer cancel()
		n.compactForRoom(ctx, eng)
	})
	return q.reclaim
}

func (n *namespace) compactForRoom(ctx context.Context, eng *zdb.Namespace) {
	q := &n.quota
	tell := func(next chan struct{}) {
		q.lookAt(n, eng)
		q.mu.Lock()
		close(q.reclaim)
		q.reclaim = next
		q.mu.Unlock()
	}
	began := time.Now()
	res, err := eng.Compact(ctx, zdb.CompactOptions{All: true, Progress: func(zdb.CompactProgress) { tell(make(chan struct{})) }})
	if err != nil && ctx.Err() == nil {
		n.srv.trouble("compact", n.name, err)
	}
	n.srv.log.Info("compacted for room", "namespace", n.name, "segments", res.Segments, "copied", res.Copied, "freed", res.Freed,
		"took", time.Since(began).Round(time.Millisecond))
	q.lookAt(n, eng)
	q.mu.Lock()
	q.futile = 0
	if res.Freed-res.Copied < enoughFor(n.limit()) { // else there may be as much again: much died meanwhile
		q.futile, q.futileAt = n.dead(), time.Now()
	}
	q.mu.Unlock()
	tell(nil)
}

// dead is what compaction might free: all of the log that is no key or value. The engine knows of what died before the
// last apply only. The caller holds the quota's mu.
func (n *namespace) dead() int64 {
	look := &n.quota.look
	select {
	case <-n.count.done:
		return max(look.DeadBytes, look.LogBytes-n.payload.Load()-n.keyBytes.Load())
	default: // not yet counted
		return look.DeadBytes
	}
}

// stop ends the work of the quota, before the engine's namespace is closed.
func (q *quota) stop() {
	q.mu.Lock()
	q.stopped = true
	if q.cancel != nil {
		q.cancel()
	}
	q.mu.Unlock()
	q.wg.Wait()
}
