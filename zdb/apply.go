package zdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/internal/index"
)

const (
	// applyAge is how long an entry stays out of the index at most while writes are few.
	applyAge = 10 * time.Second
	// applyTick is how often it is looked whether there is something to do.
	applyTick = time.Second
	// What takes restBytes and did not grow from one look to the next is brought over at once: nobody writes, and the memory is wanted elsewhere.
	restBytes = 1 << 20
	restTick  = 250 * time.Millisecond
	// applyRetry is the pause after a failure.
	applyRetry = time.Second
)

// applyLoop brings the overlay into the index: when it is half full, or old.
func (n *Namespace) applyLoop() {
	timer := time.NewTimer(applyTick)
	defer timer.Stop()
	var r resting
	var warned time.Time
	for {
		due := false
		select {
		case <-n.ctx.Done():
			return
		case <-n.wake:
		case <-timer.C:
			due = r.look(n.view.Load().tables[0])
		}
		n.space.keep()
		wait := applyTick
		if n.view.Load().memory != nil {
			n.leaveMemory()
		}
		if due || n.dueToApply() {
			if err := n.apply(n.ctx); err != nil && n.ctx.Err() == nil {
				if time.Since(warned) >= applyRetry { // commits wake it, too
					warned = time.Now()
					n.logger.Warn("the index is behind", "namespace", n.name, "error", err)
				}
				wait = applyRetry
			}
		}
		if wait == applyTick && n.view.Load().tables[0].taken() >= restBytes {
			wait = restTick
		}
		timer.Reset(wait)
	}
}

// resting finds a generation to which nobody adds any more.
type resting struct {
	of    *generation
	taken int64
}

// look is told the active generation at each tick and says whether it is at rest.
func (r *resting) look(g *generation) bool {
	last := *r
	*r = resting{of: g, taken: g.taken()}
	return *r == last && r.taken >= restBytes
}

func (n *Namespace) dueToApply() bool {
	tables := n.view.Load().tables
	active := tables[0]
	return len(tables) > 1 || active.Bytes() >= n.db.o.OverlayBytes/2 ||
		!active.empty() && time.Since(active.began) >= applyAge
}

// errReplaced: the index that was written to is no longer the one in use.
var errReplaced = errors.New("the index was replaced")

// apply makes the overlay durable and moves all of it into the index.
func (n *Namespace) apply(ctx context.Context) error {
	n.applyMu.Lock()
	defer n.applyMu.Unlock()
	// What an attempt that failed has left goes first: while the index takes nothing there is one table of it, and not one more for
	// each attempt, through which readers would have to go.
	err := n.applyFrozen(ctx)
	if err == nil {
		n.freeze()
		err = n.applyFrozen(ctx)
	}
	n.stateMu.Lock()
	n.applyErr = err
	n.stateMu.Unlock()
	n.tryAgain()
	if err == nil { // after an error compaction would try it again at once, and be woken by that
		n.compactor.poke() // there may be more dead bytes now
	}
	return err
}

// applyFrozen moves what is frozen, the oldest first. applyMu is held.
func (n *Namespace) applyFrozen(ctx context.Context) error {
	tables := n.view.Load().tables
	var err error
	for i := len(tables) - 1; i > 0 && err == nil; i-- {
		err = n.applyTable(ctx, tables[i])
		for again := 0; errors.Is(err, errReplaced) || errors.Is(err, index.ErrBroken) && again == 0; {
			// The next attempt opens a new one, rebuilt from the log.
			if !errors.Is(err, errReplaced) {
				again++
			}
			err = n.applyTable(ctx, tables[i])
		}
	}
	return err
}

// tryAgain wakes those who wait for room.
func (n *Namespace) tryAgain() {
	n.stateMu.Lock()
	defer n.stateMu.Unlock()
	close(n.room)
	n.room = make(chan struct{})
}

