package transfer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"qsfs/zdb/crashpoint"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/keys"
	"qsfs/zstor/internal/record"
)

// Spec is what is decided about a generation before it begins.
type Spec struct {
	Object      string
	K, N        int
	Nodes       []string // by index, all different
	KeyEpoch    uint32
	StripeSize  int
	Compression uint8
	Writer      record.Writer
	Fallback    bool
}

// Generation is one encoding attempt of one object. Its methods may be called concurrently; each
// stripe is written once.
type Generation struct {
	m     *Mover
	spec  Spec
	floor int
	enc   *codec.Encoder
	begun time.Time

	// mu guards what follows.
	mu      sync.Mutex
	macs    map[uint32][]codec.MAC
	missing []map[uint32]struct{} // by index: stripes that its node did not acknowledge
	offered []bool                // by index: its node was sent something
	lives   []int64               // by index: the life of its node when it was first sent something
	written uint32                // stripes that reached the floor
	sending int                   // stripes on their way
	err     error                 // the generation has ended
}

// Begin draws a new generation. Nothing is sent yet: the caller puts the intent on record first.
func (m *Mover) Begin(s Spec) (*Generation, error) {
	if len(s.Nodes) != s.N {
		return nil, fmt.Errorf("begin %s: %d nodes for %d shards", s.Object, len(s.Nodes), s.N)
	}
	enc, err := m.o.Codec.Begin(codec.Params{
		Object: s.Object, K: s.K, N: s.N, KeyEpoch: keys.Epoch(s.KeyEpoch),
		Writer:     codec.Writer{Epoch: s.Writer.Epoch, Counter: s.Writer.Counter},
		StripeSize: s.StripeSize, Compression: codec.Compression(s.Compression),
	})
	if err != nil {
		return nil, fmt.Errorf("begin %s: %w", s.Object, err)
	}
	g := &Generation{m: m, spec: s, floor: s.K + 1, enc: enc, begun: time.Now().UTC(), macs: map[uint32][]codec.MAC{}, missing: make([]map[uint32]struct{}, s.N), offered: make([]bool, s.N), lives: make([]int64, s.N)}
	for i := range g.missing {
		g.missing[i] = map[uint32]struct{}{}
	}
	return g, nil
}

// SetFloor raises the floor above k+1.
func (g *Generation) SetFloor(floor int) { g.floor = min(max(floor, g.spec.K+1), g.spec.N) }

// ID is the generation.
func (g *Generation) ID() record.Generation { return record.Generation(g.enc.Params().Generation) }

// Spec is what the generation was begun with.
func (g *Generation) Spec() Spec { return g.spec }

// Err says why the generation has ended; nil while it goes on.
func (g *Generation) Err() error { g.mu.Lock(); defer g.mu.Unlock(); return g.err }

// Memory is what one stripe takes from the budget while it is in flight.
func (g *Generation) Memory() int64 {
	return int64(g.spec.StripeSize + codec.PackageMemory(g.spec.K, g.spec.N, g.spec.StripeSize))
}

// Source reads the plaintext of a stripe into p, whole.
type Source func(p []byte) error

// WriteStripe reads, encodes and sends one stripe of n bytes. When it returns nil, at least the
// floor of its shards was acknowledged and every other one was given up. Any error ends the
// generation.
func (g *Generation) WriteStripe(ctx context.Context, stripe uint32, end codec.End, n int, read Source) error {
	if err := g.beginStripe(); err != nil {
		return err
	}
	err := g.writeStripe(ctx, stripe, end, n, read)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sending--
	if err != nil {
		err = fmt.Errorf("stripe %d of %s: %w", stripe, g.spec.Object, err)
		if g.err == nil {
			g.err = err
		}
	}
	return err
}

func (g *Generation) beginStripe() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.sending++
	}
	return g.err
}

// End ends the generation: no stripe of it is begun any more. What is on its way goes on.
func (g *Generation) End(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = why
	}
}

