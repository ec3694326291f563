package zstor

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/record"
)

// manifestRecords counts what one metadata node holds of manifests, versions and tombstones.
func (m *machine) manifestRecords(node int) (n int) {
	prefix := m.store.sealer.KindPrefix(m.store.sealer.KeyEpoch(), record.KindManifest)
	m.metas[node].DamageThe(func(name string) bool { // it is asked for each name, and nothing is damaged
		if bytes.HasPrefix([]byte(name), prefix) {
			n++
		}
		return false
	})
	return n
}

// wantManifests waits until every metadata node holds one record for each manifest that counts, and no other.
func (m *machine) wantManifests(want int) {
	m.t.Helper()
	got := make([]int, len(m.metas))
	defer func() {
		if m.t.Failed() {
			m.t.Logf("the nodes hold %v manifest records, want %d each", got, want)
		}
	}()
	m.eventually("one record for each manifest", func() bool {
		for i := range m.metas {
			if got[i] = m.manifestRecords(i); got[i] != want {
				return false
			}
		}
		return true
	})
}

// TestSupersededManifestsGo: what completes an object, or replaces a file, leaves no older version, and what deletes
// one leaves no tombstone for ever.
func TestSupersededManifestsGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withFallback)
	w.edit = func(o *Options) { o.TombstoneGrace = 50 * time.Millisecond }
	a := w.machine().start().format().mustMount()
	w.group(2, true)
	w.eventually("the group is seen down", func() bool { return !a.store.peers[a.store.order[4]].Up() && !a.store.peers[a.store.order[5]].Up() })
	a.fs.write(nsData, 40)
	a.fs.seal(nsData) // under the fallback: encoded anew later, and its first manifest deleted
	a.fs.write(nsMeta, 1)
	a.mustShip()
	w.group(2, false)
	w.nodes[1].SetDown(true)
	a.eventually("the group is back", a.store.mainPossible)
	a.fs.write(nsData, 40)
	a.fs.seal(nsData) // completed later: two versions
	a.fs.write(nsMeta, 1)
	a.mustShip()
	w.nodes[1].SetDown(false)
	a.receipts()
	path := filepath.Join(t.TempDir(), "f")
	for i := range 3 {
		a.must(os.WriteFile(path, bytes.Repeat([]byte{byte(i)}, 20_000), 0o600))
		a.must(a.store.StoreFile(t.Context(), client.FileRequest{Name: "f", Path: path, Replace: true}, quiet))
	}
	a.wantManifests(3) // two segments and a file
	a.must(a.store.CheckFile(t.Context(), client.FileRequest{Name: "f", Deep: true}, quiet))
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
}

// noCuts makes the metadata nodes refuse every cut until it is called off. A lock on the rounds alone is let go before the
// process ends, and then one more may come.
func (m *machine) noCuts() (again func()) {
	prefix := m.store.sealer.KindPrefix(m.store.sealer.KeyEpoch(), record.KindCut)
	for _, n := range m.metas {
		n.SetFault(func(op string, name []byte) error {
			if op == "put" && bytes.HasPrefix(name, prefix) {
				return backend.ErrRefused
			}
			return nil
		})
	}
	return func() {
		for _, n := range m.metas {
			n.SetFault(nil)
		}
	}
}

// TestManifestsThatNoCutNamesGo: a process ends between the manifest of a segment and its cut.
func TestManifestsThatNoCutNamesGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.edit = func(o *Options) { o.TombstoneGrace = 50 * time.Millisecond }
	a := w.machine().start().format().mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.store.roundMu.lock() // no cut any more
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	g := a.store.segment(segmentKey{Namespace: nsData, Segment: 0})
	a.eventually("it is shipped", g.shipped)
	first := g.obj.manifest().Generation
	again := a.noCuts()
	a.store.roundMu.unlock()
	a.kill()
	again()
	a.start().mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.receipts()
	if ref, listed, _ := a.store.lookup(g.key); !listed || ref.Generation == first {
		t.Fatal("a cut names the first generation: the test does not take its path")
	}
	a.eventually("deletions are done", func() bool { return a.store.intents.count() == 0 })
	a.store.mu.Lock()
	live := a.store.ledger.Len()
	a.store.mu.Unlock()
	a.wantManifests(live)
}

// TestNeverCutIsCleanedUpAfterARecovery: what the first owner shipped before any cut goes with the first cut of the next.
func TestNeverCutIsCleanedUpAfterARecovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format()
	again := a.noCuts()
	a.mustMount()
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.eventually("it is shipped", a.store.segment(segmentKey{Namespace: nsData, Segment: 0}).shipped)
	held := w.nodes[3].Snapshot()
	a.kill()
	again()
	if len(held) == 0 {
		t.Fatal("nothing was shipped")
	}
	b := w.recover()
	if b.store.cut != nil {
		t.Fatal("there is a cut: the test does not take its path")
	}
	b.mustMount()
	b.fs.write(nsMeta, 1)
	b.mustShip()
	b.eventually("what the first owner shipped is deleted", func() bool {
		now := w.nodes[3].Snapshot()
		for name := range held {
			if _, ok := now[name]; ok {
				return false
			}
		}
		return true
	})
}

// TestTwoReplacementsAtOnce: one of them replaces what the other stored, and nothing is left over.
func TestTwoReplacementsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 4 {
		path := filepath.Join(dir, string(rune('a'+i)))
		a.must(os.WriteFile(path, bytes.Repeat([]byte{byte(i)}, 30_000), 0o600))
		wg.Go(func() {
			if err := a.store.StoreFile(t.Context(), client.FileRequest{Name: "f", Path: path, Replace: true}, quiet); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	m, err := a.store.fileManifest(t.Context(), "f")
	a.must(err)
	a.eventually("one generation is left on each node", func() bool {
		files := 0
		for name := range w.nodes[0].Snapshot() {
			for i := range int(m.N) {
				for _, n := range a.shardNames(m, i) {
					if n == name {
						files++
					}
				}
			}
		}
		b := a.store.intents
		b.mu.Lock()
		open := 0
		for _, e := range b.entries {
			if e.Object == m.Object {
				open++
			}
		}
		b.mu.Unlock()
		return open == 0 && files == int(m.DataStripes+m.IndexStripes)
	})
	a.eventually("each node holds what is named", func() bool {
		want := int(m.DataStripes+m.IndexStripes) + 1 // the head of the cut
		a.store.mu.Lock()
		for i := range a.store.cut.Tails {
			want += len(a.store.cut.Tails[i].Pieces)
		}
		a.store.mu.Unlock()
		return w.nodes[0].Len() == want
	})
	out := filepath.Join(dir, "out")
	a.must(a.store.RetrieveFile(t.Context(), client.FileRequest{Name: "f", Path: out}, quiet))
	w.neverTwo()
}
