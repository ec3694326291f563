// Package zdbnode is the backend over a zdb server: ours, or the original one.
//
// Ours shows an incarnation of the namespace and answers a SET when it is on stable storage, so
// its acknowledgements count. The original does neither: its shards stay unconfirmed until they
// were read back.
package zdbnode

import (
	"context"
	"errors"
	"fmt"

	zdb "qsfs/zdb/client"
	"qsfs/zstor/internal/backend"
)

// batch is how many small commands travel in one pipeline.
const batch = 512

// Node is a data namespace on a zdb server.
type Node struct {
	c *zdb.Client
}

var _ backend.Backend = (*Node)(nil)

// New gives a node without contacting it.
func New(o zdb.Options) (*Node, error) {
	c, err := zdb.New(o)
	if err != nil {
		return nil, err
	}
	return &Node{c: c}, nil
}

// Put implements backend.Backend.
func (n *Node) Put(ctx context.Context, name, value []byte) error {
	_, err := n.c.Set(ctx, name, value)
	return Classify(ctx, err)
}

// Get implements backend.Backend.
func (n *Node) Get(ctx context.Context, name []byte) ([]byte, error) {
	v, err := n.c.Get(ctx, name)
	return v, Classify(ctx, err)
}

// Has implements backend.Backend.
func (n *Node) Has(ctx context.Context, names [][]byte) ([]bool, error) {
	out := make([]bool, 0, len(names))
	err := n.each(ctx, "EXISTS", names, func(r zdb.Result) error {
		if r.Err != nil {
			return r.Err
		}
		out = append(out, r.Value.Int == 1)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Delete implements backend.Backend.
func (n *Node) Delete(ctx context.Context, names [][]byte) error {
	return n.each(ctx, "DEL", names, func(r zdb.Result) error {
		if errors.Is(r.Err, zdb.ErrNotFound) {
			return nil
		}
		return r.Err
	})
}

func (n *Node) each(ctx context.Context, command string, names [][]byte, f func(zdb.Result) error) error {
	for len(names) > 0 {
		part := names[:min(len(names), batch)]
		names = names[len(part):]
		cmds := make([]zdb.Command, len(part))
		for i, name := range part {
			cmds[i] = zdb.Cmd(command, name)
		}
		results, err := n.c.Pipeline(ctx, cmds...)
		if err != nil {
			return Classify(ctx, err)
		}
		for _, r := range results {
			if err := f(r); err != nil {
				return Classify(ctx, err)
			}
		}
	}
	return nil
}

// Info implements backend.Backend.
func (n *Node) Info(ctx context.Context) (backend.Info, error) {
	name := n.c.Namespace()
	if name == "" {
		name = "default"
	}
	in, err := n.c.NSInfo(ctx, name)
	if err != nil {
		return backend.Info{}, Classify(ctx, err)
	}
	out := backend.Info{
		Incarnation: in["incarnation"],
		Entries:     in.Int("entries"),
		Used:        in.Int("data_size_bytes"),
		Free:        -1,
	}
	if limit := in.Int("data_limits_bytes"); limit > 0 {
		out.Free = max(0, limit-out.Used)
	} else if _, ok := in["data_disk_freespace_bytes"]; ok {
		out.Free = in.Int("data_disk_freespace_bytes")
	}
	out.NoSync = in["sync"] == "none"
	out.Durability.Unconfirmed = out.Incarnation == "" || out.NoSync
	return out, nil
}

// Close implements backend.Backend.
func (n *Node) Close() error { return n.c.Close() }

// Classify turns an error of the zdb client into one of package backend. It keeps the text.
func Classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	for _, k := range []struct{ from, to error }{
		{zdb.ErrNotFound, backend.ErrAbsent},
		{zdb.ErrNotDurable, backend.ErrVolatile},
		{zdb.ErrDenied, backend.ErrPassword},
		{zdb.ErrNoNamespace, backend.ErrNoNamespace},
		{zdb.ErrNoSpace, backend.ErrFull},
		{zdb.ErrWriteFailed, backend.ErrFull},
	} {
		if errors.Is(err, k.from) {
			return fmt.Errorf("%w (%w)", k.to, err)
		}
	}
	var se *zdb.ServerError
	if errors.As(err, &se) {
		return fmt.Errorf("%w: %w", backend.ErrRefused, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return fmt.Errorf("%w: %w", backend.ErrDown, err)
}
