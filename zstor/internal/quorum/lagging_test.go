package quorum

import (
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"

	"qsfs/zstor/internal/record"
)

// TestLaggingIsFoundAfterARestart: what a node missed is known to nobody any more, until the nodes are compared.
func TestLaggingIsFoundAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "aabbcc")
		notes := &memNotes{}
		s := c.format(notes)
		put(t, s, "all", "have it")
		c.w.nodes[1].down, c.w.nodes[4].down = true, true
		for i := range 3 {
			put(t, s, fmt.Sprint("new", i), "1")
		}
		put(t, s, "all", "of another version")
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		c.w.nodes[1].down = false
		s = c.open(notes)
		if err := s.FindLagging(t.Context()); err != ErrNotOwner {
			t.Errorf("before it is an owner: %v", err)
		}
		if _, err := s.Resume(); err != nil {
			t.Fatal(err)
		}
		if st := s.Status(t.Context()); st.NeedsRebuild() != nil || !st.Unseen() {
			t.Errorf("known at once: %v, %v", st.NeedsRebuild(), st.Unseen())
		}
		c.w.nodes[3].down = true
		put(t, s, "of this run", "1") // missed by 3 and 4, and counted so
		synctest.Wait()
		c.w.nodes[3].down = false
		if err := s.FindLagging(t.Context()); err != nil {
			t.Fatal(err)
		}
		st := s.Status(t.Context())
		if !reflect.DeepEqual(st.NeedsRebuild(), []int{1, 3}) || st.Nodes[1].Missed != 4 || st.Nodes[3].Missed != 1 || st.Unseen() {
			t.Errorf("needs rebuild %v, missed %d and %d, more to compare: %v", st.NeedsRebuild(), st.Nodes[1].Missed, st.Nodes[3].Missed, st.Unseen())
		}
		for _, i := range st.NeedsRebuild() {
			if _, err := s.RebuildNode(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
		// The one that was away is compared when it is back, and no other again.
		c.w.nodes[4].down = false
		if st := s.Status(t.Context()); !st.Unseen() {
			t.Error("the node that is back is not to be compared")
		}
		if err := s.FindLagging(t.Context()); err != nil {
			t.Fatal(err)
		}
		st = s.Status(t.Context())
		if !reflect.DeepEqual(st.NeedsRebuild(), []int{4}) || st.Nodes[4].Missed != 5 {
			t.Errorf("needs rebuild %v, missed %d", st.NeedsRebuild(), st.Nodes[4].Missed)
		}
		if _, err := s.RebuildNode(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
		if st := s.Status(t.Context()); st.NeedsRebuild() != nil || st.Unseen() {
			t.Errorf("still: %v, %v", st.NeedsRebuild(), st.Unseen())
		}
		for i := range 4 {
			c.w.nodes[i].down = i < 2 // R of the others have all of it
		}
		for _, o := range []string{"new0", "new1", "new2", "of this run"} {
			if f, err := s.Newest(t.Context(), record.KindManifest, o); err != nil || !f.Settled {
				t.Errorf("%s: settled %v, %v", o, f.Settled, err)
			}
		}
	})
}

// TestLaggingNeedsAQuorum: fewer than R listings do not tell what there is.
func TestLaggingNeedsAQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "aabbcc")
		s := c.format(&memNotes{})
		for i := range 4 {
			c.w.nodes[i].down = true
		}
		if err := s.FindLagging(t.Context()); err == nil {
			t.Error("two of six are enough")
		}
		for i := range 4 {
			c.w.nodes[i].down = false
		}
		if st := s.Status(t.Context()); !st.Unseen() {
			t.Error("compared all the same")
		}
	})
}
