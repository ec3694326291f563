package zstor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/backend/memnode"
	"qsfs/zstor/internal/record"
)

// neverTwo checks that no node was ever offered two values under one name.
func (w *world) neverTwo() {
	w.t.Helper()
	for i, n := range w.nodes {
		if d := n.Distinct(); d > 1 {
			w.t.Errorf("node %d was offered %d values under one name", i, d)
		}
	}
}

// receipts waits until every sealed segment has its full receipt.
func (m *machine) receipts() {
	m.t.Helper()
	m.eventually("receipts for every sealed segment", func() bool {
		for _, ns := range []string{nsData, nsMeta} {
			todo, err := m.store.withoutReceipt(ns)
			if err != nil || len(todo) > 0 {
				return false
			}
		}
		return true
	})
}

// fill writes and seals a few segments of both logs.
func (m *machine) fill() {
	m.fs.write(nsData, 70)
	m.fs.write(nsMeta, 9)
	m.fs.seal(nsData)
	m.fs.write(nsData, 33)
	m.fs.seal(nsMeta)
	m.fs.write(nsMeta, 4)
}

// TestUploadInterruptedAnywhere stops the process at each put to a data node in turn and starts it
// again: everything arrives, and no name ever got two values.
func TestUploadInterruptedAnywhere(t *testing.T) {
	t.Parallel()
	step := 9
	if os.Getenv("QSFS_LONG") != "" {
		step = 1
	}
	for stop := 1; ; stop += step {
		w := newWorld(t)
		a := w.machine().start().format().mustMount()
		var puts atomic.Int64
		dead := make(chan struct{})
		for _, n := range w.nodes {
			n.SetFault(func(op string, _ []byte) error {
				if op == "put" && puts.Add(1) >= int64(stop) {
					if puts.Load() == int64(stop) {
						close(dead)
					}
					return errors.New("the process is being killed")
				}
				return nil
			})
		}
		a.fill()
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- a.shipWithin(ctx) }()
		interrupted := false
		select {
		case <-dead:
			interrupted = true
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		}
		a.kill()
		cancel()
		for _, n := range w.nodes {
			n.SetFault(nil)
		}
		a.start().mustMount()
		a.fs.write(nsMeta, 1)
		a.mustShip()
		a.receipts()
		want := a.fs.snapshot()
		a.kill()
		b := w.recover()
		b.wantRecovered(want)
		b.kill()
		w.neverTwo()
		if t.Failed() || !interrupted {
			if !interrupted && stop < 40 {
				t.Errorf("only %d puts: the test does not test much", puts.Load())
			}
			return
		}
	}
}

func TestNodeDownThenBackIsCompleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	w.nodes[3].SetDown(true)
	w.eventually("node 3 is seen down", func() bool { return !a.store.peers[a.store.order[3]].Up() })
	a.fill()
	a.mustShip() // five of six are above the floor
	if todo, _ := a.store.withoutReceipt(nsData); len(todo) == 0 {
		t.Fatal("a receipt without the sixth shard")
	}
	// zdbfs asks for consent only where there is a receipt: it says that this one is for emergencies.
	rc, err := client.ReadReceipt(a.dir, nsData, 0)
	if err != nil || rc.Full || rc.Confirmed {
		t.Fatalf("with five of six confirmed the receipt is %+v, %v", rc, err)
	}
	r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0})
	if err != nil || r.OK {
		t.Fatalf("consent with a node down: %+v, %v", r, err)
	}
	if r, err = a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0, Emergency: true}); err != nil || !r.OK {
		t.Fatalf("no consent in an emergency with k+1 confirmed: %+v, %v", r, err)
	}
	st, err := a.store.Status(t.Context())
	if err != nil || st.Safety != client.Degraded || st.SurvivableNodes != 1 {
		t.Errorf("status: %v, %d nodes may be lost, %v", st.Safety, st.SurvivableNodes, err)
	}
	before := w.nodes[3].Counts().Puts
	w.nodes[3].SetDown(false)
	a.receipts()
	if w.nodes[3].Counts().Puts == before {
		t.Error("nothing was rebuilt on the node")
	}
	if rc, err := client.ReadReceipt(a.dir, nsData, 0); err != nil || !rc.Full || !rc.Confirmed {
		t.Errorf("when complete the receipt is %+v, %v", rc, err)
	}
	if r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0}); err != nil || !r.OK {
		t.Errorf("no consent when complete: %+v, %v", r, err)
	}
	w.neverTwo()
	// The rebuilt shards are good: with them and three others the data can be read.
	w.nodes[0].SetDown(true)
	w.nodes[1].SetDown(true)
	a.must(os.Remove(a.store.dataPath(segmentKey{Namespace: nsData, Segment: 0})))
	if got := a.fetchAll(segmentKey{Namespace: nsData, Segment: 0}, len(a.fs.logs[nsData].sealed[0])); !bytes.Equal(got, a.fs.logs[nsData].sealed[0]) {
		t.Error("read through rebuilt shards differs")
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestCompletedAfterRestart: the process that knew what was missing is gone; the node is asked.
func TestCompletedAfterRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	w.nodes[5].SetDown(true)
	a.fill()
	a.mustShip()
	a.kill()
	w.nodes[5].SetDown(false)
	a.start().mustMount()
	a.receipts()
	w.neverTwo()
}

