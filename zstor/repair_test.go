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
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/backend/memnode"
	"qsfs/zstor/internal/record"
)

// TestCrashBeforeItWasDurable: a node promises stable storage some time after its acknowledgement, and crashes before.
// What it lost is made again before anything of it counts as confirmed.
func TestCrashBeforeItWasDurable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nodes[1].SetDurability(backend.Durability{After: 400 * time.Millisecond})
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	before := a.held(1, "")
	w.nodes[1].Crash()
	if len(before) == 0 || len(a.held(1, "")) != 0 {
		t.Fatal("the crash took nothing: the test does not take its path")
	}
	a.receipts()
	if n := len(a.held(1, "")); n != len(before) {
		t.Errorf("confirmed, and the node holds %d of %d shards", n, len(before))
	}
	w.neverTwo()
}

// TestTailOnNodesThatNothingIsKnownOf: two nodes lose everything while zstor is off, and what was noted of them is lost, too.
func TestTailOnNodesThatNothingIsKnownOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 90)
	a.fs.write(nsMeta, 2)
	a.mustShip()
	path := a.store.nodesPath()
	a.kill()
	a.must(os.Remove(path))
	w.nodes[1].Wipe()
	w.nodes[2].Wipe()
	a.start()
	if r := a.attach(); r.Verdict != client.Verified {
		t.Fatal(r)
	}
	a.wantKnown()
	a.wantSafe()
	a.wantRecoveredWithout(0, 5)
	w.neverTwo()
}

// TestReplacedFileIsDeletedByTheNextProcess: a process ends when the manifest of a replacement counts, and before it has
// deleted what was replaced.
func TestReplacedFileIsDeletedByTheNextProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	p := filepath.Join(t.TempDir(), "f")
	req := client.FileRequest{Name: "f", Path: p, Replace: true}
	a.must(os.WriteFile(p, bytes.Repeat([]byte("old "), 9000), 0o600))
	a.must(a.store.StoreFile(t.Context(), req, quiet))
	m, err := a.store.fileManifest(t.Context(), "f")
	a.must(err)
	var old []string
	for i := range int(m.N) {
		old = append(old, a.shardNames(m, i)...)
	}
	prefix := a.store.sealer.KindPrefix(a.store.sealer.KeyEpoch(), record.KindManifest)
	for _, n := range w.metas {
		n.SetFault(func(op string, name []byte) error {
			if op == "put" && bytes.HasPrefix(name, prefix) {
				return memnode.Late(errors.New("the process is gone"))
			}
			return nil
		})
	}
	a.must(os.WriteFile(p, bytes.Repeat([]byte("new!"), 9000), 0o600))
	if err := a.store.StoreFile(t.Context(), req, quiet); err == nil {
		t.Fatal("it was acknowledged: the test does not take its path")
	}
	for _, n := range w.metas {
		n.SetFault(nil)
	}
	a.kill()
	a.start().mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.eventually("what was replaced is deleted", func() bool {
		for _, n := range w.nodes {
			held := n.Snapshot()
			for _, name := range old {
				if _, ok := held[name]; ok {
					return false
				}
			}
		}
		return true
	})
	a.must(a.store.CheckFile(t.Context(), client.FileRequest{Name: "f", Deep: true}, quiet))
	now, err := a.store.fileManifest(t.Context(), "f")
	if err != nil || now.Generation == m.Generation {
		t.Errorf("the old manifest counts again, %v", err)
	}
	w.neverTwo()
}

// TestOneFallbackDoesNotStopTheOthers: a segment that cannot be encoded anew does not keep others under the fallback.
func TestOneFallbackDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withFallback)
	a := w.machine().start().format().mustMount()
	w.group(2, true)
	w.eventually("the group is seen down", func() bool { return !a.store.peers[a.store.order[4]].Up() && !a.store.peers[a.store.order[5]].Up() })
	for range 2 {
		a.fs.write(nsData, 40)
		a.fs.seal(nsData)
	}
	a.fs.write(nsMeta, 1)
	a.mustShip()
	path := a.store.dataPath(segmentKey{Namespace: nsData, Segment: 0})
	b, err := os.ReadFile(path)
	a.must(err)
	b[30_000] ^= 1
	a.must(os.WriteFile(path, b, 0o600))
	w.group(2, false)
	a.eventually("the other one is under the main policy", func() bool {
		m, err := a.store.manifestOf(t.Context(), segmentKey{Namespace: nsData, Segment: 1})
		return err == nil && !m.Fallback && a.consent(1)
	})
	m, err := a.store.manifestOf(t.Context(), segmentKey{Namespace: nsData, Segment: 0})
	if err != nil || !m.Fallback {
		t.Errorf("a damaged copy took the place of a good one: %+v, %v", m, err)
	}
}

// TestReplacedWhileItIsFilled: a shard is on its way to a node that was wiped, while another generation takes the place
// of its own and the shards of the old one are deleted. It does not arrive after that.
func TestReplacedWhileItIsFilled(t *testing.T) {
	t.Parallel()
	w, a := dispersedWorld(t)
	k := segmentKey{Namespace: nsData, Segment: 1}
	old, _, _ := a.store.lookup(k)
	m, err := a.store.manifestOf(t.Context(), k)
	a.must(err)
	names := map[string]bool{}
	for i := range int(m.N) {
		for _, name := range a.shardNames(m, i) {
			names[name] = true
		}
	}
	gate := make(chan struct{})
	var waits atomic.Int64
	w.nodes[3].Wipe()
	w.nodes[3].SetFault(func(op string, name []byte) error {
		if op == "put" && names[string(name)] && waits.Add(1) == 1 {
			<-gate
		}
		return nil
	})
	a.eventually("a shard is on its way", func() bool { return waits.Load() > 0 })
	a.must(a.store.encodeAnew(k))
	a.eventually("another generation has taken the place", func() bool {
		now, _, _ := a.store.lookup(k)
		return now.Generation != old.Generation
	})
	owed := a.store.forceRound()
	a.eventually("that is acknowledged", func() bool { return a.store.shippedSince(owed) })
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end) && a.store.intents.count() > 0; {
		time.Sleep(5 * time.Millisecond)
	}
	close(gate)
	a.eventually("the node is filled", func() bool { n, _ := a.store.doubts.renewed(); return len(n) == 0 })
	a.eventually("nothing of the old generation is left", func() bool {
		for name := range w.nodes[3].Snapshot() {
			if names[name] {
				return false
			}
		}
		return a.store.intents.count() == 0
	})
	a.wantSafe()
	w.neverTwo()
}
