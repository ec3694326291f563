package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/record"
)

// FetchError says why a stripe could not be read. It wraps ErrUnavailable or ErrDamaged.
type FetchError struct {
	Object  string
	Stripe  uint32
	Kind    error
	Good    int
	Need    int
	Reasons []string // one for each node that gave nothing useful
}

// Error gives counts and the reasons of the nodes.
func (e *FetchError) Error() string {
	return fmt.Sprintf("stripe %d of %s: %v: %d good shards of %d needed (%s)", e.Stripe, e.Object, e.Kind, e.Good, e.Need, strings.Join(e.Reasons, "; "))
}

// Unwrap gives the kind.
func (e *FetchError) Unwrap() error { return e.Kind }

// ReadStripe fetches and opens one stripe. release gives the plaintext's memory back to the budget.
func (m *Mover) ReadStripe(ctx context.Context, man *record.Manifest, stripe uint32) (plain []byte, release func(), err error) {
	p := paramsOf(man)
	dec, err := m.o.Codec.Open(p)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", man.Object, err)
	}
	release, err = m.o.Budget.Read(ctx, int64(p.StripeSize+codec.PackageMemory(p.K, p.K, p.StripeSize)))
	if err != nil {
		return nil, nil, err
	}
	plain, err = m.readStripe(ctx, dec, man, stripe)
	if err != nil {
		release()
		m.Failed.Add(1)
		return nil, nil, err
	}
	m.Stripes.Add(1)
	m.Bytes.Add(int64(len(plain)))
	return plain, release, nil
}

func (m *Mover) readStripe(ctx context.Context, dec *codec.Decoder, man *record.Manifest, stripe uint32) ([]byte, error) {
	c := m.newCollector(dec, man, stripe, nil)
	for {
		shards, err := c.collect(ctx, int(man.K))
		if err != nil {
			return nil, err
		}
		plain, err := m.decode(ctx, dec, stripe, shards)
		var short *codec.NotEnoughError
		if errors.As(err, &short) && c.more() {
			// Shards of several attempts are among them: go on until one attempt has k.
			c.want++
			continue
		}
		if err != nil && ctx.Err() == nil {
			return nil, &FetchError{Object: man.Object, Stripe: stripe, Kind: ErrDamaged, Good: len(shards), Need: int(man.K), Reasons: append(c.reasons, err.Error())}
		}
		return plain, err
	}
}

func (m *Mover) decode(ctx context.Context, dec *codec.Decoder, stripe uint32, shards []*codec.Shard) ([]byte, error) {
	select {
	case m.cpus <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-m.cpus }()
	return dec.DecodeStripe(stripe, shards)
}

// collector gathers good shards of one stripe from the nodes, best first.
type collector struct {
	m       *Mover
	dec     *codec.Decoder
	man     *record.Manifest
	stripe  uint32
	queue   []candidate // not asked yet
	good    []*codec.Shard
	want    int // more than k after mixed attempts
	away    int // nodes that gave no answer
	bad     map[int]error
	reasons []string
}

type candidate struct {
	index int
	node  string
	score time.Duration
}

// newCollector orders the holders of a stripe; those in skip are left out.
func (m *Mover) newCollector(dec *codec.Decoder, man *record.Manifest, stripe uint32, skip []int) *collector {
	c := &collector{m: m, dec: dec, man: man, stripe: stripe, bad: map[int]error{}}
	for _, h := range slices.Backward(man.Nodes) {
		if slices.Contains(skip, int(h.Index)) {
			continue
		}
		cand := candidate{index: int(h.Index), node: h.Node, score: 2 * time.Hour}
		if p := m.o.Peer(h.Node); p != nil {
			cand.score = p.Score()
		}
		switch h.State {
		case record.Offered: // it may lack this very stripe
			cand.score += 10 * time.Minute
		case record.GivenUp: // it may still have it
			cand.score += 20 * time.Minute
		}
		c.queue = append(c.queue, cand)
	}
	slices.SortStableFunc(c.queue, func(a, b candidate) int { return cmp.Compare(a.score, b.score) })
	return c
}

