package zstor

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/backend/memnode"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/keys"
	"qsfs/zstor/internal/record"
)

// shardNames gives the names of all shards of an index.
func (m *machine) shardNames(man *record.Manifest, index int) (out []string) {
	m.t.Helper()
	c, err := codec.New(m.store.ring)
	m.must(err)
	dec, err := c.Open(codec.Params{Object: man.Object, Generation: codec.Generation(man.Generation), K: int(man.K), N: int(man.N),
		KeyEpoch: keys.Epoch(man.KeyEpoch), StripeSize: int(man.StripeSize)})
	m.must(err)
	for stripe := range man.DataStripes + man.IndexStripes {
		name := dec.Name(index, stripe)
		out = append(out, string(name[:]))
	}
	return out
}

// held gives what one node holds of the sealed segments that the cut names, and of a file.
func (m *machine) held(node int, file string) map[string][]byte {
	m.t.Helper()
	out := map[string][]byte{}
	all := m.nodes[node].Snapshot()
	take := func(man *record.Manifest, err error) {
		m.must(err)
		for _, h := range man.Nodes {
			if h.Node != m.store.order[node] {
				continue
			}
			for _, name := range m.shardNames(man, int(h.Index)) {
				if v, ok := all[name]; ok {
					out[name] = v
				}
			}
		}
	}
	m.store.mu.Lock()
	live := m.store.ledger.Live()
	m.store.mu.Unlock()
	for _, ref := range live {
		take(m.store.manifestOf(m.t.Context(), ref.SegmentKey))
	}
	if file != "" {
		take(m.store.fileManifest(m.t.Context(), file))
	}
	return out
}

func (m *machine) status() *client.Status {
	m.t.Helper()
	st, err := m.store.Status(m.t.Context())
	m.must(err)
	return st
}

func (m *machine) wantSafe() {
	m.t.Helper()
	last := ""
	defer func() {
		if m.t.Failed() {
			m.t.Log(last)
		}
	}()
	m.eventually("safe", func() bool {
		st := m.status()
		last = string(st.Safety) + ": " + st.Headline
		return st.Safety == client.Safe && st.SurvivableNodes == 2
	})
}

func (m *machine) consent(segment uint32) bool {
	m.t.Helper()
	r, err := m.store.Evict(m.t.Context(), client.EvictRequest{Namespace: nsData, Segment: segment})
	m.must(err)
	return r.OK
}

// refuse makes a node take no shards until it is called off.
func refuse(n *memnode.Node) {
	n.SetFault(func(op string, _ []byte) error {
		if op == "put" {
			return backend.ErrRefused
		}
		return nil
	})
}

// wantKnown waits until all that any node may have lost was looked at, and the note says so.
func (m *machine) wantKnown() {
	m.t.Helper()
	m.eventually("the note trusts all nodes", func() bool {
		noted := m.store.readNodesNote()
		for _, n := range noted {
			if n.Doubt {
				return false
			}
		}
		return len(noted) == len(m.nodes)
	})
}

// noFileList makes the list of files by name fail on all metadata nodes, so that no look at a node comes to its end.
func (m *machine) noFileList() {
	prefix := m.store.sealer.KindPrefix(m.store.sealer.KeyEpoch(), record.KindManifest)
	for _, n := range m.metas {
		n.SetFault(func(op string, name []byte) error {
			if op == "list" && bytes.Equal(name, prefix) {
				return backend.ErrRefused
			}
			return nil
		})
	}
}

// dispersedWorld is a machine with two sealed data segments, the first of them evicted, metadata, and a stored file.
func dispersedWorld(t *testing.T, before ...func(*machine)) (*world, *machine) {
	t.Helper()
	w := newWorld(t)
	a := w.machine().start()
	for _, f := range before {
		f(a)
	}
	a.format().mustMount()
	a.fill()
	a.fs.seal(nsData)
	a.fs.write(nsData, 5)
	a.mustShip()
	a.receipts()
	path := filepath.Join(t.TempDir(), "in")
	a.must(os.WriteFile(path, bytes.Repeat([]byte("file "), 9_000), 0o600))
	a.must(a.store.StoreFile(t.Context(), client.FileRequest{Name: "kept", Path: path}, quiet))
	a.eventually("consent", func() bool { return a.consent(0) })
	a.must(os.Remove(a.store.dataPath(segmentKey{Namespace: nsData, Segment: 0})))
	a.wantSafe()
	return w, a
}

