package quorum

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"qsfs/zstor/internal/record"
)

// A Found is the newest version of a record, and how it was found.
type Found struct {
	record.Record
	Name     record.Name
	Sealed   []byte
	Answered int  // nodes whose answers counted
	Of       int  // metadata nodes there are
	Settled  bool // W nodes have it: no later read can find an older one
}

// Newest reads a record: the newest version that checks, over at least R answers that count, written back to W nodes.
// If fewer than W nodes are up the read succeeds all the same, with Settled false. A deleted record is ErrNotFound,
// with the tombstone in Found.
func (s *Set) Newest(ctx context.Context, kind record.Kind, object string) (Found, error) {
	mine, value := s.ownerValueOf()
	return s.newest(ctx, kind, object, mine, value)
}

func (s *Set) newest(ctx context.Context, kind record.Kind, object string, mine record.Owner, value []byte) (Found, error) {
	f, err := s.find(ctx, kind, object, mine, value)
	if f.Version.IsZero() || f.Settled || !s.keeps(ruleWriteBack) {
		f.Settled = f.Settled || !s.keeps(ruleWriteBack)
		return f, err
	}
	if back := s.send(ctx, "write back "+kind.String(), f.Name[:], f.Sealed, mine, value); errors.Is(back, ErrFenced) {
		return f, back
	} else if back == nil {
		f.Settled = true
	}
	return f, err
}

// find is Newest without the write-back.
func (s *Set) find(ctx context.Context, kind record.Kind, object string, mine record.Owner, value []byte) (Found, error) {
	need := s.r
	if !s.keeps(ruleReadQuorum) {
		need = 1
	}
	ok, bad := gather(ctx, s, s.all(), need, s.o.Patience, func(ctx context.Context, i int) (*Found, error) {
		return s.newestOn(ctx, i, kind, object, mine, value)
	})
	if len(ok) < need {
		return Found{}, quorumError(fmt.Sprintf("read %v", kind), len(ok), need, bad)
	}
	f := Found{Answered: len(ok), Of: len(s.nodes), Settled: true}
	have := 0
	for _, a := range ok {
		if a.v == nil {
			continue
		}
		if a.v.Name == f.Name {
			have++
		} else if f.Version.IsZero() || record.Newer(a.v.KeyEpoch, a.v.Version, f.KeyEpoch, f.Version) {
			f.Record, f.Name, f.Sealed = a.v.Record, a.v.Name, a.v.Sealed
			have = 1
		}
	}
	if f.Version.IsZero() {
		return f, fmt.Errorf("%w: %v %q", ErrNotFound, kind, object)
	}
	f.Settled = have >= s.w
	if f.Tombstone {
		return f, fmt.Errorf("%w: %v %q was deleted", ErrNotFound, kind, object)
	}
	return f, nil
}

// newestOn reads the newest version on one node; nil when the node has none. If that version does not check, the
// whole answer is bad.
func (s *Set) newestOn(ctx context.Context, i int, kind record.Kind, object string, mine record.Owner, value []byte) (*Found, error) {
	for _, keyEpoch := range s.sealer.KeyEpochs() { // the newest key epoch decides
		family := s.sealer.Family(keyEpoch, kind, object)
		f, err := s.newestOfFamily(ctx, i, family, mine, value)
		if f != nil || err != nil {
			return f, err
		}
	}
	return nil, nil
}

// vanished says that a listed name was gone when it was read: pruned in between, most likely.
var errVanished = errors.New("listed a record that it does not have")

func (s *Set) newestOfFamily(ctx context.Context, i int, family record.Family, mine record.Owner, value []byte) (*Found, error) {
	for tries := 0; ; tries++ {
		names, first, err := s.listOn(ctx, i, family[:], mine, value)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(names, func(a, b record.Name) int { return b.Version().Compare(a.Version()) })
		var f *Found
		for _, n := range names {
			f, err = s.fetch(ctx, i, n, first, mine, value)
			if err == nil || s.keeps(ruleBadAnswer) {
				break
			}
			err = nil
		}
		if errors.Is(err, errVanished) && tries < 2 {
			continue
		}
		return f, err
	}
}

