package quorum

import (
	"context"
	"errors"
)

// What may be on its way to one node for operations that are over. A node that is merely slow catches up with that
// much; one that hangs costs no more, however long it does. A record has at most 300 KiB.
const (
	maxStragglers     = 256
	maxStragglerBytes = 4 << 20
)

// A sending is an op's call to one node. It becomes a straggler when the op is acknowledged without it.
type sending struct {
	op     *sendOp
	node   int
	round  int // of the node, when it began
	cancel context.CancelCauseFunc

	// Guarded by Set.mu.
	ended   bool
	lags    bool // it is a straggler
	skipped bool // the node lags too far behind: the call was given up
}

func (x *sending) size() int { return len(x.op.name) + len(x.op.value) }

// errLags is why a call was given up whose op needs it no more.
var errLags = errors.New("lags too far behind")

// A lag is what is still on its way to one node for operations that are over.
type lag struct{ count, bytes int }

// straggleLocked lets a call go on after its op was acknowledged, or gives it up when the node has its share of such
// calls already.
//
// That is safe, because the op does not need this node: W others have the record and showed the owner's id. It is
// what happens, too, when the node is away for as long as the call's timeout: the node has an older version, a reader
// that asks R nodes meets one that has the newest and writes it back, and the owner's rebuild brings all the node
// missed (it is counted as missed, which asks for a rebuild). Nothing that needs every node counts it in: Forget
// sends the tombstone to all m itself and takes their answers, and so does the deletion of what a tombstone hides.
// The message may have left already and arrive late, as one that ran into its timeout may.
func (s *Set) straggleLocked(x *sending) {
	if x.ended {
		return
	}
	l := &s.lags[x.node]
	if l.count >= s.o.stragglers || l.bytes+x.size() > maxStragglerBytes {
		x.skipped = true
		x.cancel(errLags)
		return
	}
	x.lags = true
	l.count++
	l.bytes += x.size()
}

// endSendingLocked takes the call off the books, and frees the op's context with its last call.
func (s *Set) endSendingLocked(x *sending, err error) {
	x.ended = true
	x.cancel(nil)
	if x.lags {
		l := &s.lags[x.node]
		l.count--
		l.bytes -= x.size()
	}
	givenUp := errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) && !x.skipped
	if err != nil && !givenUp {
		s.missed[x.node]++ // a rebuild brings it what it lacks
	}
	x.op.running--
	if x.op.over && x.op.running == 0 {
		x.op.cancel()
	}
}