func TestGroupDownWithoutFallbackQueues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	w.group(1, true)
	w.eventually("the group is seen down", func() bool { return !a.store.peers[a.store.order[2]].Up() && !a.store.peers[a.store.order[3]].Up() })
	a.fs.write(nsData, 50)
	a.fs.write(nsMeta, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := a.shipWithin(ctx); !errors.Is(err, client.ErrUnavailable) {
		t.Fatalf("four of six are below the floor: got %v", err)
	}
	st, err := a.store.Status(t.Context())
	if err != nil || st.Safety != client.AtRisk || st.Pending.Bytes == 0 || st.Pending.Age == 0 {
		t.Errorf("status: %s, %d bytes for %v: %s; %v", st.Safety, st.Pending.Bytes, st.Pending.Age, st.Headline, err)
	}
	if want := "no placement: 4 of the 6 nodes"; strings.Count(st.Headline, want) != 1 || strings.Count(st.Headline, "no placement") != 1 {
		t.Errorf("status says %q, want %q once", st.Headline, want)
	}
	w.group(1, false)
	a.mustShip()
	w.neverTwo()
	w.recover().wantRecovered(a.fs.snapshot())
}

func TestGroupDownWithFallback(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withFallback)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	w.group(2, true)
	a.fs.write(nsData, 50)
	a.fs.seal(nsData)
	a.fs.write(nsData, 20)
	a.fs.write(nsMeta, 2)
	a.mustShip()
	st, err := a.store.Status(t.Context())
	if err != nil || st.Objects.Fallback == 0 || st.Safety != client.Degraded {
		t.Errorf("status: %s, %d under the fallback, %v", st.Safety, st.Objects.Fallback, err)
	}
	want := a.fs.snapshot()
	if r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 1}); err != nil || r.OK {
		t.Errorf("consent for an object under the fallback: %+v, %v", r, err)
	}
	a.kill()
	b := w.recover() // with the group still down
	b.wantRecovered(want)
	b.kill()
	w.group(2, false)
	c := w.recover()
	c.wantRecovered(want)
	w.neverTwo()
}

// TestFallbackIsEncodedAnew: when the group is back, what the fallback took is stored under the main
// policy, and the fallback's shards go away.
func TestFallbackIsEncodedAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withFallback)
	a := w.machine().start().format().mustMount()
	w.group(0, true)
	a.fill()
	a.mustShip()
	old, listed, _ := a.store.lookup(segmentKey{Namespace: nsData, Segment: 0})
	if !listed {
		t.Fatal("not in the cut")
	}
	w.group(0, false)
	a.receipts()
	now, _, _ := a.store.lookup(segmentKey{Namespace: nsData, Segment: 0})
	if now.Generation == old.Generation {
		t.Fatal("still the fallback's generation")
	}
	m, err := a.store.manifestOf(t.Context(), now.SegmentKey)
	if err != nil || m.Fallback || m.K != 4 {
		t.Fatalf("manifest %+v, %v", m, err)
	}
	w.eventually("the fallback's shards are deleted", func() bool { return a.store.intents.count() == 0 })
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
	w.neverTwo()
}

