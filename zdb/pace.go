package zdb

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Writers are slowed, all of them together, while compaction cannot keep up with them: so the log never gets much longer
// than it should be, however many there are.

const (
	// Shares of the goal, in thousandths, that the log is above it. debtUrgent: compaction forgets its bound on the rate.
	// debtSlow: writers are slowed, the more the nearer debtFull is.
	debtUrgent = 20
	debtSlow   = 50
	debtFull   = 120
	// slowFirst and slowLast are the rates, in bytes per second, between which they are slowed.
	slowFirst = 256 << 20
	slowLast  = 4 << 20
	// slowMost is how long one commit waits at most while the debt is not above debtFull; beyond, where many write large values, it grows with
	// the fourth power, up to slowEver: the server holds the lock of a key meanwhile.
	slowMost = 250 * time.Millisecond
	slowEver = 2 * time.Second
	// noDebt is where nobody waits: compaction has nothing to do, or cannot do it.
	noDebt = math.MinInt32
)

// pace is how far the log is above what it should be, and who may write when.
type pace struct {
	debt  atomic.Int64 // in thousandths of the goal, as of the last look
	goal  atomic.Int64
	since atomic.Int64 // bytes that were written since then; for all that is known they killed as much

	mu   sync.Mutex
	next time.Time // when the next writer may go on
}

func (p *pace) look(debt, goal int64) {
	p.goal.Store(max(goal, 1))
	p.since.Store(0)
	p.debt.Store(debt)
}

// slot gives a writer its time to wait.
func (p *pace) slot(size int64) time.Duration {
	debt := p.debt.Load()
	since := p.since.Add(size)
	if debt == noDebt {
		return 0
	}
	if debt += since * 1000 / max(p.goal.Load(), 1); debt <= debtSlow {
		return 0
	}
	rate := max(slowLast, slowFirst*(debtFull-debt)/(debtFull-debtSlow))
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(size) * time.Second / time.Duration(rate))
	if most := now.Add(longest(debt)); p.next.After(most) {
		p.next = most
	}
	return p.next.Sub(now)
}

// longest is how long a commit waits at most.
func longest(debt int64) time.Duration {
	x := max(1, float64(debt)/debtFull)
	return time.Duration(min(float64(slowEver), float64(slowMost)*x*x*x*x))
}

// slow says whether anybody is to wait now.
func (p *pace) slow() bool {
	debt := p.debt.Load()
	return debt != noDebt && debt+p.since.Load()*1000/max(p.goal.Load(), 1) > debtSlow
}

// giveWay slows a writer while compaction cannot keep up with all of them. Deletes never wait.
func (n *Namespace) giveWay(ctx context.Context, b *Batch) error {
	if b.urgent() {
		return nil
	}
	wait := n.compactor.pace.slot(int64(b.Size()))
	if wait < time.Millisecond { // less than a timer is good for; the slots after it are later
		return nil
	}
	end := time.Now().Add(wait)
	t := time.NewTimer(min(wait, slowMost))
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-n.ctx.Done(): // Commit says so
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		if wait = time.Until(end); wait < time.Millisecond || !n.compactor.pace.slow() {
			return nil
		}
		t.Reset(min(wait, slowMost))
	}
}

// goal is how long the log should be, of which some is live: a segment is always being filled.
func (n *Namespace) goal(live int64) int64 {
	return int64(float64(live)/n.o.Compaction.LiveFraction) + n.log.SegmentSize()
}

// survey adds up the log as far as the index knows it, and what the index does not know yet. framed says whether frames count.
func (n *Namespace) survey(framed bool) (total, live, untold int64) {
	n.idxMu.Lock()
	applied := n.base.Segment
	n.idxMu.Unlock()
	for _, s := range n.Segments() {
		switch {
		case !s.Local || n.isWaiting(s.ID):
		case s.ID > applied:
			untold += s.Length
		default:
			total += s.Length
			live += s.Live + n.compactor.needed[s.ID].bytes
			if framed {
				live += n.framed(s)
			}
		}
	}
	return total, live, untold
}

// lookAtDebt takes new figures. Only who holds compactor.mu may.
func (n *Namespace) lookAtDebt() (total, goal, debt int64) {
	total, live, untold := n.survey(false)
	if goal = n.goal(live); total > goal {
		total, live, untold = n.survey(true)
		goal = n.goal(live)
	}
	debt = (total - goal) * 1000 / max(goal+untold, 1)
	if n.o.Compaction.Auto { // else the log may be as long as it likes
		c := &n.compactor
		may := c.ceiling.look(total, goal, c.freed.Load()-c.copied.Load())
		if !n.space.ample(may/8 + 2*n.log.SegmentSize()) {
			may = goal
		}
		c.pace.look((total-may)*1000/max(may+untold, 1), may)
	}
	return total, goal, debt
}

// ceiling is how long the log may be before writers are slowed. It is the goal while they write; but where the goal fell far below
// the log, because much was deleted, it comes down with what compaction frees, and the writers have the other half of
// that. So the log does not grow meanwhile, and becomes as short as it should be.
type ceiling struct {
	known bool
	may   int64
	freed int64 // the most that was freed beyond what was copied
}

func (c *ceiling) look(total, goal, freed int64) int64 {
	if !c.known {
		// A restart does not let it grow by another share.
		c.known, c.may = true, total*1000/(1000+debtFull)
	}
	if gain := freed - c.freed; gain > 0 {
		c.may -= gain / 2
		c.freed = freed
	}
	c.may = max(goal, min(c.may, total))
	return c.may
}
