package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/record"
)

// RebuildStripe makes shards of a stripe again from k others and stores them on the nodes that hold
// their indices: same node, same generation, same bytes. It needs no data key. It returns the
// indices that are stored now.
func (m *Mover) RebuildStripe(ctx context.Context, man *record.Manifest, stripe uint32, want []int) ([]int, error) {
	p := paramsOf(man)
	dec, err := m.o.Codec.Open(p)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", man.Object, err)
	}
	release, err := m.o.Budget.Write(ctx, int64(codec.PackageMemory(p.K, p.K+len(want), p.StripeSize)))
	if err != nil {
		return nil, err
	}
	defer release()
	c := m.newCollector(dec, man, stripe, want)
	var shards [][]byte
	for {
		good, err := c.collect(ctx, p.K)
		if err != nil {
			return nil, err
		}
		shards, err = dec.RebuildShards(stripe, good, want)
		var short *codec.NotEnoughError
		if errors.As(err, &short) && c.more() {
			c.want++
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("rebuild stripe %d of %s: %w", stripe, man.Object, err)
		}
		break
	}
	holder := holders(man)
	var stored []int
	var errs []error
	for j, i := range want {
		peer := m.o.Peer(holder[i])
		if peer == nil {
			errs = append(errs, &backend.NodeError{Node: holder[i], Op: "put", Err: errors.New("not configured any more")})
			continue
		}
		name := dec.Name(i, stripe)
		if err := peer.Put(ctx, name[:], shards[j]); err != nil {
			errs = append(errs, err)
			continue
		}
		stored = append(stored, i)
	}
	return stored, errors.Join(errs...)
}

// ShardState is what was found out about one shard.
type ShardState int

// The states of a shard.
const (
	ShardGood ShardState = iota
	ShardAbsent
	ShardDamaged
	ShardUnknown // its node gave no answer
)

// String names the state.
func (s ShardState) String() string {
	return [...]string{"good", "absent", "damaged", "unknown"}[s]
}

// Verify reads one shard from its node and checks it; it is what confirms an unconfirmed shard.
func (m *Mover) Verify(ctx context.Context, man *record.Manifest, index int, stripe uint32) (ShardState, error) {
	dec, err := m.o.Codec.Open(paramsOf(man))
	if err != nil {
		return ShardUnknown, fmt.Errorf("open %s: %w", man.Object, err)
	}
	release, err := m.o.Budget.Read(ctx, int64(codec.ShardSize(int(man.K), int(man.StripeSize))))
	if err != nil {
		return ShardUnknown, err
	}
	defer release()
	c := &collector{m: m, dec: dec, man: man, stripe: stripe}
	_, err = c.fetch(ctx, candidate{index: index, node: holders(man)[index]})
	switch {
	case err == nil:
		return ShardGood, nil
	case errors.Is(err, backend.ErrAbsent):
		return ShardAbsent, nil
	case errors.Is(err, codec.ErrShard):
		m.Damaged.Add(1)
		return ShardDamaged, nil
	}
	return ShardUnknown, err
}

// Claimed asks the node of an index which stripes it claims to hold, and lists those it does not.
func (m *Mover) Claimed(ctx context.Context, man *record.Manifest, index int, stripes []uint32) (absent []uint32, err error) {
	dec, err := m.o.Codec.Open(paramsOf(man))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", man.Object, err)
	}
	node := holders(man)[index]
	p := m.o.Peer(node)
	if p == nil {
		return nil, &backend.NodeError{Node: node, Op: "has", Err: errors.New("not configured any more")}
	}
	for part := range slices.Chunk(stripes, 1024) {
		names := make([][]byte, len(part))
		for i, s := range part {
			n := dec.Name(index, s)
			names[i] = n[:]
		}
		has, err := p.Has(ctx, names)
		if err != nil {
			return nil, err
		}
		for i, h := range has {
			if !h {
				absent = append(absent, part[i])
			}
		}
	}
	return absent, nil
}