// TestLyingNodes: flipped, swapped and withheld shards are noticed, and replaced by others.
func TestLyingNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	a.receipts()
	k := segmentKey{Namespace: nsData, Segment: 0}
	a.must(os.Remove(a.store.dataPath(k)))
	held := w.nodes[1].Snapshot()
	w.nodes[1].SetLie(func(name, v []byte) []byte { // another shard of the same node in place of this one
		for other, b := range held {
			if other != string(name) && len(b) == len(v) {
				return b
			}
		}
		return nil
	})
	w.nodes[4].SetLie(func(_, v []byte) []byte {
		if len(v) > 100 {
			v[100] ^= 4
		}
		return v
	})
	// The best four of six are asked: two honest nodes are slow, so that the lying ones are among them.
	score := func(i int) time.Duration { return a.store.peers[a.store.order[i]].Score() }
	for _, i := range []int{0, 5} {
		w.nodes[i].SetDelay(100 * time.Millisecond)
	}
	a.eventually("the lying nodes are asked before the slow ones", func() bool { return max(score(1), score(4)) < min(score(0), score(5)) })
	if got := a.fetchAll(k, len(a.fs.logs[nsData].sealed[0])); !bytes.Equal(got, a.fs.logs[nsData].sealed[0]) {
		t.Error("read through lying nodes differs")
	}
	if a.store.mover.Damaged.Load() == 0 {
		t.Error("no lie was noticed: the test did not test")
	}
	w.nodes[2].SetLie(func(_, _ []byte) []byte { return nil })
	_, _, err := a.store.Stripe(t.Context(), nsData, 0, 0)
	if !errors.Is(err, client.ErrDamaged) {
		t.Errorf("three of six bad, none away: got %v, want damaged", err)
	}
}

// TestReadsSayWhy: too few nodes is unavailable, and only after the deadline; nothing dispersed is
// its own answer; never zeros.
func TestReadsSayWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	a.receipts()
	if _, _, err := a.store.Stripe(t.Context(), nsData, 99, 0); !errors.Is(err, client.ErrNotDispersed) {
		t.Errorf("no such segment: got %v", err)
	}
	if _, _, err := a.store.Stripe(t.Context(), nsData, 0, 1<<40); !errors.Is(err, client.ErrBadRequest) {
		t.Errorf("beyond the end: got %v", err)
	}
	for _, i := range []int{0, 1, 2} {
		w.nodes[i].SetDown(true)
	}
	start := time.Now()
	_, _, err := a.store.Stripe(t.Context(), nsData, 0, 0)
	if !errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrDamaged) {
		t.Errorf("three nodes down: got %v", err)
	}
	if d := time.Since(start); d < time.Second || d > 20*time.Second {
		t.Errorf("answered after %v, the deadline is 2s", d)
	}
}

// TestReadWaitsForANodeThatComesBack: a restart of a node costs a read a pause, not an error.
func TestReadWaitsForANodeThatComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.QSFS.FetchTimeout = 30 * time.Second
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	a.receipts()
	for _, i := range []int{0, 1, 2} {
		w.nodes[i].SetDown(true)
	}
	time.AfterFunc(300*time.Millisecond, func() { w.nodes[1].SetDown(false) })
	_, release, err := a.store.Stripe(t.Context(), nsData, 0, 0)
	if err != nil {
		t.Fatalf("a node came back: %v", err)
	}
	release()
}

// TestReadMovesKShards: one stripe, k shards, no more, with hedging off.
func TestReadMovesKShards(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	a.receipts()
	gets := func() (n int) {
		for _, x := range w.nodes {
			n += x.Counts().Gets
		}
		return n
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		before := gets()
		_, release, err := a.store.Stripe(t.Context(), nsData, 0, rng.Int64N(70_000))
		if err != nil {
			t.Fatal(err)
		}
		release()
		if n := gets() - before; n != 4 {
			t.Fatalf("%d shards moved, want 4", n)
		}
	}
}

// TestHungNode: a node that takes requests and never answers is given up after the grace, and does
// not stop the rest.
func TestHungNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	w.nodes[2].SetDelay(time.Hour)
	start := time.Now()
	a.mustShip()
	if d := time.Since(start); d > 45*time.Second {
		t.Errorf("took %v", d)
	}
	w.nodes[2].SetDelay(0)
	a.receipts()
	w.neverTwo()
}