// Sending reports whether stripes are on their way: what is deleted meanwhile could arrive after.
func (g *Generation) Sending() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.sending > 0 }

func (g *Generation) writeStripe(ctx context.Context, stripe uint32, end codec.End, n int, read Source) error {
	release, err := g.m.o.Budget.Write(ctx, int64(n+codec.PackageMemory(g.spec.K, g.spec.N, n)))
	if err != nil {
		return err
	}
	defer release()
	pkg, err := g.encode(ctx, stripe, end, n, read)
	if err != nil {
		return err
	}
	acked, sendErr := g.send(ctx, pkg)
	defer pkg.Release()

	g.mu.Lock()
	defer g.mu.Unlock()
	g.macs[stripe] = pkg.MACs
	have := 0
	for i, ok := range acked {
		if ok {
			have++
		} else {
			g.missing[i][stripe] = struct{}{}
		}
	}
	if have < g.floor {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%w: %d of at least %d: %w", ErrBelowFloor, have, g.floor, sendErr)
	}
	g.written++
	g.m.Written.Add(int64(n))
	return nil
}

func (g *Generation) encode(ctx context.Context, stripe uint32, end codec.End, n int, read Source) (*codec.Package, error) {
	buf := plainBuffer(n)
	defer putPlain(buf)
	if err := read(*buf); err != nil {
		return nil, fmt.Errorf("read plaintext: %w", err)
	}
	select {
	case g.m.cpus <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-g.m.cpus }()
	pkg, err := g.enc.EncodeStripe(stripe, end, *buf)
	if err != nil {
		return nil, err
	}
	// Opened once from its payloads, as a reader would who lost the first nodes: what does not decode
	// must never become the only copy.
	if err := g.enc.Verify(pkg, *buf); err != nil {
		pkg.Release()
		return nil, err
	}
	return pkg, nil
}

// send offers every shard to its node and waits until each is acknowledged or given up. It never
// returns while a node may still read the package's memory.
func (g *Generation) send(ctx context.Context, pkg *codec.Package) (acked []bool, err error) {
	sendCtx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	type outcome struct {
		index int
		err   error
	}
	results := make(chan outcome, g.spec.N)
	for i := range g.spec.N {
		go func() { results <- outcome{i, g.sendShard(sendCtx, i, pkg)} }()
	}
	acked = make([]bool, g.spec.N)
	var errs []error
	have := 0
	start := time.Now()
	var late <-chan time.Time
	for got := 0; got < g.spec.N; {
		select {
		case r := <-results:
			got++
			if r.err == nil {
				acked[r.index] = true
				have++
			} else {
				errs = append(errs, r.err)
			}
			if have == g.floor && late == nil {
				// On a slow line the last shard takes as long as the others did.
				t := time.NewTimer(max(g.m.o.Grace, 3*time.Since(start)))
				defer t.Stop()
				late = t.C
			}
		case <-late:
			giveUp(backend.ErrLate)
			late = nil
		}
	}
	return acked, errors.Join(errs...)
}

func (g *Generation) sendShard(ctx context.Context, index int, pkg *codec.Package) error {
	p := g.m.o.Peer(g.spec.Nodes[index])
	if p == nil {
		return &backend.NodeError{Node: g.spec.Nodes[index], Op: "put", Err: errors.New("not configured any more")}
	}
	if !p.Up() {
		return &backend.NodeError{Node: p.ID(), Op: "put", Err: backend.ErrDown}
	}
	life, _ := p.Life()
	g.mu.Lock()
	if !g.offered[index] {
		g.offered[index], g.lives[index] = true, life
	}
	g.mu.Unlock()
	name := pkg.Names[index]
	err := p.Put(ctx, name[:], pkg.Shards[index])
	if err == nil {
		crashpoint.Hit("zstor.upload.shard")
	}
	return err
}

// Offered reports whether the node of an index may have anything of the generation.
func (g *Generation) Offered(i int) bool { g.mu.Lock(); defer g.mu.Unlock(); return g.offered[i] }

