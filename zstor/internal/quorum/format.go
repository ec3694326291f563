package quorum

import (
	"bytes"
	"context"
	"fmt"

	"qsfs/zstor/internal/record"
)

// Format prepares empty metadata nodes: it makes this Set the owner of the first epoch and marks every node complete.
// All nodes must be up. It refuses with ErrNotEmpty when any node holds a record, or all are formatted already; a
// format that was broken off may be run again.
func (s *Set) Format(ctx context.Context) (record.Owner, error) {
	m := len(s.nodes)
	type held struct {
		st    State
		names int
	}
	ok, bad := gather(ctx, s, s.all(), m, 0, func(ctx context.Context, i int) (h held, err error) {
		err = s.call(ctx, i, func(ctx context.Context, n Node) error {
			st, names, err := n.List(ctx, record.AllPrefix())
			h = held{st, len(names)}
			return err
		})
		return h, err
	})
	if len(ok) < m {
		return record.Owner{}, quorumError("format", len(ok), m, bad)
	}
	owner := record.Owner{Epoch: 1, Time: now(), Host: s.o.Host}
	s.random(owner.ID[:])
	marked := 0
	for _, a := range ok {
		if a.v.names > 0 {
			return record.Owner{}, fmt.Errorf("%w: %s holds %d records: recover, or take over", ErrNotEmpty, s.nodes[a.i].ID(), a.v.names)
		}
		shown, err := s.shown(a.v.st)
		if err != nil {
			return record.Owner{}, fmt.Errorf("%w: %s has an epoch key of another key file", ErrNotEmpty, s.nodes[a.i].ID())
		}
		owner.Epoch = max(owner.Epoch, shown.Epoch+1)
		if shown.Epoch > 0 && s.complete(a.v.st) {
			marked++
		}
	}
	if marked == m {
		return record.Owner{}, fmt.Errorf("%w: they are formatted already", ErrNotEmpty)
	}
	value, err := s.sealer.SealOwner(owner)
	if err != nil {
		return record.Owner{}, err
	}
	// First the keys, then the marks, then a look whether somebody else did the same.
	steps := []func(ctx context.Context, i int) error{
		func(ctx context.Context, i int) error {
			return s.raise(ctx, i, owner, value, nil, false)
		},
		s.writeMark,
		func(ctx context.Context, i int) error {
			st, err := s.ask(ctx, i, owner, value, func(ctx context.Context, n Node) (State, error) { return n.State(ctx) })
			if err == nil && !bytes.Equal(st.Epoch, value) {
				err = errNotRaised
			}
			return err
		},
	}
	for _, step := range steps {
		done, bad := gather(ctx, s, s.all(), m, 0, func(ctx context.Context, i int) (struct{}, error) {
			return struct{}{}, step(ctx, i)
		})
		if len(done) < m {
			return record.Owner{}, quorumError("format", len(done), m, bad)
		}
	}
	return owner, s.adopt(Note{Owner: owner})
}
