package quorum

import (
	"context"
	"fmt"
	"time"

	"qsfs/zstor/internal/record"
)

// A sendOp is a record on its way to the nodes. Until it is over, a rebuild of a node makes it forget that node's
// acknowledgement and send again.
type sendOp struct {
	what        string
	name, value []byte
	mine        record.Owner // zero: a reader that writes back
	mineValue   []byte
	ctx         context.Context
	cancel      context.CancelFunc
	done        chan struct{}

	// Guarded by Set.mu.
	acked   []bool
	ended   []bool // the node gave its answer
	reasons []error
	sends   []*sending  // every call begun
	running int         // of them, those that have not ended
	doom    *time.Timer // runs once it cannot succeed any more
	over    bool
	err     error
}

// Put writes a new version of a record. When it returns nil, W nodes that count have it durably, and each of them
// showed this owner's id after it had it. The record reaches the other nodes in the background, but for those that
// lag too far behind: they miss it until they are rebuilt.
//
// After an error the record may still be on some nodes: a later reader may find it, or not.
func (s *Set) Put(ctx context.Context, kind record.Kind, object string, body []byte) (record.Version, error) {
	return s.put(ctx, record.Record{Kind: kind, Object: object, Body: body})
}

// Tombstone deletes a record: it becomes the newest version, and hides all before it. When it returns nil, W nodes
// have it. See Forget for its own end.
func (s *Set) Tombstone(ctx context.Context, kind record.Kind, object string, deleted record.Version) (record.Version, error) {
	t := record.Tombstone{Deleted: deleted, Writer: s.Writer(), Time: now()}
	return s.put(ctx, record.Record{Kind: kind, Object: object, Tombstone: true, Body: t.Encode()})
}

func (s *Set) put(ctx context.Context, r record.Record) (record.Version, error) {
	var err error
	if r.Version, err = s.nextVersion(); err != nil {
		return record.Version{}, err
	}
	name, value, err := s.sealer.Seal(r)
	if err != nil {
		return record.Version{}, err
	}
	mine, mineValue := s.ownerValueOf()
	if mine.Epoch != r.Version.Epoch {
		return record.Version{}, ErrNotOwner
	}
	what := fmt.Sprintf("write %v", r.Kind)
	return r.Version, s.send(ctx, what, name[:], value, mine, mineValue)
}

// send brings one name to W nodes that count.
func (s *Set) send(ctx context.Context, what string, name, value []byte, mine record.Owner, mineValue []byte) error {
	m := len(s.nodes)
	op := &sendOp{
		what: what, name: name, value: value, mine: mine, mineValue: mineValue,
		done: make(chan struct{}), acked: make([]bool, m), ended: make([]bool, m), reasons: make([]error, m),
	}
	// Stragglers outlive the caller, but not the Set; each call has its own timeout, and their number is bounded.
	op.ctx, op.cancel = context.WithCancel(s.life)

	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		op.cancel()
		return ErrClosed
	}
	s.ops[op] = struct{}{}
	for i := range s.nodes {
		s.sendToLocked(op, i)
	}
	s.mu.Unlock()

	select {
	case <-op.done:
	case <-ctx.Done():
		s.mu.Lock()
		s.endLocked(op, &QuorumError{Op: what, Have: count(op.acked), Want: s.w, Reasons: []NodeReason{{"(not waited for)", context.Cause(ctx)}}})
		s.mu.Unlock()
	}
	return op.err // written before done was closed
}

// endLocked settles the op, once.
func (s *Set) endLocked(op *sendOp, err error) {
	if op.over {
		return
	}
	op.over, op.err = true, err
	if op.doom != nil {
		op.doom.Stop()
	}
	delete(s.ops, op)
	close(op.done)
	if err != nil || op.running == 0 {
		op.cancel()
		return
	}
	for _, x := range op.sends {
		s.straggleLocked(x)
	}
}

// sendToLocked starts, or starts again, the op's call to node i.
func (s *Set) sendToLocked(op *sendOp, i int) {
	x := &sending{op: op, node: i, round: s.rounds[i]}
	var ctx context.Context
	ctx, x.cancel = context.WithCancelCause(op.ctx)
	op.sends, op.running = append(op.sends, x), op.running+1
	op.acked[i], op.ended[i], op.reasons[i] = false, false, nil
	started := s.spawnLocked(func() {
		_, err := s.ask(ctx, i, op.mine, op.mineValue, func(ctx context.Context, n Node) (State, error) {
			return s.putThenState(ctx, n, op)
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sentLocked(x, err)
	})
	if !started {
		s.sentLocked(x, ErrClosed)
	}
}

func (s *Set) putThenState(ctx context.Context, n Node, op *sendOp) (State, error) {
	if !s.keeps(ruleStateAfterPut) {
		st, err := n.State(ctx)
		if err != nil {
			return st, err
		}
		_, err = n.Put(ctx, op.name, op.value)
		return st, err
	}
	return n.Put(ctx, op.name, op.value)
}

// sentLocked takes the answer of a node.
func (s *Set) sentLocked(x *sending, err error) {
	op, i := x.op, x.node
	s.endSendingLocked(x, err)
	if op.over {
		return
	}
	if s.rounds[i] != x.round && s.keeps(ruleRebuildForgets) {
		return // the rebuild has started the call again
	}
	if _, fenced := err.(*FencedError); fenced && !s.keeps(ruleWriteShowsOwn) {
		err = nil
	}
	op.ended[i], op.acked[i], op.reasons[i] = true, err == nil, err
	want := s.w
	if !s.keeps(ruleWriteQuorum) {
		want = s.w - 1
	}
	acked, open := count(op.acked), len(op.ended)-count(op.ended)
	switch {
	case acked >= want:
		s.endLocked(op, nil)
	case acked+open >= want:
	case open == 0:
		s.failLocked(op, want)
	case op.doom == nil: // it cannot succeed; wait a little for the others, so that the error tells all
		op.doom = time.AfterFunc(s.o.Patience, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.failLocked(op, want)
		})
	}
}

// failLocked ends an op that cannot reach want any more, unless a rebuild has given it new hope.
func (s *Set) failLocked(op *sendOp, want int) {
	op.doom = nil
	acked, open := count(op.acked), len(op.ended)-count(op.ended)
	if op.over || acked+open >= want {
		return
	}
	var bad []NodeReason
	for j, err := range op.reasons {
		if err != nil {
			bad = append(bad, NodeReason{s.nodes[j].ID(), err})
		}
	}
	s.endLocked(op, quorumError(op.what, acked, want, bad))
}

// forgetNode is called when a node's rebuild starts, and again when it ends: what was counted there is forgotten,
// and what is in flight is sent and counted anew.
func (s *Set) forgetNode(i int) {
	if !s.keeps(ruleRebuildForgets) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rounds[i]++
	for op := range s.ops {
		s.sendToLocked(op, i)
	}
}

func count(bs []bool) int {
	n := 0
	for _, b := range bs {
		if b {
			n++
		}
	}
	return n
}