func (c *collector) more() bool { return len(c.queue) > 0 }

type fetched struct {
	candidate
	shard *codec.Shard
	err   error
}

// hedgeAfter is how long the slowest of the first answers may take before one node more is asked:
// twice what the worst of those asked usually takes, within bounds.
func (c *collector) hedgeAfter(asked []candidate) time.Duration {
	worst := time.Duration(0)
	for _, a := range asked {
		if a.score < time.Minute {
			worst = max(worst, a.score)
		}
	}
	return min(max(2*worst, 20*time.Millisecond), 2*time.Second)
}

// collect asks nodes until k good shards (or more, after mixed attempts) are there.
func (c *collector) collect(ctx context.Context, k int) ([]*codec.Shard, error) {
	c.want = max(c.want, k)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // what is still asked is not needed any more
	results := make(chan fetched, len(c.queue))
	pending := 0
	ask := func() bool {
		if len(c.queue) == 0 {
			return false
		}
		cand := c.queue[0]
		c.queue = c.queue[1:]
		pending++
		go func() {
			s, err := c.fetch(ctx, cand)
			results <- fetched{cand, s, err}
		}()
		return true
	}
	first := slices.Clone(c.queue[:min(len(c.queue), max(0, c.want-len(c.good)))])
	for len(c.good)+pending < c.want && ask() {
	}
	var hedge *time.Timer
	var late <-chan time.Time
	if c.m.o.Hedge {
		hedge = time.NewTimer(c.hedgeAfter(first))
		defer hedge.Stop()
		late = hedge.C
	}
	for len(c.good) < c.want {
		if pending == 0 && !ask() {
			return nil, c.failure(k)
		}
		select {
		case r := <-results:
			pending--
			if r.err == nil {
				c.good = append(c.good, r.shard)
				continue
			}
			c.note(r)
			ask()
		case <-late:
			if ask() {
				c.m.Hedged.Add(1)
				hedge.Reset(c.hedgeAfter(first))
			} else {
				late = nil
			}
		case <-ctx.Done():
			c.reasons = append(c.reasons, fmt.Sprintf("%d nodes still asked when the time was up", pending))
			c.away += pending
			return nil, c.failure(k)
		}
	}
	return c.good, nil
}

func (c *collector) note(r fetched) {
	c.reasons = append(c.reasons, fmt.Sprintf("%s: %v", r.node, errors.Unwrap(r.err)))
	switch {
	case errors.Is(r.err, codec.ErrShard):
		c.m.Damaged.Add(1)
		c.m.o.Log.Warn("node gave a damaged shard", "node", r.node, "object", c.man.Object, "stripe", c.stripe, "index", r.index)
		if p := c.m.o.Peer(r.node); p != nil {
			p.Distrust()
		}
		c.bad[r.index] = r.err
	case errors.Is(r.err, backend.ErrAbsent):
		c.bad[r.index] = r.err
	default:
		c.away++
	}
}

// failure tells unavailable (more answers could have been enough) from damaged.
func (c *collector) failure(k int) error {
	kind := ErrDamaged
	if len(c.good)+c.away >= k {
		kind = ErrUnavailable
	}
	return &FetchError{Object: c.man.Object, Stripe: c.stripe, Kind: kind, Good: len(c.good), Need: k, Reasons: c.reasons}
}

func (c *collector) fetch(ctx context.Context, cand candidate) (*codec.Shard, error) {
	p := c.m.o.Peer(cand.node)
	if p == nil {
		return nil, &backend.NodeError{Node: cand.node, Op: "get", Err: errors.New("not configured any more")}
	}
	name := c.dec.Name(cand.index, c.stripe)
	raw, err := p.Get(ctx, name[:])
	if err != nil {
		return nil, err
	}
	c.m.Shards.Add(1)
	s, err := c.dec.OpenShard(cand.index, c.stripe, raw)
	if err != nil {
		return nil, &backend.NodeError{Node: cand.node, Op: "get", Err: err}
	}
	return s, nil
}