// askRead is ask for reads: the state came first, and must show the reader's own id.
func (s *Set) askRead(ctx context.Context, i int, mine record.Owner, value []byte, fn func(context.Context, Node) (State, error)) (State, error) {
	if !s.keeps(ruleReadShowsOwn) {
		mine, value = record.Owner{}, nil
	}
	return s.ask(ctx, i, mine, value, fn)
}

// listOn lists the records with a prefix on node i, and tells the incarnation that it listed.
func (s *Set) listOn(ctx context.Context, i int, prefix []byte, mine record.Owner, value []byte) ([]record.Name, record.Incarnation, error) {
	var raw [][]byte
	st, err := s.askRead(ctx, i, mine, value, func(ctx context.Context, n Node) (st State, err error) {
		st, raw, err = n.List(ctx, prefix)
		return st, err
	})
	if err != nil {
		return nil, record.Incarnation{}, err
	}
	names := make([]record.Name, 0, len(raw))
	for _, b := range raw {
		n, err := record.ParseName(b)
		if err != nil || !bytes.HasPrefix(b, prefix) {
			return nil, record.Incarnation{}, fmt.Errorf("listed %q: %w", b, record.ErrDamaged)
		}
		names = append(names, n)
	}
	return names, st.Incarnation, nil
}

// getOn reads the values of names on node i, which must still be the incarnation that was listed.
func (s *Set) getOn(ctx context.Context, i int, names []record.Name, listed record.Incarnation, mine record.Owner, value []byte) ([][]byte, error) {
	raw := make([][]byte, len(names))
	for j := range names {
		raw[j] = names[j][:]
	}
	var values [][]byte
	st, err := s.askRead(ctx, i, mine, value, func(ctx context.Context, n Node) (st State, err error) {
		st, values, err = n.Get(ctx, raw)
		return st, err
	})
	switch {
	case err != nil:
		return nil, err
	case st.Incarnation != listed:
		return nil, errIncomplete
	case len(values) != len(names):
		return nil, fmt.Errorf("%d values for %d names: %w", len(values), len(names), record.ErrDamaged)
	}
	return values, nil
}

func (s *Set) fetch(ctx context.Context, i int, n record.Name, listed record.Incarnation, mine record.Owner, value []byte) (*Found, error) {
	values, err := s.getOn(ctx, i, []record.Name{n}, listed, mine, value)
	if err != nil {
		return nil, err
	}
	if values[0] == nil {
		return nil, errVanished
	}
	r, err := s.sealer.Open(n, values[0])
	if err != nil {
		return nil, err
	}
	return &Found{Record: r, Name: n, Sealed: values[0]}, nil
}

// version reads one exact version of a record that is known to be acknowledged: any one copy that checks will do.
func (s *Set) version(ctx context.Context, kind record.Kind, object string, v record.Version) (Found, error) {
	mine, value := s.ownerValueOf()
	type result = *Found
	ok, bad := gather(ctx, s, s.all(), 1, 0, func(ctx context.Context, i int) (result, error) {
		var last error
		for _, e := range s.sealer.KeyEpochs() {
			n := s.sealer.Family(e, kind, object).With(v)
			var values [][]byte
			st, err := s.askRead(ctx, i, mine, value, func(ctx context.Context, nd Node) (st State, err error) {
				st, values, err = nd.Get(ctx, [][]byte{n[:]})
				return st, err
			})
			_ = st
			if err != nil {
				return nil, err
			}
			if len(values) != 1 || values[0] == nil {
				last = fmt.Errorf("%w: %v %v", ErrNotFound, kind, v)
				continue
			}
			r, err := s.sealer.Open(n, values[0])
			if err != nil {
				return nil, err
			}
			return &Found{Record: r, Name: n, Sealed: values[0]}, nil
		}
		return nil, last
	})
	if len(ok) == 0 {
		return Found{}, quorumError(fmt.Sprintf("read %v %v", kind, v), 0, 1, bad)
	}
	return *ok[0].v, nil
}