// wantHeld checks that a node holds, byte for byte, what it held.
func (m *machine) wantHeld(node int, before map[string][]byte) {
	m.t.Helper()
	if len(before) < 10 {
		m.t.Errorf("node %d held %d shards before: that shows nothing", node, len(before))
	}
	now := m.nodes[node].Snapshot()
	for name, v := range before {
		if !bytes.Equal(now[name], v) {
			m.t.Errorf("node %d: a shard of %d bytes is now one of %d, or another", node, len(v), len(now[name]))
		}
	}
}

// wantReadable reads the evicted segment from the wiped nodes and two others.
func (m *machine) wantReadable(down ...int) {
	m.t.Helper()
	for _, i := range down {
		m.nodes[i].SetDown(true)
	}
	want := m.fs.logs[nsData].sealed[0]
	if got := m.fetchAll(segmentKey{Namespace: nsData, Segment: 0}, len(want)); !bytes.Equal(got, want) {
		m.t.Error("what is read from the nodes differs")
	}
	for _, i := range down {
		m.nodes[i].SetDown(false)
	}
}

// TestWipedNodesAreFilledAgain: two of six data nodes lose everything. Status says so, consent is refused, everything
// is made again on the same nodes with the same bytes, evicted segments included, and then all is well by itself.
func TestWipedNodesAreFilledAgain(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	before := []map[string][]byte{a.held(1, "kept"), a.held(2, "kept")}
	for _, i := range []int{1, 2} {
		w.nodes[i].Wipe()
		refuse(w.nodes[i]) // the test looks at the time before it is mended
	}
	a.eventually("status knows", func() bool {
		st := a.status()
		return st.Safety == client.Degraded && st.SurvivableNodes == 0 && st.Objects.Degraded >= 3 && len(st.Advice) == 2
	})
	if a.consent(1) {
		t.Error("consent while two nodes lack their shards")
	}
	if r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 1, Emergency: true}); err != nil || r.OK {
		t.Errorf("consent in an emergency with k confirmed shards: %+v, %v", r, err)
	}
	for _, i := range []int{1, 2} {
		w.nodes[i].SetFault(nil)
	}
	a.wantSafe()
	a.wantHeld(1, before[0])
	a.wantHeld(2, before[1])
	if !a.consent(1) {
		t.Error("no consent when all is there again")
	}
	a.wantReadable(3, 4)
	a.wantSafe()
	a.must(a.store.CheckFile(t.Context(), client.FileRequest{Name: "kept", Deep: true}, quiet))
	w.neverTwo()
	w.nodes[0].SetDown(true)
	w.nodes[5].SetDown(true)
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot()) // the tails are on the wiped nodes again, too
}

// TestWipedWhileZstorIsOff: the note tells a later process.
func TestWipedWhileZstorIsOff(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	before := a.held(4, "kept")
	a.kill()
	w.nodes[4].Wipe()
	refuse(w.nodes[4])
	a.start().mustMount()
	a.eventually("status knows", func() bool { return a.status().Objects.Degraded >= 3 })
	w.nodes[4].SetFault(nil)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.wantSafe()
	a.wantHeld(4, before)
	w.neverTwo()
}

// TestWipedBeforeItWasLookedAt: the kill comes before the first look at any node has ended. Status said "safe", so the note
// has the incarnations all the same, and the later process knows that the node is another one.
func TestWipedBeforeItWasLookedAt(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t, (*machine).noFileList)
	before := a.held(4, "kept")
	for id, n := range a.store.readNodesNote() {
		if !n.Doubt || !n.Unknown {
			t.Errorf("%s: the look at it has ended: %+v", id, n)
		}
	}
	a.kill()
	for _, n := range w.metas {
		n.SetFault(nil)
	}
	w.nodes[4].Wipe()
	refuse(w.nodes[4])
	a.start().mustMount()
	a.eventually("status knows", func() bool {
		st := a.status()
		if st.Safety == client.Safe {
			t.Fatalf("%s, with a node that was wiped", st.Headline)
		}
		return st.Objects.Degraded >= 3 && st.SurvivableNodes == 1
	})
	w.nodes[4].SetFault(nil)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.wantSafe()
	a.wantHeld(4, before)
	a.wantKnown()
	w.neverTwo()
}