// applyBeyond brings the index beyond a sealed segment, so that it does not say of itself that it stands there when
// that goes.
func (n *Namespace) applyBeyond(ctx context.Context, id SegmentID) error {
	for {
		n.idxMu.Lock()
		at := n.base.Segment
		n.idxMu.Unlock()
		if at > id {
			return nil
		}
		if err := n.apply(ctx); err != nil {
			return err
		}
		if err := n.follow(ctx); err != nil && !errors.Is(err, errReplaced) {
			return err
		}
	}
}

// follow takes the index into the segment where the log ends, where nothing is left to apply: what lies between may be markers.
func (n *Namespace) follow(ctx context.Context) error {
	n.applyMu.Lock()
	defer n.applyMu.Unlock()
	n.commitMu.Lock()
	v, end := n.view.Load(), n.log.Head()
	n.commitMu.Unlock()
	n.idxMu.Lock()
	at := n.base.Segment
	n.idxMu.Unlock()
	if at >= end.Segment || len(v.tables) > 1 || !v.tables[0].empty() {
		return nil // or apply does it
	}
	if err := n.log.SyncPos(ctx, end.Pos); err != nil {
		return err
	}
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return err
	}
	a := x.NewApplier(false, n.policy())
	defer a.Discard()
	return errors.Join(n.flush(x, a, position(end), nil), x.Release())
}

// freeze begins a new generation, between two batches.
func (n *Namespace) freeze() {
	n.commitMu.Lock()
	defer n.commitMu.Unlock()
	n.snapMu.Lock()
	defer n.snapMu.Unlock()
	v := n.view.Load()
	g := v.tables[0]
	if g.empty() {
		return
	}
	g.end = n.log.Head()
	tables := append([]*generation{newGeneration()}, v.tables...)
	n.view.Store(&view{tables: tables, memory: v.memory})
}

// applyTable moves the oldest generation. Only its newest entry of each key, and what the policy keeps,
// reaches the index, and `applied` moves with the last transaction.
func (n *Namespace) applyTable(ctx context.Context, g *generation) error {
	if err := n.log.SyncPos(ctx, g.end.Pos); err != nil {
		return fmt.Errorf("sync before apply: %w", err)
	}
	if err := n.space.forMakingRoom(); err != nil {
		// The ballast is for the moment when the overlay can take no more, too.
		if n.overlayBytes() >= n.db.o.OverlayBytes {
			err = n.space.withBallast(err)
		}
		if err != nil {
			return err
		}
	}
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return err
	}
	crashpoint.Hit("zdb.apply.before")
	err = n.moveTable(ctx, x, g)
	if rerr := x.Release(); err == nil {
		err = rerr
	}
	if err != nil {
		return err
	}
	crashpoint.Hit("zdb.apply.after")
	return nil
}

func (n *Namespace) moveTable(ctx context.Context, x *index.Index, g *generation) error {
	policy := n.policy()
	a := x.NewApplier(false, policy)
	defer a.Discard()
	err := g.changes(&policy, func(c index.Change) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return a.Add(c)
	})
	if err != nil {
		return err
	}
	return n.flush(x, a, position(g.end), g)
}

// flush writes what is left, and with it how far the index has come: g is in it, unless nil.
func (n *Namespace) flush(x *index.Index, a *index.Applier, end index.Position, g *generation) error {
	if err := a.Flush(end); err != nil {
		return err
	}
	n.snapMu.Lock()
	defer n.snapMu.Unlock()
	n.idxMu.Lock()
	if n.idx != x {
		// Somebody found it broken meanwhile: its successor is being built up to the old base.
		n.idxMu.Unlock()
		return errReplaced
	}
	n.base = end
	n.idxMu.Unlock()
	v := n.view.Load()
	// What stood in for the index knows nothing of this table: it goes with it.
	n.view.Store(&view{tables: slices.DeleteFunc(slices.Clone(v.tables), func(o *generation) bool { return o == g })})
	return nil
}
