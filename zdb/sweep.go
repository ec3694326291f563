package zdb

import (
	"context"
	"math"
	"time"

	"qsfs/zdb/internal/index"
)

const (
	// pruneStep is about how many versions are looked at while the applier waits.
	pruneStep = 4096
	// sweepAdded versions since the last sweep are worth another one, together with as many as were left then.
	sweepAdded = 16 << 10
	// sweepEvery bounds how often the age of versions is looked at, sweepShare the part of KeepFor that one may stay too long.
	sweepEvery = time.Minute
	sweepShare = 16
	// sweepRest: a compaction does not sweep when it is not longer ago than this times what the last sweep took, if that was long.
	sweepRest = 8
	sweepLong = time.Second
)

// sweepIdle is how often an index that nobody uses, and that was closed therefore, is opened at most to look at the age of versions.
var sweepIdle = time.Hour

// sweepSlice is how long the background sweeps before compaction has its turn: there may be very many versions.
var sweepSlice = 200 * time.Millisecond

// sweeper remembers the last sweep, and where the present one is. compactor.mu guards it.
type sweeper struct {
	at   time.Time
	left int64
	took time.Duration

	place *index.Place // where to go on; nil: none is under way
	so    int64        // left so far
	far   time.Duration

	idle time.Time // when to look into an index that is closed
}

// wakeIdle opens an index that was closed for want of use if something in it may have become too old: else what was deleted last would stay until somebody
// uses the namespace. compactor.mu is held.
func (n *Namespace) wakeIdle() error {
	age := n.Retention().KeepFor
	n.idxMu.Lock()
	closed := n.idx == nil && n.opening == nil
	n.idxMu.Unlock()
	now := time.Now()
	if n.sweep.idle.IsZero() {
		n.sweep.idle = now.Add(sweepIdle) // not at once after a start
	}
	if age == 0 || !closed || now.Before(n.sweep.idle) || !n.db.waking.TryLock() { // one at a time: there may be very many
		return nil
	}
	defer n.db.waking.Unlock()
	n.sweep.idle = now.Add(max(sweepIdle, age/sweepShare))
	x, err := n.acquireIndex(n.ctx)
	if err != nil {
		return err
	}
	return x.Release()
}

// dueToSweep says whether something may be kept that is not wanted any more. compactor.mu is held.
func (n *Namespace) dueToSweep() bool {
	if age := n.Retention().KeepFor; age > 0 {
		n.age(age)
		n.ages.Save(false)
	}
	n.idxMu.Lock()
	x := n.idx
	n.idxMu.Unlock()
	if x == nil {
		return false // the next one who opens it
	}
	versions := x.Versions()
	if versions == 0 {
		n.sweep.place = nil
		return false
	}
	n.keep.mu.Lock()
	defer n.keep.mu.Unlock()
	age := n.keep.keep.KeepFor
	return n.sweep.place != nil || n.keep.sweep || versions >= 2*n.sweep.left+sweepAdded ||
		age > 0 && time.Since(n.sweep.at) >= max(sweepEvery, age/sweepShare)
}

// sweepIfDue sweeps for a while and says whether there is more to sweep.
func (n *Namespace) sweepIfDue() (more bool, err error) {
	n.compactor.mu.Lock()
	defer n.compactor.mu.Unlock()
	if err := n.wakeIdle(); err != nil {
		return false, err
	}
	if !n.dueToSweep() {
		return false, nil
	}
	if n.sweep.place == nil {
		n.beginSweep()
	}
	return n.sweepOn(n.ctx, sweepSlice)
}

// runSweep goes through all superseded versions and drops from the index what retention does not want any more, in small
// steps. Compaction then frees their space. compactor.mu is held.
func (n *Namespace) runSweep(ctx context.Context) error {
	n.beginSweep()
	_, err := n.sweepOn(ctx, math.MaxInt64)
	return err
}

func (n *Namespace) beginSweep() {
	n.keep.mu.Lock()
	n.keep.sweep = false
	n.keep.mu.Unlock()
	n.sweep.place, n.sweep.so, n.sweep.far = nil, 0, 0
}

// sweepOn goes on for a time at least. After an error the next one goes on where it stopped.
func (n *Namespace) sweepOn(ctx context.Context, slice time.Duration) (more bool, err error) {
	defer n.db.working()()
	s := &n.sweep
	began := time.Now()
	defer func() { s.far += time.Since(began) }()
	for {
		next, left, err := n.sweepStep(ctx, s.place)
		if err != nil {
			if s.place == nil {
				n.keep.mu.Lock()
				n.keep.sweep = true
				n.keep.mu.Unlock()
			}
			return false, err
		}
		s.so += int64(left)
		if s.place = next; next == nil {
			now := time.Now()
			s.at, s.left, s.took = now, s.so, s.far+now.Sub(began)
			return false, nil
		}
		if time.Since(began) >= slice {
			return true, nil
		}
	}
}

// sweepForRoom is runSweep before a compaction, unless one that takes long was just done: who asks for room again and again
// would have nothing else.
func (n *Namespace) sweepForRoom(ctx context.Context) error {
	n.keep.mu.Lock()
	asked := n.keep.sweep
	n.keep.mu.Unlock()
	if !asked && n.sweep.place == nil && n.sweep.took >= sweepLong && time.Since(n.sweep.at) < sweepRest*n.sweep.took {
		return nil
	}
	return n.runSweep(ctx)
}

func (n *Namespace) sweepStep(ctx context.Context, from *index.Place) (next *index.Place, left int, err error) {
	n.applyMu.Lock()
	defer n.applyMu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if err := n.space.forMakingRoom(); err != nil {
		return nil, 0, err
	}
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return nil, 0, err
	}
	next, _, left, err = x.Prune(from, n.policy(), pruneStep)
	if rerr := x.Release(); err == nil {
		err = rerr
	}
	return next, left, err
}