// TestLateAnswers: puts that arrive although their answer is lost are repeated with the same bytes.
func TestLateAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	var n atomic.Int64
	w.nodes[0].SetFault(func(op string, _ []byte) error {
		if op == "put" && n.Add(1)%3 == 0 {
			return memnode.Late(errors.New("lost answer"))
		}
		return nil
	})
	a.fill()
	a.mustShip()
	w.nodes[0].SetFault(nil)
	a.receipts()
	if n.Load() < 6 {
		t.Errorf("%d puts: the test did not test", n.Load())
	}
	w.neverTwo()
}

// TestUnconfirmedNodes: acknowledgements of a node that does not promise durability count as stored,
// not as confirmed, until they were read back; what it lost by then is made again.
func TestUnconfirmedNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.QSFS.ConfirmAfter = 300 * time.Millisecond
	w.nodes[1].SetDurability(backend.Durability{Unconfirmed: true})
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	st, err := a.store.Status(t.Context())
	if err != nil || st.Objects.Unconfirmed == 0 {
		t.Errorf("unconfirmed objects: %d, %v", st.Objects.Unconfirmed, err)
	}
	if r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0}); err != nil || r.OK {
		t.Errorf("consent before confirmation: %+v, %v", r, err)
	}
	w.nodes[1].Crash()
	puts := w.nodes[1].Counts().Puts
	a.receipts()
	if w.nodes[1].Counts().Puts == puts {
		t.Error("what the crash took was not made again")
	}
	if r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0}); err != nil || !r.OK {
		t.Errorf("no consent after confirmation: %+v, %v", r, err)
	}
	w.neverTwo()
}

// TestFullNode: a node without room gets nothing, and that is a degraded object, not an error.
func TestFullNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	w.nodes[4].SetFree(0)
	a.fill()
	a.mustShip()
	w.nodes[4].SetFree(1 << 40)
	a.receipts()
	w.neverTwo()
}

// TestDeletedPiecesComeBack: a node that was away while pieces were superseded still holds them; they
// are harmless, and are deleted when it is back.
func TestDeletedPiecesComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsMeta, 2)
	a.fs.write(nsData, 5)
	a.mustShip()
	stale := w.nodes[2].Snapshot()
	w.nodes[2].SetDown(true)
	for range 4 {
		a.fs.write(nsMeta, 30)
		a.fs.write(nsData, 40)
		a.mustShip()
	}
	a.fs.seal(nsData)
	a.fs.seal(nsMeta)
	a.fs.write(nsMeta, 1)
	a.fs.write(nsData, 1)
	a.mustShip()
	w.nodes[2].Restore(stale)
	w.nodes[2].SetDown(false)
	a.receipts()
	w.eventually("superseded pieces are deleted everywhere", func() bool { return a.store.intents.count() == 0 })
	held := w.nodes[2].Snapshot()
	for name := range stale {
		if _, ok := held[name]; ok && len(name) == 28 && name[24:] != "\xff\xff\xff\xff" {
			t.Errorf("a superseded piece is still there")
		}
	}
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
	w.neverTwo()
}

// TestNothingIsLeftBehind: after a while of writing, the nodes hold what the cut names and no more.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	for i := range 30 {
		a.fs.write(nsMeta, 3)
		a.fs.write(nsData, 7)
		if i%10 == 9 {
			a.fs.seal(nsData)
			a.fs.seal(nsMeta)
		}
		a.mustShip()
	}
	a.receipts()
	a.onlyWhatTheCutNames()
	w.neverTwo()
}

// onlyWhatTheCutNames waits until nothing is on the nodes that the newest cut does not name. A tail may
// lack some shards on a slow line.
func (m *machine) onlyWhatTheCutNames() {
	m.t.Helper()
	said := ""
	defer func() {
		if m.t.Failed() {
			m.t.Log(said)
		}
	}()
	m.eventually("deletions are done", func() bool {
		named := m.named()
		for i, n := range m.nodes {
			if got := n.Len() - 1; got > named { // one is the head of the cut
				said = fmt.Sprintf("node %d holds %d shards, the cut names %d", i, got, named)
				return false
			}
		}
		return m.store.intents.count() == 0
	})
}

