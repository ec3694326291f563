package zstor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/record"
)

// putAside moves a state away as zdbfs does, while the store runs on.
func (m *machine) putAside() {
	m.t.Helper()
	to := m.t.TempDir()
	for _, name := range []string{client.CutFile, "data", "index", client.OwnerFile} {
		if err := os.Rename(filepath.Join(m.dir, name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.t.Fatal(err)
		}
	}
	m.fs = nil
}

// TestRecoverWhereAStateWasPutAside: a machine that was fenced, or is stale, follows the newest state without its zstor
// being started again; and what that zstor knew and did before harms nothing.
func TestRecoverWhereAStateWasPutAside(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		seen bool // the old machine has seen that it was fenced
	}{{"fenced", true}, {"unaware", false}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.machine().start().format().mustMount()
			a.fill()
			a.mustShip()
			b := w.recover().mustMount()
			b.fill()
			b.mustShip()
			b.fs.seal(nsData)
			b.fs.write(nsMeta, 3)
			b.mustShip()
			want := b.fs.snapshot()
			b.kill()
			a.fs.write(nsMeta, 4)
			if c.seen {
				if err := a.ship(); !errors.Is(err, client.ErrFenced) {
					t.Fatalf("the old machine ships: %v", err)
				}
			}
			a.putAside()
			if err := a.store.Recover(t.Context(), quiet); err != nil {
				t.Fatal(err)
			}
			a.wantRecovered(want)
			a.mustMount()
			a.fill()
			a.mustShip()
			a.fs.write(nsMeta, 1)
			a.mustShip()
			want = a.fs.snapshot()
			a.eventually("nothing waits to be deleted", func() bool { return a.store.intents.count() == 0 })
			if st := a.status(); st.Owner.Epoch != 3 || st.Verdict != client.Verified {
				t.Errorf("status: epoch %d, %s (%s)", st.Owner.Epoch, st.Verdict, st.Reason)
			}
			a.kill()
			w.recover().wantRecovered(want)
		})
	}
}

// TestPutAsideTwice: also a recovery that is not complete is put aside, and so is what followed from it.
func TestPutAsideTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	want := a.fs.snapshot()
	for i := range 2 {
		a.putAside()
		for _, n := range w.nodes {
			n.SetFault(func(op string, _ []byte) error {
				if op == "get" {
					return errors.New("no")
				}
				return nil
			})
		}
		if err := a.store.Recover(t.Context(), quiet); !errors.Is(err, client.ErrUnavailable) {
			t.Fatalf("%d: nothing can be read: %v", i, err)
		}
		for _, n := range w.nodes {
			n.SetFault(nil)
		}
		if o, err := client.ReadOwner(a.dir); err != nil || !o.Recovering {
			t.Fatalf("%d: owner %+v, %v", i, o, err)
		}
	}
	a.putAside()
	if err := a.store.Recover(t.Context(), quiet); err != nil {
		t.Fatal(err)
	}
	a.wantRecovered(want)
	a.mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
}

// TestRecoveryWaitsForARound: a round that is under way is no reason to refuse, and what began under an earlier
// ownership does not fence the new one.
func TestRecoveryWaitsForARound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	before, _ := a.store.set.Owner()
	a.putAside()
	s := a.store
	s.roundMu.lock()
	time.AfterFunc(300*time.Millisecond, s.roundMu.unlock)
	if err := s.Recover(t.Context(), quiet); err != nil {
		t.Fatal(err)
	}
	now, _ := s.set.Owner()
	if s.noteFenced(fmt.Errorf("late: %w", &quorum.FencedError{Mine: before, By: now})) {
		t.Error("fenced by itself")
	}
	a.mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	if !s.noteFenced(&quorum.FencedError{Mine: now, By: record.Owner{Epoch: now.Epoch + 1}}) {
		t.Error("not fenced by another")
	}
}

// TestNoteIsNotMadeAgain: what goes on in the background, and the end of the process, never bring back the note of a
// state that was put aside.
func TestNoteIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	a.putAside()
	if _, err := a.store.set.PublishCut(t.Context(), &record.Cut{}); !errors.Is(err, quorum.ErrNoNote) {
		t.Errorf("a cut: %v", err)
	}
	a.kill()
	if _, err := client.ReadOwner(a.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the note is back: %v", err)
	}
}
