package quorum

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"qsfs/zstor/internal/record"
)

// simNode is a metadata node of the simulation. Only the scheduler touches it, while everybody else waits.
type simNode struct {
	id, group string
	data      map[string][]byte
	inc       record.Incarnation
	down      bool
}

func (n *simNode) state() State {
	return State{
		Epoch:       bytes.Clone(n.data[string(record.EpochName)]),
		Mark:        bytes.Clone(n.data[string(record.MarkName)]),
		Incarnation: n.inc,
	}
}

func (n *simNode) names(prefix []byte) [][]byte {
	var out [][]byte
	for name := range n.data {
		if strings.HasPrefix(name, string(prefix)) {
			out = append(out, []byte(name))
		}
	}
	slices.SortFunc(out, bytes.Compare)
	return out
}

// simReply is the answer to any call.
type simReply struct {
	st      State
	list    [][]byte
	current []byte
	err     error
}

var (
	errLost = errors.New("simulated: connection lost")
	errDead = errors.New("simulated: process is dead")
)

// A simMessage is one call on its way. It runs in one or two halves, between which other things may happen: a change
// and then the state, or the state and then a read.
type simMessage struct {
	from  *simProcess
	node  int
	kind  string
	what  string
	until int // held back until this step
	born  time.Time
	first func(*simNode, *simReply)
	then  func(*simNode, *simReply) // nil: one half
	half  bool                      // first has run
	ran   bool                      // all of it has run, the reply is on its way
	reply simReply
	ch    chan simReply
}

// simPatience is how long a caller waits, a little less than CallTimeout.
const simPatience = 2900 * time.Millisecond

// simClient is the Node that a process sees.
type simClient struct {
	p *simProcess
	i int
}

func (c *simClient) ID() string    { return c.p.w.nodes[c.i].id }
func (c *simClient) Group() string { return c.p.w.nodes[c.i].group }

func (c *simClient) do(ctx context.Context, what string, first, then func(*simNode, *simReply)) (simReply, error) {
	w := c.p.w
	kind, _, _ := strings.Cut(what, " ")
	m := &simMessage{from: c.p, node: c.i, kind: kind, what: what, born: time.Now(), first: first, then: then, ch: make(chan simReply, 1)}
	if w.immediate {
		w.mu.Lock()
		defer w.mu.Unlock()
		n := w.nodes[c.i]
		if n.down {
			return simReply{}, errLost
		}
		m.run(n)
		again := *m
		w.late = append(w.late, &again)
		return m.reply, m.reply.err
	}
	if !w.enqueue(m) {
		return simReply{}, errDead
	}
	// Calls that began together do not end together, or chance would choose which end is seen first.
	h := fnv.New32a()
	fmt.Fprint(h, c.p.id, c.i, what)
	patience := time.NewTimer(simPatience + time.Duration(h.Sum32()%1e6))
	defer patience.Stop()
	select {
	case r := <-m.ch:
		return r, r.err
	case <-patience.C:
		return simReply{}, errLost
	case <-ctx.Done(): // the message stays on its way
		if context.Cause(ctx) == errLags {
			w.mu.Lock()
			w.seen.Skipped++
			w.mu.Unlock()
		}
		return simReply{}, ctx.Err()
	}
}

func (m *simMessage) run(n *simNode) {
	m.runFirst(n)
	m.runThen(n)
}

func (m *simMessage) runFirst(n *simNode) {
	m.reply = simReply{}
	m.first(n, &m.reply)
	m.half = true
}

func (m *simMessage) runThen(n *simNode) {
	if m.then != nil {
		m.then(n, &m.reply)
	}
	m.ran = true
}

func (c *simClient) State(ctx context.Context) (State, error) {
	r, err := c.do(ctx, "state", func(n *simNode, r *simReply) { r.st = n.state() }, nil)
	return r.st, err
}

func (c *simClient) Put(ctx context.Context, name, value []byte) (State, error) {
	w := c.p.w
	r, err := c.do(ctx, fmt.Sprintf("put %x", name), func(n *simNode, _ *simReply) {
		w.check.put(name, value)
		n.data[string(name)] = bytes.Clone(value)
	}, func(n *simNode, r *simReply) { r.st = n.state() })
	return r.st, err
}

func (c *simClient) Delete(ctx context.Context, names [][]byte) (State, error) {
	r, err := c.do(ctx, fmt.Sprintf("delete %x", names), func(n *simNode, _ *simReply) {
		for _, name := range names {
			delete(n.data, string(name))
		}
	}, func(n *simNode, r *simReply) { r.st = n.state() })
	return r.st, err
}

func (c *simClient) List(ctx context.Context, prefix []byte) (State, [][]byte, error) {
	r, err := c.do(ctx, fmt.Sprintf("list %x", prefix), func(n *simNode, r *simReply) { r.st = n.state() },
		func(n *simNode, r *simReply) {
			r.list = n.names(prefix)
			if n.inc != r.st.Incarnation {
				r.err = errIncomplete
			}
		})
	return r.st, r.list, err
}

func (c *simClient) Get(ctx context.Context, names [][]byte) (State, [][]byte, error) {
	r, err := c.do(ctx, fmt.Sprintf("get %x", names), func(n *simNode, r *simReply) { r.st = n.state() },
		func(n *simNode, r *simReply) {
			for _, name := range names {
				r.list = append(r.list, bytes.Clone(n.data[string(name)]))
			}
			if n.inc != r.st.Incarnation {
				r.err = errIncomplete
			}
		})
	return r.st, r.list, err
}

func (c *simClient) CompareAndSet(ctx context.Context, name, value, expected []byte) ([]byte, error) {
	r, err := c.do(ctx, fmt.Sprintf("cas %x", name), func(n *simNode, r *simReply) {
		if bytes.Equal(n.data[string(name)], expected) {
			n.data[string(name)] = bytes.Clone(value)
		}
		r.current = bytes.Clone(n.data[string(name)])
	}, nil)
	return r.current, err
}
