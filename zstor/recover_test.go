package zstor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/backend/memnode"
	"qsfs/zstor/internal/record"
)

func quiet(client.Progress) {}

// TestRecoveryKilledHalfWay breaks a recovery off at each read of a data node in turn, and runs it
// again in the same directory: it ends in the same state, in the same epoch.
func TestRecoveryKilledHalfWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	a.fill()
	a.mustShip()
	a.receipts()
	want := a.fs.snapshot()
	a.kill()
	interrupted := 0
	for stop := int64(1); ; stop += 11 {
		b := w.machine().start()
		var gets atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		for _, n := range w.nodes {
			n.SetFault(func(op string, name []byte) error {
				if op == "get" && gets.Add(1) >= stop {
					cancel()
					return context.Canceled
				}
				return nil
			})
		}
		err := b.store.Recover(ctx, quiet)
		for _, n := range w.nodes {
			n.SetFault(nil)
		}
		cancel()
		if err == nil {
			break
		}
		interrupted++
		b.kill()
		b.start()
		before, _ := client.ReadOwner(b.dir)
		if err := b.store.Recover(t.Context(), quiet); err != nil {
			t.Fatalf("stop %d: run again: %v", stop, err)
		}
		after, err := client.ReadOwner(b.dir)
		if err != nil || after.Epoch != before.Epoch && before.Epoch != 0 {
			t.Errorf("stop %d: epoch %d became %d; %v", stop, before.Epoch, after.Epoch, err)
		}
		b.wantRecovered(want)
		left, err := filepath.Glob(filepath.Join(b.dir, "*", "*", ".restore*"))
		if err != nil || len(left) > 0 {
			t.Errorf("stop %d: left behind %v, %v", stop, left, err)
		}
		b.kill()
		if t.Failed() {
			return
		}
	}
	if interrupted < 3 {
		t.Errorf("only %d recoveries were interrupted", interrupted)
	}
	w.neverTwo()
}

// TestRecoveryRefusesAStateInUse leaves a working state alone.
func TestRecoveryRefusesAStateInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	if err := a.store.Recover(t.Context(), quiet); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("own state: got %v", err)
	}
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.kill()
	a.must(os.Remove(filepath.Join(a.dir, client.OwnerFile)))
	a.start()
	if err := a.store.Recover(t.Context(), quiet); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("segments without an owner: got %v", err)
	}
}

func TestOldWriterIsFenced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	want := a.fs.snapshot()
	b := w.recover().mustMount()
	a.fs.write(nsMeta, 1)
	if err := a.ship(); !errors.Is(err, client.ErrFenced) {
		t.Fatalf("the old writer: got %v, want fenced", err)
	}
	if _, err := a.store.Heads(t.Context(), client.HeadsRequest{Session: a.fs.session, Meta: a.fs.head(nsMeta), Data: a.fs.head(nsData)}); !errors.Is(err, client.ErrFenced) {
		t.Errorf("announcing: got %v, want fenced", err)
	}
	st, err := a.store.Status(t.Context())
	if err != nil || st.Safety != client.Stopped || st.Verdict != client.Fenced {
		t.Errorf("status: %s, %s, %v", st.Safety, st.Verdict, err)
	}
	if r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0}); err != nil || r.OK {
		t.Errorf("consent by a fenced writer: %+v, %v", r, err)
	}
	b.wantRecovered(want)
	b.fs.write(nsMeta, 2)
	b.mustShip()
}

// TestFencedIsNoticedWhenIdle: a writer that has nothing to ship hears of it too.
func TestFencedIsNoticedWhenIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	w.recover()
	a.eventually("the idle writer notices", func() bool {
		st, err := a.store.Status(t.Context())
		return err == nil && st.Verdict == client.Fenced && st.TakenBy == 2
	})
}

func TestTakeoverOfTheOwnState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	// Somebody claims and does nothing.
	b := w.recover()
	b.kill()
	r, err := a.store.Takeover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != client.Stale {
		t.Fatalf("the cut is of another epoch now: got %s", r.Verdict)
	}
	// An old machine whose cut is still the newest goes on.
	c := w.recover().mustMount()
	c.fs.write(nsMeta, 3)
	c.mustShip()
	c.kill()
	c.start()
	if r, err = c.store.Takeover(t.Context()); err != nil || r.Verdict != client.Verified {
		t.Fatalf("its own newest cut: got %+v, %v", r, err)
	}
	if r.Owner.Epoch != 4 && r.Owner.Epoch != 5 {
		t.Errorf("epoch %d", r.Owner.Epoch)
	}
	c.mustMount()
	c.fs.write(nsData, 20)
	c.mustShip()
	w.recover().wantRecovered(c.fs.snapshot())
}

