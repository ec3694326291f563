package quorum

import (
	"errors"
	"testing"
	"testing/synctest"

	"qsfs/zstor/internal/record"
)

// A takeover that fails before it is over leaves the noted owner in its place.
func TestTakeoverThatFailsGoesBack(t *testing.T) {
	down := func(c *cluster, n int) {
		for i, node := range c.w.nodes {
			node.down = i < n
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "aabbcc")
		notes := &memNotes{}
		a := c.format(notes)
		first := publish(t, a, 11)

		// The look fails: nobody was fenced, not even for a moment.
		down(c, 4)
		if _, err := a.TakeOver(t.Context()); !errors.Is(err, ErrQuorum) {
			t.Fatalf("takeover with four nodes down: %v", err)
		}
		down(c, 0)
		if err := a.Verify(t.Context()); err != nil {
			t.Errorf("after a look that failed: %v", err)
		}
		put(t, a, "o", "1")

		// The look succeeds, the claim does not.
		down(c, 3)
		if _, err := a.TakeOver(t.Context()); !errors.Is(err, ErrQuorum) {
			t.Fatalf("takeover with three nodes down: %v", err)
		}
		down(c, 0)
		if o, ok := a.Owner(); !ok || !o.Same(notes.note.Owner) {
			t.Errorf("after a claim that failed: owner %v, %v", o, ok)
		}
		second := publish(t, a, 12)
		if second.Epoch != first.Epoch || second.Number != 2 {
			t.Errorf("cut %v after a claim that failed", second)
		}
	})
}

// A takeover that ends between publishing its cut again and noting that can be run again: the cut it finds is its own.
func TestTakeoverBrokenOffBeforeItsNote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "abc")
		notes := &memNotes{}
		a := c.format(notes)
		publish(t, a, 11)
		// The disk fails with the note of the new epoch.
		failing := &failingNotes{memNotes: notes, epoch: 2}
		a.o.Notebook = failing
		if _, err := a.TakeOver(t.Context()); !errors.Is(err, errDiskFull) {
			t.Fatalf("takeover without a note: %v", err)
		}
		if f, err := c.open(&memNotes{}).Newest(t.Context(), record.KindCut, record.CutObject); err != nil || f.Version.Epoch != 2 {
			t.Fatalf("newest cut %v, %v: it was not published again", f.Version, err)
		}
		if err := a.Verify(t.Context()); !errors.Is(err, ErrFenced) {
			t.Errorf("the noted owner, which the claim fenced, verified: %v", err)
		}
		failing.epoch = 0
		out, err := a.TakeOver(t.Context())
		if err != nil || out.Owner.Epoch != 3 || out.Cut.Session != 11 {
			t.Fatalf("run again: %+v, %v", out, err)
		}
		// And after a restart, which has nothing but the note.
		failing.epoch = 4
		if _, err := a.TakeOver(t.Context()); !errors.Is(err, errDiskFull) {
			t.Fatalf("takeover without a note: %v", err)
		}
		b := c.open(notes)
		if out, err = b.TakeOver(t.Context()); err != nil || out.Owner.Epoch != 5 {
			t.Fatalf("after a restart: %+v, %v", out, err)
		}
		if id := publish(t, b, 12); id.Epoch != 5 || id.Number != 1 {
			t.Errorf("next cut %v", id)
		}
	})
}

var errDiskFull = errors.New("disk full")

// failingNotes cannot save the note of one epoch.
type failingNotes struct {
	*memNotes
	epoch uint64
}

func (f *failingNotes) Save(n Note) error {
	if n.Owner.Epoch == f.epoch {
		return errDiskFull
	}
	return f.memNotes.Save(n)
}