// named counts the stripes that the newest cut names.
func (m *machine) named() (stripes int) {
	m.t.Helper()
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	for _, ref := range m.store.ledger.Live() {
		man := m.store.objects.recall(ref.SegmentKey)
		if man == nil {
			m.t.Fatalf("no manifest of %s", segmentObject(ref.SegmentKey))
		}
		stripes += int(man.DataStripes + man.IndexStripes)
	}
	for i := range m.store.cut.Tails {
		tail := &m.store.cut.Tails[i]
		if tail.Whole != nil {
			stripes += int(tail.Whole.DataStripes)
		}
		for _, p := range tail.Pieces {
			stripes += int(p.Manifest.DataStripes)
		}
	}
	return stripes
}

// TestMemoryStaysWithinBudget ships much more than the budget at once.
func TestMemoryStaysWithinBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.QSFS.ZstorMemory = 1 << 20
	a := w.machine().start().format().mustMount()
	a.mustShip()
	a.wantKnown() // no round is due
	s := a.store
	s.pace.now.Store(mostStripes) // or the first steps of an upload are short
	var full atomic.Bool
	for _, n := range w.nodes {
		n.SetFault(func(op string, _ []byte) error {
			for op == "put" && !full.Load() && s.life.Err() == nil { // no stripe ends before many are under way
				full.CompareAndSwap(false, s.budget.Used() > 1<<18)
				time.Sleep(time.Millisecond)
			}
			return nil
		})
	}
	for range 6 {
		a.fs.write(nsData, 1000)
		a.fs.seal(nsData)
	}
	a.eventually("many stripes are under way", full.Load)
	a.mustShip()
	if peak := a.store.budget.Peak(); peak > 1<<20 || peak < 1<<18 {
		t.Errorf("peak %d of a budget of %d", peak, 1<<20)
	}
	a.eventually("all of it is given back", func() bool { return s.budget.Used() == 0 }) // also by who makes a shard again that was late
}

// TestManyPieces: a log that grows by little for long keeps its cuts small.
func TestManyPieces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	for range 3 * maxPieces {
		a.fs.write(nsMeta, 1)
		a.mustShip()
		a.store.mu.Lock()
		for i := range a.store.cut.Tails {
			if n := len(a.store.cut.Tails[i].Pieces); n > maxPieces {
				t.Errorf("%d pieces in a tail", n)
			}
			if err := a.store.cut.Tails[i].Validate(); err != nil {
				t.Error(err)
			}
		}
		a.store.mu.Unlock()
	}
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
}

// TestSealedBehindTheHead: the watcher ships a segment whole while the announced head still stands in
// it; the cut names no more than the head.
func TestSealedBehindTheHead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 37)
	meta, data := a.fs.head(nsMeta), a.fs.head(nsData)
	k := segmentKey{Namespace: nsData, Segment: data.Segment}
	a.fs.write(nsData, 30)
	a.fs.seal(nsData)
	a.eventually("the watcher shipped the segment", func() bool { return a.store.objects.recall(k) != nil })
	if _, err := a.store.Heads(t.Context(), client.HeadsRequest{Session: a.fs.session, Meta: meta, Data: data, Wait: true}); err != nil {
		t.Fatal(err)
	}
	a.store.mu.Lock()
	listed := a.store.ledger.Has(k)
	var end int64
	for i := range a.store.cut.Tails {
		if a.store.cut.Tails[i].SegmentKey == k {
			end = a.store.cut.Tails[i].End()
		}
	}
	a.store.mu.Unlock()
	if listed || end != data.Offset {
		t.Errorf("listed %v, tail ends at %d, want a tail to %d", listed, end, data.Offset)
	}
	b := w.recover()
	got, err := os.ReadFile(b.store.dataPath(k))
	if err != nil || !bytes.Equal(got, a.fs.logs[nsData].sealed[0][:data.Offset]) {
		t.Errorf("recovered %d bytes, %v", len(got), err)
	}
}

// TestDamagedLocalSegmentDoesNotShip: what does not match its footer must not become the only copy.
func TestDamagedLocalSegmentDoesNotShip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 30)
	a.mustShip()
	path := a.store.dataPath(segmentKey{Namespace: nsData, Segment: 0})
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	a.must(err)
	_, err = f.WriteAt([]byte("damage"), 29_000)
	a.must(errors.Join(err, f.Close()))
	a.fs.seal(nsData)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := a.shipWithin(ctx); !errors.Is(err, client.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if _, listed, _ := a.store.lookup(record.SegmentKey{Namespace: nsData}); listed {
		t.Error("a damaged segment entered a cut")
	}
	w.recover() // the cut before it still stands
}
