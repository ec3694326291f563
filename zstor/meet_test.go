package zstor

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/receipt"
	"qsfs/zstor/internal/record"
)

// TestRoundMeetsAReplacement: a round finds a segment in the table that is about to be encoded anew, before the one
// who put it there ships it.
func TestRoundMeetsAReplacement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withFallback)
	a := w.machine().start().format().mustMount()
	w.group(2, true)
	w.eventually("the group is seen down", func() bool { return !a.store.peers[a.store.order[4]].Up() && !a.store.peers[a.store.order[5]].Up() })
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	s, k := a.store, segmentKey{Namespace: nsData, Segment: 0}
	old, listed, _ := s.lookup(k)
	if m := s.objects.recall(k); !listed || m == nil || !m.Fallback {
		t.Fatal("it is not under the fallback: the test does not take its path")
	}
	s.roundMu.lock()
	g := s.segmentAnew(k) // the replacement begins ...
	w.group(2, false)
	a.eventually("the main policy is possible", s.mainPossible)
	a.must(s.segment(k).ship(t.Context())) // ... a round meets it ...
	s.mu.Lock()
	here := s.segments[k] == g
	s.mu.Unlock()
	if !here {
		t.Error("the round took it out of the table")
	}
	a.must(g.ship(t.Context())) // ... and it goes on
	s.roundMu.unlock()
	s.forceRound()
	a.eventually("the cut names what was encoded anew", func() bool {
		now, _, _ := s.lookup(k)
		return now.Generation != old.Generation
	})
	a.eventually("consent", func() bool { return a.consent(0) })
	a.eventually("deletions are done", func() bool { return s.intents.count() == 0 })
	a.noLeftOvers(segmentObject(k))
	w.neverTwo()
}

// noLeftOvers checks that the book holds no generation of an object: it is rooted or gone.
func (m *machine) noLeftOvers(object string) {
	m.t.Helper()
	m.eventually("no generation of "+object+" is left over", func() bool {
		b := m.store.intents
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range b.entries {
			if e.Object == object {
				return false
			}
		}
		return true
	})
}

// TestTakeoverDuringAnUpload: what was under way when another cut became the truth ends, and leaves nothing.
func TestTakeoverDuringAnUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	gate := make(chan struct{})
	var waiting, over atomic.Int64
	for _, n := range w.nodes {
		n.SetFault(func(op string, _ []byte) error {
			if op == "put" && over.Load() == 0 {
				waiting.Add(1)
				<-gate
			}
			return nil
		})
	}
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.eventually("the upload is under way", func() bool { return waiting.Load() > 0 })
	if r, err := a.store.Takeover(t.Context()); err != nil || r.Verdict != client.Verified {
		t.Fatalf("%+v, %v", r, err)
	}
	over.Store(1)
	a.mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip() // the same segment, by the new owner
	a.receipts()
	a.eventually("consent", func() bool { return a.consent(0) })
	close(gate) // and only now the first one arrives
	time.Sleep(200 * time.Millisecond)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.eventually("consent as before", func() bool { return a.consent(0) })
	a.noLeftOvers("zdbfs-data/0")
	a.onlyWhatTheCutNames()
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
	w.neverTwo()
}

// manifestFault makes the first nodes refuse manifests; 0 ends it.
func (m *machine) manifestFault(nodes int) {
	prefix := m.store.sealer.KindPrefix(m.store.sealer.KeyEpoch(), record.KindManifest)
	for i, n := range m.metas {
		n.SetFault(nil)
		if i < nodes {
			n.SetFault(func(op string, name []byte) error {
				if op == "put" && bytes.HasPrefix(name, prefix) {
					return errors.New("not now")
				}
				return nil
			})
		}
	}
}

// TestManifestIsTriedAgainAlone: when only the record fails, no stripe is shipped twice.
func TestManifestIsTriedAgainAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.manifestFault(3)
	a.fs.write(nsData, 100)
	a.fs.seal(nsData)
	g := a.store.segment(segmentKey{Namespace: nsData, Segment: 0})
	var gen record.Generation
	a.eventually("all is shipped but the manifest", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.man != nil {
			gen = g.man.Generation
		}
		return g.man != nil && g.obj == nil
	})
	before := a.store.mover.Written.Load()
	for range 2 {
		if err := g.ship(t.Context()); err == nil {
			t.Fatal("the manifest was written: the test does not take its path")
		}
	}
	a.manifestFault(0)
	a.must(g.ship(t.Context()))
	if n := a.store.mover.Written.Load() - before; n != 0 {
		t.Errorf("%d bytes were shipped again", n)
	}
	a.fs.write(nsMeta, 1)
	a.mustShip()
	if ref, listed, _ := a.store.lookup(g.key); !listed || ref.Generation != gen {
		t.Error("the cut does not name what was shipped first")
	}
	a.receipts()
	w.neverTwo()
}

// TestLostManifestCounts: a manifest that no node has whole any more is no segment that is well.
func TestLostManifestCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	w.nodes[5].SetDown(true)
	w.eventually("the node is seen down", func() bool { return !a.store.peers[a.store.order[5]].Up() })
	a.fill() // none gets a full receipt, which would hold the manifest, too
	a.mustShip()
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	gone := segmentKey{Namespace: nsData, Segment: 0}      // no copy here, no receipt
	byReceipt := segmentKey{Namespace: nsData, Segment: 1} // no copy here, the receipt is
	a.kill()
	a.must(os.Remove(filepath.Join(a.dir, "data", nsData, "d0")))
	a.must(os.Remove(receipt.Path(a.dir, nsData, 0)))
	a.must(os.Remove(filepath.Join(a.dir, "data", nsData, "d1")))
	a.start()
	prefix := a.store.sealer.KindPrefix(a.store.sealer.KeyEpoch(), record.KindManifest)
	damaged := make([]map[string]bool, len(w.metas))
	for i, m := range w.metas {
		damaged[i] = map[string]bool{}
		m.DamageThe(func(name string) bool {
			damaged[i][name] = bytes.HasPrefix([]byte(name), prefix)
			return damaged[i][name]
		})
	}
	w.nodes[5].SetDown(false)
	a.mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.eventually("one segment is lost, the others are found or stored anew", func() bool {
		st := a.status()
		return st.Safety == client.AtRisk && st.Objects.Lost == 1 && st.Objects.Gone == 1
	})
	if got := a.fetchAll(byReceipt, len(a.fs.logs[nsData].sealed[1])); !bytes.Equal(got, a.fs.logs[nsData].sealed[1]) {
		t.Error("what the receipt knew differs")
	}
	for i, m := range w.metas {
		m.DamageThe(func(name string) bool { return damaged[i][name] }) // the same bit again: they are whole
	}
	a.wantSafe()
	if got := a.fetchAll(gone, len(a.fs.logs[nsData].sealed[0])); !bytes.Equal(got, a.fs.logs[nsData].sealed[0]) {
		t.Error("what was found again differs")
	}
	w.neverTwo()
}
