// Package metanode is a metadata node on a zdb server of ours.
//
// It needs what the original server does not have: an atomic compare-and-set, a namespace
// incarnation, and acknowledgements that are durable. Every name is kept under the configured prefix,
// so that two filesystems may share a namespace.
package metanode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	zdb "qsfs/zdb/client"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/backend/zdbnode"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/record"
)

// batch is how many commands travel in one pipeline.
const batch = 256

// Node implements quorum.Node.
type Node struct {
	c         *zdb.Client
	id, group string
	prefix    []byte
}

var _ quorum.Node = (*Node)(nil)

// New gives a node without contacting it. A server that acknowledges before it syncs is no metadata node: each call
// fails with backend.ErrVolatile, as long as it runs so.
func New(o zdb.Options, id, group, prefix string) (*Node, error) {
	o.Durable = true
	c, err := zdb.New(o)
	if err != nil {
		return nil, err
	}
	n := &Node{c: c, id: id, group: group}
	if prefix != "" {
		n.prefix = []byte(prefix + "/")
	}
	return n, nil
}

// ID implements quorum.Node.
func (n *Node) ID() string { return n.id }

// Group implements quorum.Node.
func (n *Node) Group() string { return n.group }

// Close closes the connections.
func (n *Node) Close() error { return n.c.Close() }

func (n *Node) key(name []byte) []byte { return slices.Concat(n.prefix, name) }

// stateCommands ask for the state; their results are read by state.
func (n *Node) stateCommands() []zdb.Command {
	return []zdb.Command{zdb.Cmd("INCARNATION"), zdb.Cmd("GET", n.key(record.EpochName)), zdb.Cmd("GET", n.key(record.MarkName))}
}

const stateResults = 3

func (n *Node) state(rs []zdb.Result) (quorum.State, error) {
	var st quorum.State
	if rs[0].Err != nil {
		return st, fmt.Errorf("incarnation: %w", rs[0].Err)
	}
	inc, err := zdb.IncarnationResult(rs[0].Value)
	if err != nil {
		return st, fmt.Errorf("incarnation: %w", err)
	}
	st.Incarnation = record.Incarnation(inc)
	if st.Epoch, err = optional(rs[1]); err != nil {
		return st, fmt.Errorf("epoch key: %w", err)
	}
	if st.Mark, err = optional(rs[2]); err != nil {
		return st, fmt.Errorf("complete mark: %w", err)
	}
	return st, nil
}

// optional reads a GET: nil for a key that is not there.
func optional(r zdb.Result) ([]byte, error) {
	if r.Err != nil {
		return nil, r.Err
	}
	v, err := zdb.BulkResult(r.Value)
	if errors.Is(err, zdb.ErrNotFound) {
		return nil, nil
	}
	return v, err
}

// State implements quorum.Node.
func (n *Node) State(ctx context.Context) (quorum.State, error) {
	rs, err := n.pipeline(ctx, n.stateCommands())
	if err != nil {
		return quorum.State{}, err
	}
	st, err := n.state(rs)
	return st, zdbnode.Classify(ctx, err)
}

// Put implements quorum.Node.
func (n *Node) Put(ctx context.Context, name, value []byte) (quorum.State, error) {
	return n.change(ctx, []zdb.Command{zdb.Cmd("SET", n.key(name), value)})
}

// Delete implements quorum.Node.
func (n *Node) Delete(ctx context.Context, names [][]byte) (quorum.State, error) {
	for len(names) > batch {
		if _, err := n.Delete(ctx, names[:batch]); err != nil {
			return quorum.State{}, err
		}
		names = names[batch:]
	}
	cmds := make([]zdb.Command, 0, len(names)+stateResults)
	for _, name := range names {
		cmds = append(cmds, zdb.Cmd("DEL", n.key(name)))
	}
	return n.change(ctx, cmds)
}

// change sends changes and, behind them on the same connection, asks for the state.
func (n *Node) change(ctx context.Context, cmds []zdb.Command) (quorum.State, error) {
	changes := len(cmds)
	rs, err := n.pipeline(ctx, append(cmds, n.stateCommands()...))
	if err != nil {
		return quorum.State{}, err
	}
	for _, r := range rs[:changes] {
		if r.Err != nil && !errors.Is(r.Err, zdb.ErrNotFound) {
			return quorum.State{}, zdbnode.Classify(ctx, r.Err)
		}
	}
	st, err := n.state(rs[changes:])
	return st, zdbnode.Classify(ctx, err)
}

// List implements quorum.Node.
func (n *Node) List(ctx context.Context, prefix []byte) (quorum.State, [][]byte, error) {
	st, err := n.State(ctx)
	if err != nil {
		return st, nil, err
	}
	var names [][]byte
	for key, err := range n.c.Keys(ctx, n.key(prefix)) {
		if err != nil {
			return quorum.State{}, nil, zdbnode.Classify(ctx, err)
		}
		name, ok := bytes.CutPrefix(key, n.prefix)
		if !ok {
			return quorum.State{}, nil, fmt.Errorf("%w: listed a key without the prefix", backend.ErrRefused)
		}
		names = append(names, name)
	}
	if err := n.unchanged(ctx, st); err != nil {
		return quorum.State{}, nil, err
	}
	return st, names, nil
}

func (n *Node) unchanged(ctx context.Context, st quorum.State) error {
	inc, err := n.c.Incarnation(ctx)
	if err != nil {
		return zdbnode.Classify(ctx, err)
	}
	if record.Incarnation(inc) != st.Incarnation {
		return fmt.Errorf("%w: the namespace was made anew meanwhile", backend.ErrRefused)
	}
	return nil
}

// Get implements quorum.Node.
func (n *Node) Get(ctx context.Context, names [][]byte) (quorum.State, [][]byte, error) {
	st, err := n.State(ctx)
	if err != nil {
		return st, nil, err
	}
	values := make([][]byte, 0, len(names))
	for part := range slices.Chunk(names, batch) {
		cmds := make([]zdb.Command, len(part))
		for i, name := range part {
			cmds[i] = zdb.Cmd("GET", n.key(name))
		}
		rs, err := n.pipeline(ctx, cmds)
		if err != nil {
			return quorum.State{}, nil, err
		}
		for _, r := range rs {
			v, err := optional(r)
			if err != nil {
				return quorum.State{}, nil, zdbnode.Classify(ctx, err)
			}
			values = append(values, v)
		}
	}
	if err := n.unchanged(ctx, st); err != nil {
		return quorum.State{}, nil, err
	}
	return st, values, nil
}

// CompareAndSet implements quorum.Node.
func (n *Node) CompareAndSet(ctx context.Context, name, value, expected []byte) ([]byte, error) {
	swapped, current, err := n.c.CAS(ctx, n.key(name), value, expected)
	if err != nil {
		return nil, zdbnode.Classify(ctx, err)
	}
	if swapped {
		return value, nil
	}
	return current, nil
}

func (n *Node) pipeline(ctx context.Context, cmds []zdb.Command) ([]zdb.Result, error) {
	rs, err := n.c.Pipeline(ctx, cmds...)
	return rs, zdbnode.Classify(ctx, err)
}
