package quorum

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"qsfs/zstor/internal/record"
)

// call runs one call to node i within the bound of calls in flight. The wait for its turn is part of its time.
func (s *Set) call(ctx context.Context, i int, fn func(context.Context, Node) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.CallTimeout)
	defer cancel()
	select {
	case s.sems[i] <- struct{}{}:
	default:
		select {
		case s.sems[i] <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-s.sems[i] }()
	return fn(ctx, s.nodes[i])
}

// ask runs a call that ends with, or begins with, the node's state, and judges that state for the owner given. A
// node that was away during the claim is raised and asked again. The error is nil only for an answer that counts.
func (s *Set) ask(ctx context.Context, i int, mine record.Owner, value []byte, fn func(context.Context, Node) (State, error)) (State, error) {
	for tries := 0; ; tries++ {
		var st State
		err := s.call(ctx, i, func(ctx context.Context, n Node) (err error) {
			st, err = fn(ctx, n)
			return err
		})
		if err != nil {
			return st, err
		}
		v, shown := s.judge(st, mine, value)
		if v == counts {
			return st, nil
		}
		if v != behind || tries >= 2 {
			return st, s.reason(v, mine, shown, s.nodes[i].ID())
		}
		if err := s.raise(ctx, i, mine, value, st.Epoch, false); err != nil {
			return st, err
		}
	}
}

// raise lifts the epoch key of node i to value, from what it was last seen to show. It never lowers it. Unless force
// is set, an epoch key that cannot be read is left alone.
func (s *Set) raise(ctx context.Context, i int, mine record.Owner, value, seen []byte, force bool) error {
	for range 8 {
		shown, err := s.shown(State{Epoch: seen})
		if err != nil && !force {
			return errBadEpochKey
		}
		if err == nil && shown.Same(mine) {
			return nil
		}
		if err == nil && shown.Epoch >= mine.Epoch && !(shown.Epoch == mine.Epoch && !s.keeps(ruleTryHigher)) {
			return &FencedError{Mine: mine, By: shown, Node: s.nodes[i].ID()}
		}
		var current []byte
		err = s.call(ctx, i, func(ctx context.Context, n Node) (err error) {
			if !s.keeps(ruleOnlyRises) {
				current = value
				_, err = n.Put(ctx, record.EpochName, value)
				return err
			}
			current, err = n.CompareAndSet(ctx, record.EpochName, value, seen)
			return err
		})
		if err != nil {
			return err
		}
		if bytes.Equal(current, value) {
			return nil
		}
		seen = current
	}
	return errNotRaised
}

// An answer is what one node gave.
type answer[T any] struct {
	i   int
	v   T
	err error // nil: it counts
}

// gather asks all nodes at once. It returns when all have answered, or when need of them counted and patience has
// passed since; the calls still running are cancelled then. ok holds the answers that count, bad the others; nodes
// that were not waited for are in neither.
func gather[T any](ctx context.Context, s *Set, nodes []int, need int, patience time.Duration, fn func(ctx context.Context, i int) (T, error)) (ok []answer[T], bad []NodeReason) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(s.life, cancel)
	defer stop()

	results := make(chan answer[T], len(nodes))
	for _, i := range nodes {
		if !s.spawn(func() {
			v, err := fn(ctx, i)
			results <- answer[T]{i, v, err}
		}) {
			results <- answer[T]{i: i, err: ErrClosed}
		}
	}
	var enough <-chan time.Time
	var answers []answer[T]
	good := 0
	waiting := true
	for waiting && len(answers) < len(nodes) {
		select {
		case a := <-results:
			answers = append(answers, a)
			if a.err == nil {
				good++
			}
		case <-enough:
			waiting = false
		case <-ctx.Done():
			waiting = false
			bad = append(bad, NodeReason{"(not waited for)", context.Cause(ctx)})
		}
		if good >= need && enough == nil {
			t := time.NewTimer(patience)
			defer t.Stop()
			enough = t.C
		}
	}
	// In the order of the nodes, not of their answers.
	slices.SortFunc(answers, func(a, b answer[T]) int { return cmp.Compare(a.i, b.i) })
	for _, a := range answers {
		if a.err != nil {
			bad = append(bad, NodeReason{s.nodes[a.i].ID(), a.err})
		} else {
			ok = append(ok, a)
		}
	}
	return ok, bad
}

// spawn runs fn in a goroutine that Close waits for; false after Close.
func (s *Set) spawn(fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spawnLocked(fn)
}

func (s *Set) spawnLocked(fn func()) bool {
	if s.closed {
		return false
	}
	s.wg.Go(fn)
	return true
}

func (s *Set) all() []int {
	all := make([]int, len(s.nodes))
	for i := range all {
		all[i] = i
	}
	return all
}

func (s *Set) allBut(i int) []int {
	all := s.all()
	return append(all[:i], all[i+1:]...)
}

// quorumError makes the error for an operation that found too few. When another owner was seen, that is the error.
func quorumError(op string, have, want int, bad []NodeReason) error {
	for _, b := range bad {
		if f, ok := b.Err.(*FencedError); ok {
			return f
		}
	}
	return &QuorumError{Op: op, Have: have, Want: want, Reasons: bad}
}
