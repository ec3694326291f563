package zstor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/receipt"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// wantRecoveredWithout recovers on a new machine while some nodes are away.
func (m *machine) wantRecoveredWithout(nodes ...int) {
	m.t.Helper()
	want := m.fs.snapshot()
	m.kill()
	for _, i := range nodes {
		m.nodes[i].SetDown(true)
	}
	m.recover().wantRecovered(want)
}

// TestTailOnWipedNodes: two nodes lose what they held of the tail of an active segment. When all is well again two
// others may go: the tail does not stand on what was lost, and an idle filesystem does not cut for ever.
func TestTailOnWipedNodes(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		entries int
		restart bool
	}{
		"whole stripes": {200, false}, "whole stripes of an earlier process": {200, true},
		"a piece": {3, false}, "a piece of an earlier process": {3, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.machine().start().format().mustMount()
			a.fs.write(nsData, x.entries)
			a.fs.write(nsMeta, 2)
			a.mustShip()
			if x.restart {
				a.restart()
			}
			a.wantSafe()
			for _, i := range []int{1, 2} {
				w.nodes[i].Wipe()
			}
			a.eventually("the nodes are seen as others", func() bool {
				one, _ := a.store.peers[a.store.order[1]].Life()
				two, _ := a.store.peers[a.store.order[2]].Life()
				return one > 1 && two > 1
			})
			a.wantSafe()
			before := a.newestCut().Number
			time.Sleep(400 * time.Millisecond)
			if n := a.newestCut().Number - before; n > 2 {
				t.Errorf("%d cuts of an idle filesystem", n)
			}
			a.onlyWhatTheCutNames()
			a.wantRecoveredWithout(0, 5)
			w.neverTwo()
		})
	}
}

// TestNoConsentBeforeTheCutCounts: the cut that names a segment did not reach enough metadata nodes.
func TestNoConsentBeforeTheCutCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	prefix := a.store.sealer.KindPrefix(a.store.sealer.KeyEpoch(), record.KindCut)
	for _, m := range w.metas {
		m.SetFault(func(op string, name []byte) error {
			if op == "put" && bytes.HasPrefix(name, prefix) {
				return errors.New("not now")
			}
			return nil
		})
	}
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	k := segmentKey{Namespace: nsData, Segment: 0}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := a.shipWithin(ctx); err == nil {
		t.Fatal("the cut was acknowledged: the test does not take its path")
	}
	a.eventually("a cut was tried with it", func() bool { _, listed, _ := a.store.lookup(k); return listed })
	for _, emergency := range []bool{false, true} {
		r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0, Emergency: emergency})
		if err != nil || r.OK {
			t.Errorf("emergency %v: got %+v, %v; no acknowledged cut names the segment", emergency, r, err)
		}
	}
	for _, m := range w.metas {
		m.SetFault(nil)
	}
	a.mustShip()
	a.eventually("consent", func() bool { return a.consent(0) })
}

// TestStripesThatWereNotBegun: a caller that gives up between two stripes ends the generation, or it would go on with
// a hole in it.
func TestStripesThatWereNotBegun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format()
	gen, err := a.store.mover.Begin(transfer.Spec{
		Object: "zdbfs-data/1", K: 4, N: 6, Nodes: a.store.order, KeyEpoch: 1, StripeSize: 16 << 10, Writer: a.store.set.Writer(),
	})
	a.must(err)
	g := &segment{s: a.store, gen: gen}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done atomic.Int64
	err = g.parallel(ctx, 0, 100, func(context.Context, uint32) error {
		if done.Add(1) == 3 {
			cancel()
		}
		return nil
	})
	if done.Load() == 100 {
		t.Fatal("all were begun: the test does not take its path")
	}
	if !errors.Is(err, context.Canceled) || gen.Err() == nil {
		t.Errorf("%d of 100 stripes were begun: got %v, the generation ended with %v", done.Load(), err, gen.Err())
	}
}

// TestOneSegmentDoesNotStopTheOthers: a segment that cannot be shipped does not end the uploads beside it.
func TestOneSegmentDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	w.slow(60_000)
	a.store.roundMu.lock()
	defer a.store.roundMu.unlock()
	a.fs.write(nsData, 30)
	path := a.store.dataPath(segmentKey{Namespace: nsData, Segment: 0})
	b, err := os.ReadFile(path)
	a.must(err)
	b[20_000] ^= 1
	a.must(os.WriteFile(path, b, 0o600))
	a.fs.seal(nsData)
	a.fs.write(nsData, 150)
	a.fs.seal(nsData)
	k := segmentKey{Namespace: nsData, Segment: 1}
	a.eventually("the other one is at the floor", func() bool { return a.store.objects.recall(k) != nil })
	if a.store.objects.recall(segmentKey{Namespace: nsData, Segment: 0}) != nil {
		t.Error("a damaged segment was shipped")
	}
}

