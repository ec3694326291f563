package zstor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/backend/memnode"
	"qsfs/zstor/internal/record"
)

// TestNewSessionKeepsASealedObject: a segment goes on in a new session and is sealed and shipped while a round ships
// its tail.
func TestNewSessionKeepsASealedObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsMeta, 5)
	a.fs.write(nsData, 5)
	a.mustShip() // tails of session 1
	// clean remount: the same segments go on in a new session
	a.fs.session = a.fs.session + 2
	for _, ns := range []string{nsData, nsMeta} {
		l := a.fs.logs[ns]
		l.sessions = append(l.sessions, client.SessionStart{FirstSeq: l.seq + 1, Session: a.fs.session})
	}
	if r := a.attach(); r.Verdict != client.Verified {
		t.Fatal(r)
	}
	s := a.store
	time.Sleep(200 * time.Millisecond)
	s.roundMu.lock()
	a.fs.write(nsData, 3)
	if _, err := s.Heads(t.Context(), client.HeadsRequest{Session: a.fs.session, Meta: a.fs.head(nsMeta), Data: a.fs.head(nsData)}); err != nil {
		t.Fatal(err)
	}
	tg, err := s.aim(t.Context()) // a round begins ...
	if err != nil || tg == nil {
		t.Fatal(err)
	}
	k := segmentKey{Namespace: nsData, Segment: tg.data.Segment}
	a.fs.write(nsData, 3)
	a.fs.seal(nsData) // ... the segment seals, the watcher ships it
	a.eventually("shipped", func() bool { return s.objects.recall(k) != nil })
	err = s.shipAndCut(t.Context(), tg, time.Now()) // ... and the round goes on
	s.roundMu.unlock()
	if err != nil {
		t.Fatal(err)
	}
	a.fs.write(nsData, 1)
	a.mustShip()
	a.eventually("consent", func() bool {
		r, err := s.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: k.Segment})
		return err == nil && r.OK
	})
	a.eventually("nothing waits to be deleted", func() bool { return s.intents.count() <= 2 })
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
}

// TestWipedNodesGetNoConsent: what nodes confirmed before they were wiped does not count.
func TestWipedNodesGetNoConsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.eventually("consent", func() bool {
		r, _ := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0})
		return r.OK
	})
	for _, i := range []int{0, 1, 2} {
		w.nodes[i].Wipe()
	}
	r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0})
	if err != nil || r.OK {
		t.Errorf("got %+v, %v: the local copy is the last one", r, err)
	}
}

// TestIncompleteIsLookedForAgain: manifests that cannot be read once are read with the next comparison.
func TestIncompleteIsLookedForAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	w.nodes[5].SetDown(true)
	time.Sleep(200 * time.Millisecond)
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.kill()
	// restart; manifests cannot be read at the first comparison only
	a.start()
	prefix := a.store.sealer.KindPrefix(a.store.sealer.KeyEpoch(), record.KindManifest)
	for _, m := range w.metas {
		m.SetFault(func(op string, name []byte) error {
			if bytes.HasPrefix(name, prefix) {
				return errors.New("blip")
			}
			return nil
		})
	}
	rep := a.mount()
	if rep.Verdict != client.Unverified {
		t.Fatal(rep)
	}
	for _, m := range w.metas {
		m.SetFault(nil)
	}
	w.nodes[5].SetDown(false)
	a.fs.write(nsData, 1)
	a.mustShip()
	a.eventually("completed", func() bool {
		_, err := os.Stat(filepath.Join(a.dir, "data", nsData, "r0"))
		return err == nil
	})
}

// TestRecoveryDoesNotWaitForEver: it ends when too few data nodes answer, and goes on when they do.
func TestRecoveryDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	a.kill()
	for _, i := range []int{0, 2, 4} {
		w.nodes[i].SetDown(true)
	}
	b := w.machine().start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.store.Recover(ctx, quiet); !errors.Is(err, client.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
	for _, i := range []int{0, 2, 4} {
		w.nodes[i].SetDown(false)
	}
	if err := b.store.Recover(ctx, quiet); err != nil {
		t.Errorf("run again: %v", err)
	}
}

// TestTakeoverThatFailsLeavesTheOwner: the owner of before can go on.
func TestTakeoverThatFailsLeavesTheOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsMeta, 2)
	a.mustShip()
	for i := range 4 {
		w.metas[i].SetDown(true)
	}
	if _, err := a.store.Takeover(t.Context()); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	for i := range 4 {
		w.metas[i].SetDown(false)
	}
	a.fs.write(nsMeta, 2)
	a.mustMount()
	a.mustShip()
}

// TestReplyLostForAReplacedFile: the manifest may count, so nothing that it names is deleted.
func TestReplyLostForAReplacedFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	p := filepath.Join(t.TempDir(), "f")
	w.must(os.WriteFile(p, bytes.Repeat([]byte("old "), 3000), 0o600))
	req := client.FileRequest{Name: "f", Path: p}
	if err := a.store.StoreFile(t.Context(), req, quiet); err != nil {
		t.Fatal(err)
	}
	w.must(os.WriteFile(p, bytes.Repeat([]byte("new!"), 3000), 0o600))
	prefix := a.store.sealer.KindPrefix(a.store.sealer.KeyEpoch(), record.KindManifest)
	for _, m := range w.metas {
		m.SetFault(func(op string, name []byte) error {
			if op == "put" && bytes.HasPrefix(name, prefix) {
				return memnode.Late(errors.New("reply lost"))
			}
			return nil
		})
	}
	req.Replace = true
	if err := a.store.StoreFile(t.Context(), req, quiet); err == nil {
		t.Error("no node acknowledged it")
	}
	for _, m := range w.metas {
		m.SetFault(nil)
	}
	a.fs.write(nsMeta, 1)
	a.mustShip()
	time.Sleep(300 * time.Millisecond)
	req.Path = filepath.Join(filepath.Dir(p), "f")
	req.Replace = true
	ctx, c := context.WithTimeout(t.Context(), 5*time.Second)
	defer c()
	if err := a.store.RetrieveFile(ctx, req, quiet); err != nil {
		t.Error("retrieve after a failed replace:", err)
	}
}
