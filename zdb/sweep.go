package zdb

import (
	"context"
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
)

// sweeper remembers the last sweep. compactor.mu guards it.
type sweeper struct {
	at   time.Time
	left int64
}

// dueToSweep says whether something may be kept that is not wanted any more. compactor.mu is held.
func (n *Namespace) dueToSweep() bool {
	if age := n.Retention().KeepFor; age > 0 {
		n.age(age)
		n.saveAges(false)
	}
	n.idxMu.Lock()
	x := n.idx
	n.idxMu.Unlock()
	if x == nil {
		return false // the next one who opens it
	}
	versions := x.Versions()
	if versions == 0 {
		return false
	}
	n.keep.mu.Lock()
	defer n.keep.mu.Unlock()
	age := n.keep.keep.KeepFor
	return n.keep.sweep || versions >= 2*n.sweep.left+sweepAdded ||
		age > 0 && time.Since(n.sweep.at) >= max(sweepEvery, age/sweepShare)
}

// runSweep goes through all superseded versions and drops from the index what retention does not want any more, in small
// steps. Compaction then frees their space. compactor.mu is held.
func (n *Namespace) runSweep(ctx context.Context) error {
	n.keep.mu.Lock()
	n.keep.sweep = false
	n.keep.mu.Unlock()
	total := 0
	for from := (*index.Place)(nil); ; {
		next, left, err := n.sweepStep(ctx, from)
		if err != nil {
			n.keep.mu.Lock()
			n.keep.sweep = true
			n.keep.mu.Unlock()
			return err
		}
		total += left
		if from = next; from == nil {
			break
		}
	}
	n.sweep = sweeper{at: time.Now(), left: int64(total)}
	return nil
}

func (n *Namespace) sweepStep(ctx context.Context, from *index.Place) (next *index.Place, left int, err error) {
	n.applyMu.Lock()
	defer n.applyMu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if err := n.space.forIndex(); err != nil {
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
