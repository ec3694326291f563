package zstor

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/record"
)

// slow puts all data nodes at the end of slow lines, or ends that.
func (w *world) slow(rate int64) {
	for _, n := range w.nodes {
		n.SetRate(rate)
	}
}

// restart ends zstor and starts it again under a mount that goes on.
func (m *machine) restart() {
	m.t.Helper()
	m.kill()
	m.start()
	if r := m.attach(); r.Verdict != client.Verified {
		m.t.Fatal(r)
	}
}

// trickle writes a little and announces it.
func (m *machine) trickle() {
	m.t.Helper()
	m.fs.write(nsData, 1)
	m.fs.write(nsMeta, 1)
	if _, err := m.store.Heads(m.t.Context(), client.HeadsRequest{Session: m.fs.session, Meta: m.fs.head(nsMeta), Data: m.fs.head(nsData)}); err != nil {
		m.t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
}

// wantCuts trickles until so many more cuts are acknowledged.
func (m *machine) wantCuts(n uint64) {
	m.t.Helper()
	first := m.newestCut().Number
	m.eventually("cuts go on", func() bool {
		m.trickle()
		return m.newestCut().Number >= first+n
	})
}

// newestCut gives the cut that is acknowledged.
func (m *machine) newestCut() *record.Cut {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	return m.store.cut
}

func (m *machine) sealedTail(k segmentKey) bool {
	for _, t := range m.newestCut().Tails {
		if t.SegmentKey == k {
			return t.Sealed
		}
	}
	return false
}

// wantCut checks a recovered machine against what a cut said of the writer's logs.
func (m *machine) wantCut(c *record.Cut, fs *writer) {
	m.t.Helper()
	want := fs.snapshot()
	for ns, h := range map[string]record.Head{nsData: c.Data, nsMeta: c.Meta} {
		for seg := uint32(0); seg <= h.Segment; seg++ {
			k := segmentKey{Namespace: ns, Segment: seg}
			b := want[segmentObject(k)]
			if seg == h.Segment {
				b = b[:h.Offset]
			}
			got, err := os.ReadFile(m.store.dataPath(k))
			if err != nil || !bytes.Equal(got, b) {
				m.t.Errorf("%s: recovered %d bytes (%v), want %d", segmentObject(k), len(got), err, len(b))
			}
		}
	}
}

// TestCutsGoOnWhileASealedSegmentShips: zstor was restarted, the segment that it had shipped nearly all
// of is sealed and has to leave once more over a slow line. Cuts go on with its tail; the machine is lost
// in this moment, and everything that the newest cut says comes back.
func TestCutsGoOnWhileASealedSegmentShips(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.QSFS.SyncInterval = time.Second
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 2000)
	a.fs.write(nsMeta, 30)
	a.mustShip()
	w.slow(20_000) // two megabytes take half a minute and more
	a.restart()
	a.fs.write(nsData, 3)
	k := segmentKey{Namespace: nsData, Segment: a.fs.logs[nsData].seg}
	a.fs.seal(nsData)
	a.wantCuts(3) // the first may have begun before; with them the object is far from the floor
	cut := a.newestCut()
	if cut.Data.Segment != k.Segment+1 || !a.sealedTail(k) || a.store.objects.recall(k) != nil {
		t.Fatalf("the cut ends in segment %d, sealed tail %v, object at the floor %v", cut.Data.Segment, a.sealedTail(k), a.store.objects.recall(k) != nil)
	}
	a.kill()
	cut = a.lastCutOnRecord(cut)
	w.slow(0)
	b := w.recover()
	b.wantCut(cut, a.fs)
	// The new machine continues the cut: what it recovered as a tail is dispersed whole in the end.
	b.mustMount()
	b.fs.write(nsData, 1)
	b.mustShip()
	b.receipts()
	c := w.recover()
	c.wantRecovered(b.fs.snapshot())
}

// lastCutOnRecord is the newest cut of a machine that was killed: one more may have been acknowledged
// since it was looked at.
func (m *machine) lastCutOnRecord(seen *record.Cut) *record.Cut {
	n, err := client.ReadCut(m.dir)
	m.must(err)
	c := *seen
	c.Meta, c.Data = toHead(n.Meta), toHead(n.Data)
	return &c
}

// TestHeldTailIsReplaced: when the object is at the floor, it takes the place of the tail, and nothing of
// the tail stays on the nodes.
func TestHeldTailIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.QSFS.SyncInterval = 200 * time.Millisecond
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 1000)
	a.fs.write(nsMeta, 200)
	a.mustShip()
	w.slow(20_000)
	a.restart()
	for _, ns := range []string{nsData, nsMeta} {
		a.fs.write(ns, 1)
		a.fs.seal(ns)
		a.fs.write(ns, 1)
	}
	a.mustShip()
	k := segmentKey{Namespace: nsData}
	if !a.sealedTail(k) || !a.sealedTail(segmentKey{Namespace: nsMeta}) {
		t.Fatal("the cut does not hold the sealed segments by their tails")
	}
	// A second restart finds the held tails in the newest cut, and holds on to them.
	a.restart()
	a.fs.write(nsData, 1)
	a.mustShip()
	if !a.sealedTail(k) {
		t.Fatal("a restart gave up what the cut held")
	}
	w.slow(0)
	a.eventually("the objects are dispersed", func() bool {
		a.trickle()
		_, data, _ := a.store.lookup(k)
		_, meta, _ := a.store.lookup(segmentKey{Namespace: nsMeta})
		return data && meta && !a.sealedTail(k)
	})
	a.mustShip()
	a.receipts()
	a.onlyWhatTheCutNames()
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
}

// TestTailGoesOnAfterARestart: a restart of zstor does not hold up cuts until the active segment has left
// once more; its whole stripes are made up for beside the rounds.
func TestTailGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.QSFS.SyncInterval = time.Second
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 2000)
	a.fs.write(nsMeta, 3)
	a.mustShip()
	before := a.newestCut()
	w.slow(20_000)
	a.restart()
	a.wantCuts(3)
	cut := a.newestCut()
	if whole := cut.Tails[0].Whole; cut.Data.Offset <= before.Data.Offset || whole == nil || whole.Generation != before.Tails[0].Whole.Generation {
		t.Errorf("the cut ends at %d, the one before the restart at %d; it waited for whole stripes", cut.Data.Offset, before.Data.Offset)
	}
	w.slow(0)
	a.eventually("the present generation has made up", func() bool {
		a.trickle()
		whole := a.newestCut().Tails[0].Whole
		return whole != nil && before.Tails[0].Whole.Generation != whole.Generation
	})
	a.mustShip()
	a.onlyWhatTheCutNames()
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
}

// TestShorterThanItsTail: a segment that was sealed shorter than what was shipped of it is not held.
func TestShorterThanItsTail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 300)
	a.mustShip()
	l := a.fs.logs[nsData]
	l.b = l.b[:len(l.b)-2*entrySize]
	a.must(os.WriteFile(filepath.Join(a.dir, "data", nsData, "d0"), l.b, 0o600))
	a.kill()
	a.fs.seal(nsData)
	a.start()
	a.attach()
	a.mustShip()
	if ref, listed, _ := a.store.lookup(segmentKey{Namespace: nsData}); !listed || ref.DataLen != int64(len(l.sealed[0])) {
		t.Errorf("listed %v with %d bytes, want %d", listed, ref.DataLen, len(l.sealed[0]))
	}
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
}
