package zstor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// sentBytes reports the progress of parallel work.
type sentBytes struct {
	total    int64
	progress func(client.Progress)

	mu   sync.Mutex
	done int64
}

func (b *sentBytes) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += n
	b.progress(client.Progress{Phase: "transfer", Bytes: b.done, BytesTotal: b.total})
}

// shardCensus counts what became of the shards of an object.
type shardCensus struct {
	mu    sync.Mutex
	state map[transfer.ShardState]int
	bad   map[uint32][]int // stripe → indices that are absent or damaged
	away  map[uint32]int   // stripe → indices whose node gave no answer
}

// CheckFile looks at every shard of a stored file: whether its node claims to have it, or, deep,
// whether what the node gives is really it. The error wraps client.ErrDegraded when some shard is
// missing, client.ErrDamaged when a stripe has fewer than k.
func (s *Store) CheckFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error {
	m, c, err := s.census(ctx, r, progress)
	if err != nil {
		return err
	}
	return c.verdict(m)
}

func (c *shardCensus) verdict(m *record.Manifest) error {
	text := fmt.Sprintf("%d shards good, %d absent, %d damaged, %d on nodes that do not answer",
		c.state[transfer.ShardGood], c.state[transfer.ShardAbsent], c.state[transfer.ShardDamaged], c.state[transfer.ShardUnknown])
	degraded := false
	for stripe := range m.DataStripes + m.IndexStripes {
		lost := len(c.bad[stripe])
		if int(m.N)-lost < int(m.K) {
			return fmt.Errorf("%w: stripe %d has %d of the %d shards that it needs: %s", client.ErrDamaged, stripe, int(m.N)-lost, m.K, text)
		}
		degraded = degraded || lost > 0 || c.away[stripe] > 0
	}
	if degraded {
		return fmt.Errorf("%w: %s", client.ErrDegraded, text)
	}
	return nil
}

func (s *Store) census(ctx context.Context, r client.FileRequest, progress func(client.Progress)) (*record.Manifest, *shardCensus, error) {
	name, err := s.fileName(r)
	if err != nil {
		return nil, nil, err
	}
	m, err := s.fileManifest(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	c := &shardCensus{state: map[transfer.ShardState]int{}, bad: map[uint32][]int{}, away: map[uint32]int{}}
	stripes := int64(m.DataStripes + m.IndexStripes)
	total := stripes * int64(m.N)
	grp, gctx := errgroup.WithContext(ctx)
	grp.SetLimit(stripesAtOnce)
	for index := range int(m.N) {
		if !r.Deep {
			grp.Go(func() error { c.claims(gctx, s, m, index); progress(c.line(total)); return nil })
			continue
		}
		for stripe := range m.DataStripes + m.IndexStripes {
			grp.Go(func() error {
				state, _ := s.mover.Verify(gctx, m, index, stripe) // the state says whether it failed
				c.note(index, stripe, state)
				progress(c.line(total))
				return gctx.Err()
			})
		}
	}
	return m, c, grp.Wait()
}

func (c *shardCensus) claims(ctx context.Context, s *Store, m *record.Manifest, index int) {
	stripes := make([]uint32, m.DataStripes+m.IndexStripes)
	for i := range stripes {
		stripes[i] = uint32(i)
	}
	absent, err := s.mover.Claimed(ctx, m, index, stripes)
	lacks := map[uint32]bool{}
	for _, stripe := range absent {
		lacks[stripe] = true
	}
	for _, stripe := range stripes {
		switch {
		case err != nil:
			c.note(index, stripe, transfer.ShardUnknown)
		case lacks[stripe]:
			c.note(index, stripe, transfer.ShardAbsent)
		default:
			c.note(index, stripe, transfer.ShardGood)
		}
	}
}

func (c *shardCensus) note(index int, stripe uint32, state transfer.ShardState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state[state]++
	switch state {
	case transfer.ShardAbsent, transfer.ShardDamaged:
		c.bad[stripe] = append(c.bad[stripe], index)
	case transfer.ShardUnknown:
		c.away[stripe]++
	}
}

func (c *shardCensus) line(total int64) client.Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, v := range c.state {
		n += v
	}
	return client.Progress{Phase: "check", Items: int64(n), ItemsTotal: total}
}

// RebuildFile reads every shard of a stored file and makes those again, byte for byte, that are
// missing or damaged.
func (s *Store) RebuildFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error {
	if err := s.wantOwner(); err != nil {
		return err
	}
	name, err := s.fileName(r)
	if err != nil {
		return err
	}
	unlock, err := s.names.lock(ctx, fileObject(name)) // or the manifest that is written at the end could take the place of a newer one
	if err != nil {
		return err
	}
	defer unlock()
	r.Deep = true
	m, c, err := s.census(ctx, r, progress)
	if err != nil {
		return err
	}
	done := int64(0)
	var errs []error
	for stripe, bad := range c.bad {
		stored, err := s.mover.RebuildStripe(ctx, m, stripe, bad)
		errs = append(errs, err)
		done += int64(len(stored))
		progress(client.Progress{Phase: "rebuild", Items: done, ItemsTotal: int64(c.state[transfer.ShardAbsent] + c.state[transfer.ShardDamaged])})
	}
	if err := errors.Join(errs...); err != nil {
		return wireError(err)
	}
	if c.state[transfer.ShardUnknown] > 0 {
		return fmt.Errorf("%w: %d shards are on nodes that do not answer", client.ErrDegraded, c.state[transfer.ShardUnknown])
	}
	return s.noteRebuilt(ctx, m)
}

// noteRebuilt puts on record that every index of a file is stored.
func (s *Store) noteRebuilt(ctx context.Context, m *record.Manifest) error {
	if full(m) && confirmed(m) {
		return nil
	}
	next := *m
	next.Nodes = append([]record.Holding(nil), m.Nodes...)
	for i := range next.Nodes {
		if next.Nodes[i].State != record.GivenUp {
			next.Nodes[i].State = record.Confirmed // each shard was read back just now, or made again
		}
	}
	s.chores.superseded(next.Object)
	return s.putFileManifest(ctx, &next)
}