// Renewed lists the nodes that turned out to be others since they were first sent something: what they acknowledged
// may be gone.
func (g *Generation) Renewed() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for i, node := range g.spec.Nodes {
		if p := g.m.o.Peer(node); g.offered[i] && p != nil {
			if life, _ := p.Life(); life != g.lives[i] {
				out = append(out, node)
			}
		}
	}
	return out
}

// Written is the number of stripes that reached the floor.
func (g *Generation) Written() uint32 { g.mu.Lock(); defer g.mu.Unlock(); return g.written }

// Full reports whether every shard of every stripe was acknowledged.
func (g *Generation) Full() bool { return g.Missing() == 0 }

// Missing counts the shards that were given up and not restored yet.
func (g *Generation) Missing() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, m := range g.missing {
		n += len(m)
	}
	return n
}

// MissingOf lists the stripes that index i lacks, ascending.
func (g *Generation) MissingOf(i int) []uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.missing[i]))
}

// Restored notes that a missing shard is on its node now.
func (g *Generation) Restored(i int, stripe uint32) {
	g.mu.Lock()
	delete(g.missing[i], stripe)
	g.mu.Unlock()
}

// Holdings gives index → node with what each node is known to have.
func (g *Generation) Holdings() []record.Holding {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]record.Holding, g.spec.N)
	for i, node := range g.spec.Nodes {
		h := record.Holding{Index: uint16(i), Node: node, State: record.Offered}
		if len(g.missing[i]) == 0 && g.written > 0 {
			h.State = record.Stored
			if p := g.m.o.Peer(node); p != nil && p.Durability().OnAck() {
				h.State = record.Confirmed
			}
		}
		out[i] = h
	}
	return out
}

// Manifest describes the first stripes, as many as the lengths need; all of them must have been
// written. More may have been: a tail is the front of a generation.
func (g *Generation) Manifest(dataLen, indexLen int64) (*record.Manifest, error) {
	m := &record.Manifest{
		Object: g.spec.Object, Generation: g.ID(), K: uint16(g.spec.K), N: uint16(g.spec.N), KeyEpoch: g.spec.KeyEpoch,
		StripeSize: uint32(g.spec.StripeSize), Compression: g.spec.Compression, Fallback: g.spec.Fallback,
		DataLen: dataLen, IndexLen: indexLen,
		DataStripes:  codec.Stripes(dataLen, g.spec.StripeSize),
		IndexStripes: codec.Stripes(indexLen, g.spec.StripeSize),
		Writer:       g.spec.Writer, Time: g.begun, Nodes: g.Holdings(),
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	sum := codec.NewSummer()
	for s := range m.DataStripes + m.IndexStripes {
		macs, ok := g.macs[s]
		if !ok {
			return nil, fmt.Errorf("manifest of %s: stripe %d was not written", g.spec.Object, s)
		}
		sum.Add(macs)
	}
	m.Checksum = [32]byte(sum.Sum())
	return m, nil
}

// IntentEntry puts the generation on record, up to a highest stripe.
func (g *Generation) IntentEntry(maxStripe uint32) record.IntentEntry {
	e := record.IntentEntry{
		Object: g.spec.Object, Generation: g.ID(), K: uint16(g.spec.K), N: uint16(g.spec.N),
		KeyEpoch: g.spec.KeyEpoch, MaxStripe: maxStripe,
	}
	for i, node := range g.spec.Nodes {
		e.Nodes = append(e.Nodes, record.Holding{Index: uint16(i), Node: node, State: record.Offered})
	}
	return e
}

var plains sync.Pool

// plainBuffer gives memory for n bytes of plaintext.
func plainBuffer(n int) *[]byte {
	if b, ok := plains.Get().(*[]byte); ok && cap(*b) >= n {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n)
	return &b
}

func putPlain(b *[]byte) { plains.Put(b) }