// TestWipedAndTheNoteLost: nothing says that a node is another one than it was. Status does not take it for what it was
// before it was looked at, and says what it lacks when it was.
func TestWipedAndTheNoteLost(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	before := a.held(4, "kept")
	path := a.store.nodesPath()
	a.kill()
	a.must(os.Remove(path))
	w.nodes[4].Wipe()
	refuse(w.nodes[4])
	a.start().mustMount()
	a.eventually("status knows", func() bool {
		st := a.status()
		if st.Safety == client.Safe {
			t.Fatalf("%s, with a node that was wiped", st.Headline)
		}
		return st.Objects.Degraded >= 1 && st.SurvivableNodes == 1
	})
	if a.consent(1) {
		t.Error("consent while a node lacks its shards")
	}
	w.nodes[4].SetFault(nil)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.wantSafe()
	a.wantHeld(4, before)
	a.wantKnown()
	w.neverTwo()
}

// TestNoteBeforeItCounts: whoever has looked at the nodes goes by a note that is on disk, also when somebody else is
// writing it.
func TestNoteBeforeItCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.wantKnown()
	b := &a.store.doubts
	for range 20 {
		b.saveMu.Lock()
		b.mu.Lock()
		clear(b.noted)
		clear(b.lives)
		clear(b.nodes)
		a.must(os.WriteFile(a.store.nodesPath(), []byte("{}"), 0o600))
		b.mu.Unlock()
		b.saveMu.Unlock()
		var grp sync.WaitGroup
		for range 4 {
			grp.Go(func() {
				a.store.lookAtNodes()
				if n := len(a.store.readNodesNote()); n != len(w.nodes) {
					t.Errorf("the note knows %d nodes", n)
				}
			})
		}
		grp.Wait()
	}
}

// TestKilledWhileFilling: a process that ends in the middle leaves a note that the next one goes on with.
func TestKilledWhileFilling(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	before := a.held(0, "kept")
	w.nodes[0].Wipe()
	var puts atomic.Int64
	w.nodes[0].SetFault(func(op string, _ []byte) error {
		if op == "put" && puts.Add(1) > 4 {
			return backend.ErrRefused
		}
		return nil
	})
	a.eventually("it is half way", func() bool { return puts.Load() > 8 })
	a.kill()
	refuse(w.nodes[0])
	a.start().mustMount()
	a.eventually("status still knows", func() bool {
		st := a.status()
		return st.Objects.Degraded >= 1 && st.SurvivableNodes == 1 && !a.consent(1)
	})
	w.nodes[0].SetFault(nil)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.wantSafe()
	a.wantHeld(0, before)
	w.neverTwo()
}

// TestWipedAgainWhileFilling: what was made again before the second time is made again after it.
func TestWipedAgainWhileFilling(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	before := a.held(5, "kept")
	w.nodes[5].Wipe()
	var puts atomic.Int64
	w.nodes[5].SetFault(func(op string, _ []byte) error {
		if op == "put" && puts.Add(1) == 6 {
			go w.nodes[5].Wipe()
		}
		return nil
	})
	a.eventually("it is seen as the third one", func() bool {
		life, _ := a.store.peers[a.store.order[5]].Life()
		return life == 3
	})
	a.wantSafe()
	a.wantHeld(5, before)
	w.neverTwo()
}

// TestWipedNodeThatLies: it says that it has its shards, and has something else under their names.
func TestWipedNodeThatLies(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	before := a.held(3, "kept")
	garbage := maps.Clone(w.nodes[3].Snapshot())
	for name := range garbage {
		garbage[name] = []byte("garbage")
	}
	w.nodes[3].SetLie(func(_, v []byte) []byte { return bytes.Repeat([]byte{7}, len(v)) })
	w.nodes[3].Wipe()
	w.nodes[3].Restore(garbage)
	a.eventually("status knows", func() bool { return a.status().Objects.Degraded >= 3 })
	time.Sleep(500 * time.Millisecond) // it was written anew several times by now, and still gives garbage
	if st := a.status(); st.Safety == client.Safe || a.consent(1) {
		t.Errorf("%s, with a node that gives garbage", st.Safety)
	}
	w.nodes[3].SetLie(nil)
	a.wantSafe()
	a.wantHeld(3, before)
	w.neverTwo()
}