// TestRolledBackMachineIsStale: the state directory of yesterday, and one that wrote on after it.
func TestRolledBackMachineIsStale(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	old := a.fs.request()
	a.fs.write(nsMeta, 5)
	a.mustShip()
	r, err := a.store.Attach(t.Context(), old)
	if err != nil || r.Verdict != client.Stale {
		t.Errorf("older heads: got %s, %v", r.Verdict, err)
	}
	if _, err := a.store.Heads(t.Context(), client.HeadsRequest{Session: old.Session, Meta: old.Meta, Data: old.Data}); !errors.Is(err, client.ErrStale) {
		t.Errorf("a stale state announces: got %v", err)
	}
	forked := a.fs.request()
	forked.Session = 77
	forked.Sessions = append(forked.Sessions[:len(forked.Sessions):len(forked.Sessions)], client.SessionStart{FirstSeq: forked.Meta.Seq - 2, Session: 77})
	forked.Meta.Seq += 100
	if r, err = a.store.Attach(t.Context(), forked); err != nil || r.Verdict != client.Stale {
		t.Errorf("another session where the cut ended: got %s, %v", r.Verdict, err)
	}
	if r := a.attach(); r.Verdict != client.Verified {
		t.Errorf("the real state: got %s (%s)", r.Verdict, r.Reason)
	}
}

// TestNothingShipsUnverified: with too few metadata nodes a state is not verified; it ships by itself
// once they are back.
func TestNothingShipsUnverified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	a.kill()
	for i := range 4 {
		w.metas[i].SetDown(true)
	}
	a.start()
	if r := a.mount(); r.Verdict != client.Unverified {
		t.Fatalf("verdict %s", r.Verdict)
	}
	puts := w.nodes[0].Counts().Puts
	a.fs.write(nsMeta, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := a.shipWithin(ctx); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if w.nodes[0].Counts().Puts != puts {
		t.Error("something was shipped unverified")
	}
	for i := range 4 {
		w.metas[i].SetDown(false)
	}
	a.mustShip()
	w.recover().wantRecovered(a.fs.snapshot())
}

// TestWipedMetadataNodeIsRebuilt, and counts again.
func TestWipedMetadataNodeIsRebuilt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	w.metas[1].Wipe()
	w.metas[4].SetDown(true) // and one is stale at once
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.eventually("the wiped node counts again", func() bool { return w.metas[1].Len() > 3 && a.store.set.Status(t.Context()).Nodes[1].Counts })
	w.metas[4].SetDown(false)
	w.metas[0].SetDown(true)
	w.metas[5].SetDown(true)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
}

// TestMetadataNodeCatchesUpAfterARestart: what a metadata node missed while it was away is brought to it by a process
// that did not see it missing anything.
func TestMetadataNodeCatchesUpAfterARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	w.metas[5].SetDown(true)
	a.fill()
	a.mustShip()
	a.receipts()
	a.kill()
	a.start()
	a.eventually("a look at the nodes", func() bool { return a.store.metaStatus(t.Context()).Counting == 5 })
	time.Sleep(3 * a.store.o.Maintain) // those that are there are compared
	w.metas[5].SetDown(false)
	if len(a.manifestNames(5)) > 0 {
		t.Fatal("it has manifests")
	}
	a.eventually("it has all manifests", func() bool {
		want := a.manifestNames(0)
		return len(want) > 0 && slices.Equal(a.manifestNames(5), want)
	})
	a.eventually("nothing is left to be done", func() bool {
		st := a.store.metaStatus(t.Context())
		return st.NeedsRebuild() == nil && !st.Unseen()
	})
}

// manifestNames lists the manifests that a metadata node holds.
func (m *machine) manifestNames(node int) (out []string) {
	m.t.Helper()
	prefix := m.store.sealer.KindPrefix(m.store.sealer.KeyEpoch(), record.KindManifest)
	_, names, err := m.store.metas[node].List(m.t.Context(), prefix)
	m.must(err)
	for _, n := range names {
		out = append(out, string(n))
	}
	slices.Sort(out)
	return out
}

