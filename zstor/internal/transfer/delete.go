package transfer

import (
	"context"
	"errors"
	"slices"

	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/keys"
	"qsfs/zstor/internal/record"
)

// DeleteHolding removes every shard that one node was ever offered of a generation. A node that is
// not configured any more cannot be asked; that is its owner's business.
func (m *Mover) DeleteHolding(ctx context.Context, e *record.IntentEntry, h record.Holding) error {
	p := m.o.Peer(h.Node)
	if p == nil {
		return &backend.NodeError{Node: h.Node, Op: "delete", Err: errors.New("not configured any more")}
	}
	dec, err := m.o.Codec.Open(codec.Params{
		Object: e.Object, Generation: codec.Generation(e.Generation), K: int(e.K), N: int(e.N), KeyEpoch: keys.Epoch(e.KeyEpoch), StripeSize: 1,
	})
	if err != nil {
		return err
	}
	var names [][]byte
	for s := uint32(0); ; s++ {
		n := dec.Name(int(h.Index), s)
		names = append(names, n[:])
		if s == e.MaxStripe {
			break
		}
	}
	for part := range slices.Chunk(names, 1024) {
		if err := p.Delete(ctx, part); err != nil {
			return err
		}
	}
	return nil
}