// TestRepliesLostWhileFilling: what was applied although its reply was lost is offered again, the same.
func TestRepliesLostWhileFilling(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	before := a.held(2, "kept")
	w.nodes[2].Wipe()
	var puts atomic.Int64
	w.nodes[2].SetFault(func(op string, _ []byte) error {
		if op == "put" && puts.Add(1)%2 == 0 {
			return memnode.Late(errors.New("reply lost"))
		}
		return nil
	})
	a.eventually("it is filled", func() bool { return puts.Load() > int64(len(before)) })
	a.wantSafe()
	a.wantHeld(2, before)
	w.neverTwo()
}

// TestMoreWipedThanTheCodeBears: what is on this machine is stored anew; status says what is lost until then.
func TestMoreWipedThanTheCodeBears(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	k := segmentKey{Namespace: nsData, Segment: 1}
	old, _, _ := a.store.lookup(k)
	for _, i := range []int{0, 1, 2} {
		w.nodes[i].Wipe()
	}
	a.eventually("status knows what is lost", func() bool {
		st := a.status()
		return st.Safety == client.AtRisk && st.Objects.Lost == 1 && st.Objects.Gone == 1
	})
	a.eventually("a segment with a local copy is stored anew", func() bool {
		now, _, _ := a.store.lookup(k)
		return now.Generation != old.Generation
	})
	a.eventually("consent for what was stored anew", func() bool { return a.consent(1) })
	a.must(os.Remove(a.store.dataPath(k)))
	if got := a.fetchAll(k, len(a.fs.logs[nsData].sealed[1])); !bytes.Equal(got, a.fs.logs[nsData].sealed[1]) {
		t.Error("what was stored anew differs")
	}
	w.neverTwo()
}

// TestWipedDuringTheUpload: a segment whose first stripes are lost when it is sealed is not taken for complete.
func TestWipedDuringTheUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 60)
	a.mustShip() // whole stripes of the active segment
	life, _ := a.store.peers[a.store.order[4]].Life()
	a.store.roundMu.lock() // a round would ship the tail anew
	w.nodes[4].Wipe()
	a.eventually("the node is seen as another one", func() bool {
		l, _ := a.store.peers[a.store.order[4]].Life()
		return l != life
	})
	a.eventually("nothing is in doubt", func() bool { // but the tails
		n, _ := a.store.doubts.renewed()
		return n[a.store.order[4]] == 1
	})
	a.fs.write(nsData, 60)
	a.fs.seal(nsData)
	a.eventually("the watcher shipped it", func() bool { return a.store.segment(segmentKey{Namespace: nsData, Segment: 0}).shipped() })
	a.store.roundMu.unlock()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.receipts()
	a.wantSafe()
	m, err := a.store.manifestOf(t.Context(), segmentKey{Namespace: nsData, Segment: 0})
	a.must(err)
	held := len(a.held(4, ""))
	if want := int(m.DataStripes + m.IndexStripes); held != want {
		t.Errorf("the wiped node holds %d shards, want %d", held, want)
	}
	a.kill()
	w.nodes[0].SetDown(true)
	w.nodes[1].SetDown(true)
	w.recover().wantRecovered(a.fs.snapshot())
	w.neverTwo()
}

// TestWipedBeforeItIsCompleted: a node that missed the end of a segment and was wiped before it got it lacks all of it, not
// only what the upload knows to be missing.
func TestWipedBeforeItIsCompleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 60)
	a.mustShip() // whole stripes, to all nodes
	w.nodes[4].SetDown(true)
	k := segmentKey{Namespace: nsData, Segment: 0}
	a.fs.write(nsData, 60)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	var o *object
	for _, x := range a.store.objects.all() {
		if x.key == k {
			o = x
		}
	}
	if o == nil || o.gen == nil {
		t.Fatal("the segment is complete")
	}
	m := o.manifest()
	index := slices.IndexFunc(m.Nodes, func(h record.Holding) bool { return h.Node == a.store.order[4] })
	if n := len(o.gen.MissingOf(index)); n == 0 || n >= int(m.DataStripes+m.IndexStripes) {
		t.Fatalf("the upload knows %d of %d stripes to be missing", n, m.DataStripes+m.IndexStripes)
	}
	life, _ := a.store.peers[a.store.order[4]].Life()
	refuse(w.nodes[4]) // nothing is made again meanwhile
	w.nodes[4].Wipe()
	w.nodes[4].SetDown(false)
	a.eventually("the node is seen as another one", func() bool {
		l, _ := a.store.peers[a.store.order[4]].Life()
		return l != life
	})
	missing, err := a.store.missingOf(t.Context(), o, m, index)
	if err != nil || len(missing) != int(m.DataStripes+m.IndexStripes) {
		t.Errorf("%d of %d stripes are missing, %v", len(missing), m.DataStripes+m.IndexStripes, err)
	}
	w.nodes[4].SetFault(nil)
	a.receipts()
	a.wantSafe()
	w.neverTwo()
}