// TestDamagedRecordIsOneBadAnswer: it neither stops nor misleads anybody.
func TestDamagedRecordIsOneBadAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	a.kill()
	w.metas[2].Damage()
	b := w.recover()
	b.wantRecovered(a.fs.snapshot())
	b.mustMount()
	b.fs.write(nsMeta, 1)
	b.mustShip()
}

// TestDamageIsNotAbsence: nodes that answer with damage are not called unreachable, and the other way round.
func TestDamageIsNotAbsence(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(*memnode.Meta){
		"owner":  func(m *memnode.Meta) { m.DamageThe(func(name string) bool { return name == string(record.EpochName) }) },
		"record": func(m *memnode.Meta) { m.DamageThe(func(name string) bool { return len(name) == len(record.Name{}) }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.machine().start().format().mustMount()
			a.fill()
			a.mustShip()
			a.kill()
			for _, m := range w.metas {
				damage(m)
			}
			b := w.machine().start()
			if err := b.store.Recover(t.Context(), quiet); !errors.Is(err, client.ErrDamaged) || errors.Is(err, client.ErrUnavailable) {
				t.Errorf("damaged: got %v", err)
			}
			for _, m := range w.metas {
				m.SetDown(true)
			}
			c := w.machine().start()
			if err := c.store.Recover(t.Context(), quiet); !errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrDamaged) {
				t.Errorf("down: got %v", err)
			}
		})
	}
}

// TestHiddenCutIsNoticed: metadata nodes that all went back to yesterday are contradicted by the data
// nodes, which know the head of the newest cut.
func TestHiddenCutIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	a.kill() // the background is quiet: the snapshot is of one moment
	for _, m := range w.metas {
		m.Keep()
	}
	a.start().mustMount()
	a.fs.write(nsMeta, 9)
	a.mustShip()
	a.kill()
	for _, m := range w.metas {
		m.GoBack()
	}
	b := w.machine().start()
	if err := b.store.Recover(t.Context(), quiet); !errors.Is(err, client.ErrDamaged) {
		t.Fatalf("got %v, want the contradiction", err)
	}
}

// TestTwoTakeoversInARow: each continues what the one before acknowledged.
func TestTwoTakeoversInARow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.machine().start().format().mustMount()
	for range 3 {
		m.fill()
		m.mustShip()
		want := m.fs.snapshot()
		next := w.recover()
		next.wantRecovered(want)
		next.mustMount()
		m.fs.write(nsMeta, 1)
		if err := m.ship(); !errors.Is(err, client.ErrFenced) {
			t.Fatalf("the one before: got %v", err)
		}
		m = next
	}
}

// TestBaseIsMadeAndRead: with many segments the cut refers to a dispersed base.
func TestBaseIsMadeAndRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	for i := range 270 {
		a.fs.write(nsData, 1)
		a.fs.seal(nsData)
		if i%90 == 89 {
			a.mustShip()
		}
	}
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.store.mu.Lock()
	base := a.store.cut.Base
	a.store.mu.Unlock()
	if base == nil || base.Count < 200 {
		t.Fatalf("base %+v", base)
	}
	a.kill()
	b := w.recover()
	b.wantRecovered(a.fs.snapshot())
	if n := len(b.store.ledger.Live()); n != 270 {
		t.Errorf("%d live segments", n)
	}
}

// TestNewSegmentsGetFreshNumbers: what an intent names is never used again, although no cut does.
func TestNewSegmentsGetFreshNumbers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	// A higher segment is declared and never cut.
	if _, err := a.store.begin(t.Context(), segmentObject(record.SegmentKey{Namespace: nsData, Segment: 40}), func(int) uint32 { return 1 }); err != nil {
		t.Fatal(err)
	}
	a.kill()
	b := w.recover()
	cut, err := client.ReadCut(b.dir)
	if err != nil || cut.MinSegment(nsData) != 41 {
		t.Errorf("next segment %d, want 41; %v", cut.MinSegment(nsData), err)
	}
	if got := cut.Lengths(nsData)[cut.Data.Segment]; got != cut.Data.Offset || got == 0 {
		t.Errorf("known length %d", got)
	}
}
