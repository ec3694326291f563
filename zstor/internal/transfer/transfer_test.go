package transfer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/backend/memnode"
	"qsfs/zstor/internal/budget"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/keys"
	"qsfs/zstor/internal/record"
)

type rig struct {
	t     *testing.T
	m     *Mover
	nodes []*memnode.Node
	ids   []string
}

func newRig(t *testing.T, hedge bool) *rig {
	t.Helper()
	ring, err := keys.New(map[keys.Epoch]keys.Secret{1: {9}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(ring)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t}
	peers := map[string]*backend.Peer{}
	for i := range 6 {
		n := memnode.New()
		id := fmt.Sprintf("n%d", i)
		p := backend.NewPeer(n, backend.PeerOptions{ID: id, Group: "g", ProbeEvery: 20 * time.Millisecond})
		t.Cleanup(func() { _ = p.Close() })
		peers[id] = p
		r.nodes, r.ids = append(r.nodes, n), append(r.ids, id)
		for !p.Up() {
			time.Sleep(time.Millisecond)
		}
	}
	r.m = New(Options{Codec: c, Budget: budget.New(8 << 20), Peer: func(id string) *backend.Peer { return peers[id] }, Hedge: hedge, Grace: 100 * time.Millisecond})
	return r
}

func (r *rig) begin() *Generation {
	r.t.Helper()
	g, err := r.m.Begin(Spec{Object: "zdbfs-data/1", K: 4, N: 6, Nodes: r.ids, KeyEpoch: 1, StripeSize: 16 << 10})
	if err != nil {
		r.t.Fatal(err)
	}
	return g
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func write(ctx context.Context, g *Generation, stripe uint32, plain []byte) error {
	return g.WriteStripe(ctx, stripe, 0, len(plain), func(p []byte) error { copy(p, plain); return nil })
}

func (r *rig) stored(stripes int) (*Generation, *record.Manifest, []byte) {
	r.t.Helper()
	g := r.begin()
	plain := random(stripes * 16 << 10)
	for s := range stripes {
		if err := write(r.t.Context(), g, uint32(s), plain[s*16<<10:(s+1)*16<<10]); err != nil {
			r.t.Fatal(err)
		}
	}
	m, err := g.Manifest(int64(len(plain)), 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return g, m, plain
}

func (r *rig) wantStripe(m *record.Manifest, stripe uint32, plain []byte) {
	r.t.Helper()
	got, release, err := r.m.ReadStripe(r.t.Context(), m, stripe)
	if err != nil {
		r.t.Fatalf("stripe %d: %v", stripe, err)
	}
	defer release()
	off := int(stripe) * 16 << 10
	if !bytes.Equal(got, plain[off:off+len(got)]) || len(got) != 16<<10 {
		r.t.Fatalf("stripe %d differs", stripe)
	}
}

func TestStripeNeedsTheFloor(t *testing.T) {
	r := newRig(t, false)
	g := r.begin()
	r.nodes[0].SetDown(true)
	if err := write(t.Context(), g, 0, random(16<<10)); err != nil {
		t.Fatalf("five of six: %v", err)
	}
	if g.Missing() != 1 || g.Full() || len(g.MissingOf(0)) != 1 {
		t.Errorf("missing %d", g.Missing())
	}
	r.nodes[1].SetDown(true)
	if err := write(t.Context(), g, 1, random(16<<10)); !errors.Is(err, ErrBelowFloor) {
		t.Fatalf("four of six: got %v", err)
	}
	// The generation has ended, whatever comes back.
	r.nodes[0].SetDown(false)
	r.nodes[1].SetDown(false)
	if err := write(t.Context(), g, 2, random(16<<10)); !errors.Is(err, ErrBelowFloor) {
		t.Errorf("a stripe of an ended generation: got %v", err)
	}
}

func TestHoldingsTellWhatIsConfirmed(t *testing.T) {
	r := newRig(t, false)
	r.nodes[2].SetDurability(backend.Durability{Unconfirmed: true})
	for r.m.o.Peer("n2").Durability().OnAck() {
		time.Sleep(time.Millisecond)
	}
	r.nodes[5].SetDown(true)
	_, m, _ := r.stored(2)
	want := []record.HoldState{record.Confirmed, record.Confirmed, record.Stored, record.Confirmed, record.Confirmed, record.Offered}
	for i, h := range m.Nodes {
		if h.State != want[i] {
			t.Errorf("index %d: got %v, want %v", i, h.State, want[i])
		}
	}
}

func TestCancelledWriteEndsTheGeneration(t *testing.T) {
	r := newRig(t, false)
	g := r.begin()
	for _, n := range r.nodes {
		n.SetDelay(time.Hour)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := write(ctx, g, 0, random(100)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if g.Err() == nil {
		t.Error("the generation goes on")
	}
}

func TestRebuildIsByteIdentical(t *testing.T) {
	r := newRig(t, false)
	_, m, plain := r.stored(3)
	before := r.nodes[2].Snapshot()
	r.nodes[2].Wipe()
	for s := range uint32(3) {
		stored, err := r.m.RebuildStripe(t.Context(), m, s, []int{2})
		if err != nil || len(stored) != 1 {
			t.Fatalf("rebuild: %v, %v", stored, err)
		}
	}
	after := r.nodes[2].Snapshot()
	if len(after) != len(before) {
		t.Fatalf("%d shards, want %d", len(after), len(before))
	}
	for k, v := range before {
		if !bytes.Equal(after[k], v) {
			t.Error("a rebuilt shard differs")
		}
	}
	r.nodes[0].SetDown(true)
	r.nodes[1].SetDown(true)
	r.wantStripe(m, 1, plain)
}

func TestClaimsAndVerify(t *testing.T) {
	r := newRig(t, false)
	_, m, _ := r.stored(3)
	dec, err := r.m.o.Codec.Open(paramsOf(m))
	if err != nil {
		t.Fatal(err)
	}
	name := dec.Name(1, 2)
	if err := r.nodes[1].Delete(t.Context(), [][]byte{name[:]}); err != nil {
		t.Fatal(err)
	}
	absent, err := r.m.Claimed(t.Context(), m, 1, []uint32{0, 1, 2})
	if err != nil || len(absent) != 1 || absent[0] != 2 {
		t.Errorf("claimed: %v, %v", absent, err)
	}
	r.nodes[3].SetLie(func(_, v []byte) []byte { v[len(v)-1] ^= 1; return v })
	r.nodes[4].SetDown(true)
	for _, c := range []struct {
		index int
		want  ShardState
	}{{0, ShardGood}, {1, ShardAbsent}, {3, ShardDamaged}, {4, ShardUnknown}} {
		if got, _ := r.m.Verify(t.Context(), m, c.index, 2); got != c.want {
			t.Errorf("index %d: got %v, want %v", c.index, got, c.want)
		}
	}
}

// TestHedging: one slow node costs one more shard, not its delay.
func TestHedging(t *testing.T) {
	r := newRig(t, true)
	_, m, plain := r.stored(1)
	slow := r.m.newCollector(must(r.m.o.Codec.Open(paramsOf(m))), m, 0, nil).queue[0].node
	for i, id := range r.ids {
		if id == slow {
			r.nodes[i].SetDelay(3 * time.Second)
		}
	}
	start := time.Now()
	r.wantStripe(m, 0, plain)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	if r.m.Hedged.Load() == 0 {
		t.Error("nobody was asked in its place")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestRetryNeverMixesAttempts: half of a stripe arrives, the generation ends, the object starts again.
// The reader of the second generation never sees a shard of the first, and the first cannot be gone
// on with.
func TestRetryNeverMixesAttempts(t *testing.T) {
	r := newRig(t, false)
	first := r.begin()
	var n atomic.Int64
	for _, node := range r.nodes {
		node.SetFault(func(op string, _ []byte) error {
			if op == "put" && n.Add(1) > 3 {
				return errors.New("cut off")
			}
			return nil
		})
	}
	plain := random(16 << 10)
	if err := write(t.Context(), first, 0, plain); !errors.Is(err, ErrBelowFloor) {
		t.Fatalf("got %v", err)
	}
	for _, node := range r.nodes {
		node.SetFault(nil)
	}
	for _, id := range r.ids {
		for !r.m.o.Peer(id).Up() {
			time.Sleep(time.Millisecond)
		}
	}
	second := r.begin()
	if second.ID() == first.ID() {
		t.Fatal("the same generation")
	}
	if err := write(t.Context(), second, 0, plain); err != nil {
		t.Fatal(err)
	}
	if err := write(t.Context(), second, 0, plain); !errors.Is(err, codec.ErrEncoded) {
		t.Errorf("the same stripe twice: got %v", err)
	}
	for i, node := range r.nodes {
		if d := node.Distinct(); d != 1 {
			t.Errorf("node %d: %d values under one name", i, d)
		}
	}
}

// TestDeleteHolding removes what a generation left, and nothing else.
func TestDeleteHolding(t *testing.T) {
	r := newRig(t, false)
	g, _, _ := r.stored(3)
	_, other, plain := r.stored(2)
	e := g.IntentEntry(40) // more than was written
	for _, h := range e.Nodes {
		if err := r.m.DeleteHolding(t.Context(), &e, h); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range r.nodes {
		if n.Len() != 2 {
			t.Errorf("node %d holds %d shards, want those of the other object", i, n.Len())
		}
	}
	r.wantStripe(other, 1, plain)
}