// TestUnknownNodesAreLookedAt: a new machine knows nothing of the nodes. What they confirmed counts only when it was
// looked at, and what is missing is made again.
func TestUnknownNodesAreLookedAt(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	before := a.held(1, "kept")
	want := a.fs.snapshot()
	a.kill()
	w.nodes[1].Wipe()
	refuse(w.nodes[1])
	b := w.recover()
	b.mustMount()
	b.eventually("an object is not taken for confirmed", func() bool {
		st := b.status()
		if st.Safety == client.Safe {
			t.Fatalf("%s, with a node that was wiped", st.Headline)
		}
		return st.Objects.Unconfirmed+st.Objects.Degraded > 0
	})
	if d, _ := b.store.doubts.of(b.store.order[1], "zdbfs-data/0"); !d {
		t.Error("the wiped node is trusted")
	}
	w.nodes[1].SetFault(nil)
	b.wantSafe()
	b.wantKnown()
	b.wantHeld(1, before)
	b.wantRecovered(want)
	w.neverTwo()
}

// TestLostNote: without the note nothing is known, and that costs a look, no more.
func TestLostNote(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	path := a.store.nodesPath()
	held := map[string][]byte{}
	for i := range w.nodes {
		maps.Copy(held, a.held(i, "kept"))
	}
	a.kill()
	a.must(os.WriteFile(path, []byte("{torn"), 0o600))
	var puts atomic.Int64
	for _, n := range w.nodes {
		n.SetFault(func(op string, name []byte) error {
			if op == "put" && held[string(name)] != nil {
				puts.Add(1)
			}
			return nil
		})
	}
	a.start().mustMount()
	a.wantSafe()
	a.eventually("consent", func() bool { return a.consent(1) })
	if n := puts.Load(); n > 0 {
		t.Errorf("%d shards were made again, though nothing was missing", n)
	}
	a.wantKnown()
	if got := a.store.readNodesNote(); got[a.store.order[0]].Incarnation == "" {
		t.Errorf("the note says %v", got)
	}
}

// TestWipedServerWithoutIncarnation: it shows fewer entries than it had. What is made again there counts once it was
// read back.
func TestWipedServerWithoutIncarnation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.QSFS.ConfirmAfter = 100 * time.Millisecond
	w.nodes[2].SetAnonymous()
	w.nodes[2].SetDurability(backend.Durability{Unconfirmed: true})
	a := w.machine().start().format().mustMount()
	a.fill()
	a.fs.seal(nsData)
	a.fs.write(nsData, 5)
	a.mustShip()
	a.receipts()
	a.eventually("consent", func() bool { return a.consent(0) })
	for range 5 {
		a.fs.write(nsMeta, 30)
		a.mustShip() // pieces come and go
	}
	a.eventually("deletions are done", func() bool { return a.store.intents.count() == 0 })
	time.Sleep(200 * time.Millisecond)
	if life, _ := a.store.peers[a.store.order[2]].Life(); life != 1 {
		t.Fatalf("deletions were taken for a loss: life %d", life)
	}
	before := a.held(2, "")
	gets := w.nodes[2].Counts().Gets
	w.nodes[2].Wipe()
	refuse(w.nodes[2])
	a.eventually("status knows", func() bool { return a.status().Objects.Degraded >= 3 })
	w.nodes[2].SetFault(nil)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.wantSafe()
	a.wantHeld(2, before)
	if n := w.nodes[2].Counts().Gets - gets; n < len(before) {
		t.Errorf("%d shards were read back, want at least %d", n, len(before))
	}
	w.neverTwo()
}