// TestEvictedWhileItWasToBeEncodedAnew: a segment that a cut names is to be encoded anew, and its local copy goes with
// the consent of an emergency. Cuts go on.
func TestEvictedWhileItWasToBeEncodedAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withFallback)
	a := w.machine().start().format().mustMount()
	w.group(2, true)
	w.eventually("the group is seen down", func() bool { return !a.store.peers[a.store.order[4]].Up() && !a.store.peers[a.store.order[5]].Up() })
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	k := segmentKey{Namespace: nsData, Segment: 0}
	r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0, Emergency: true})
	if err != nil || !r.OK {
		t.Fatalf("no consent in an emergency: %+v, %v", r, err)
	}
	g := a.store.segmentAnew(k) // the replacement begins ...
	want := a.fs.logs[nsData].sealed[0]
	a.must(os.Remove(a.store.dataPath(k))) // ... too late
	w.group(2, false)
	a.eventually("the main policy is possible", a.store.mainPossible)
	if err := a.store.encodeAnew(k); err == nil {
		t.Error("it was encoded from nothing")
	}
	a.store.mu.Lock()
	if a.store.segments[k] == g {
		t.Error("it is still to be encoded anew")
	}
	a.store.mu.Unlock()
	a.store.segmentAnew(k)
	a.fs.write(nsMeta, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := a.shipWithin(ctx); err != nil {
		t.Errorf("no cut any more: %v", err)
	}
	if got := a.fetchAll(k, len(want)); !bytes.Equal(got, want) {
		t.Error("what is read differs")
	}
}

// TestFailedReplacementDoesNotComeBack: the manifest of a replacement that failed is on one metadata node, which is away
// while the next process deletes the shards. When the node is back, the file is still what it was.
func TestFailedReplacementDoesNotComeBack(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"a replacement": false, "a first store": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.machine().start().format().mustMount()
			dir := t.TempDir()
			p, out := filepath.Join(dir, "f"), filepath.Join(dir, "out")
			old := bytes.Repeat([]byte("old "), 9000)
			req := client.FileRequest{Name: "f", Path: p, Replace: true}
			if !first {
				a.must(os.WriteFile(p, old, 0o600))
				a.must(a.store.StoreFile(t.Context(), req, quiet))
			}
			a.manifestFault(5)
			w.metas[0].SetFault(nil) // one node takes it ...
			w.metas[5].SetFault(func(op string, name []byte) error { return backend.ErrDown })
			a.must(os.WriteFile(p, bytes.Repeat([]byte("new!"), 9000), 0o600))
			if err := a.store.StoreFile(t.Context(), req, quiet); err == nil {
				t.Fatal("it was stored")
			}
			a.manifestFault(0)
			w.metas[0].SetDown(true) // ... and goes away
			a.kill()
			a.start().mustMount()
			a.fs.write(nsMeta, 1)
			a.mustShip()
			a.eventually("deletions are done", func() bool { return a.store.intents.count() == 0 && len(a.store.intents.ofFiles()) == 0 })
			w.metas[0].SetDown(false)
			a.eventually("the node counts again", func() bool { return a.store.set.Status(t.Context()).Counting == 6 })
			for range 3 {
				err := a.store.RetrieveFile(t.Context(), client.FileRequest{Name: "f", Path: out, Replace: true}, quiet)
				if first {
					if !errors.Is(err, client.ErrNotDispersed) {
						t.Fatalf("a file that was never stored: got %v", err)
					}
					continue
				}
				a.must(err)
				if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, old) {
					t.Fatalf("retrieved %d bytes, %v, want the old content", len(got), err)
				}
			}
			a.must(a.store.StoreFile(t.Context(), req, quiet))
			a.must(a.store.CheckFile(t.Context(), client.FileRequest{Name: "f", Deep: true}, quiet))
		})
	}
}

// TestReceiptIsNotWrittenAgain: an object that waits for its confirmation writes nothing meanwhile.
func TestReceiptIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nodes[1].SetDurability(backend.Durability{Unconfirmed: true})
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	path := receipt.Path(a.dir, nsData, 0)
	a.eventually("a receipt", func() bool { _, err := os.Stat(path); return err == nil })
	before, err := os.Stat(path)
	a.must(err)
	for range 3 {
		a.must(a.store.complete(t.Context()))
	}
	after, err := os.Stat(path)
	a.must(err)
	if !os.SameFile(before, after) {
		t.Error("the same receipt was written again")
	}
}

// TestPruningGoesOnWithANodeAway: what needs all metadata nodes waits, and nothing else does.
func TestPruningGoesOnWithANodeAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	w.metas[5].SetDown(true)
	a.restart() // the intents of the process before are tombstoned
	w.nodes[1].SetDown(true)
	w.eventually("node 1 is seen down", func() bool { return !a.store.peers[a.store.order[1]].Up() })
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	w.nodes[1].SetDown(false)
	a.receipts() // it was completed: two versions
	a.eventually("the superseded one is gone", func() bool {
		a.store.intents.mu.Lock()
		waiting := len(a.store.intents.forget)
		a.store.intents.mu.Unlock()
		return waiting > 0 && a.manifestRecords(0) == 1
	})
}

// TestCatchingUpIsTriedAgain: whole stripes could not be made up for, and nobody writes any more.
func TestCatchingUpIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 300)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	old := a.newestCut().Tails[0].Whole.Generation
	a.restart()
	var puts atomic.Int64
	for _, n := range w.nodes[:3] {
		n.SetFault(func(op string, name []byte) error {
			if op == "put" && puts.Add(1) > 20 && puts.Load() < 30 {
				return backend.ErrRefused
			}
			return nil
		})
	}
	a.fs.write(nsData, 1)
	a.mustShip()
	a.eventually("the tail stands on a generation of this process", func() bool {
		whole := a.newestCut().Tails[0].Whole
		return whole != nil && whole.Generation != old
	})
	if puts.Load() < 30 {
		t.Error("nothing was refused: the test does not take its path")
	}
	a.onlyWhatTheCutNames()
	a.wantRecoveredWithout()
	w.neverTwo()
}
