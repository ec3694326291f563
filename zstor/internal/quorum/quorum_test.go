package quorum

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qsfs/zstor/internal/record"
)

// memNotes is a Notebook in memory.
type memNotes struct {
	note *Note
	fail error
}

func (m *memNotes) Load() (Note, error) {
	if m.note == nil {
		return Note{}, ErrNoNote
	}
	return m.note.clone(), nil
}

func (m *memNotes) Save(n Note) error {
	if m.fail != nil {
		return m.fail
	}
	c := n.clone()
	m.note = &c
	return nil
}

// cluster is a set of nodes without a scheduler: calls take effect at once, unless a node is down or slow.
type cluster struct {
	t    *testing.T
	w    *simWorld
	slow map[int]time.Duration
}

func newCluster(t *testing.T, groups string) *cluster {
	w := newWorld(1, noRule, testSealer(t))
	w.nodes = nil
	for i, g := range groups {
		n := &simNode{id: fmt.Sprintf("n%d", i), group: string(g), data: map[string][]byte{}}
		w.newIncarnation(n)
		w.nodes = append(w.nodes, n)
	}
	w.immediate = true
	return &cluster{t: t, w: w, slow: map[int]time.Duration{}}
}

func (c *cluster) wipe(i int) {
	c.w.late = nil // nothing is on its way here
	c.w.wipe(i)
}

type slowNode struct {
	Node
	c *cluster
	i int
}

func (n slowNode) Put(ctx context.Context, name, value []byte) (State, error) {
	if d := n.c.slow[n.i]; d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return State{}, ctx.Err()
		}
	}
	return n.Node.Put(ctx, name, value)
}

// open gives a machine's view of the cluster.
func (c *cluster) open(notes Notebook) *Set {
	c.t.Helper()
	p := &simProcess{w: c.w, machine: c.w.newMachine()}
	var nodes []Node
	for i := range c.w.nodes {
		nodes = append(nodes, slowNode{&simClient{p, i}, c, i})
	}
	s, err := Open(Options{Nodes: nodes, RedundantGroups: 1, Sealer: c.w.sealer, Notebook: notes, Host: "test"})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = s.Close() }) // closed by the test already, or broken on purpose
	return s
}

func (c *cluster) format(notes Notebook) *Set {
	c.t.Helper()
	s := c.open(notes)
	if _, err := s.Format(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Set, object, body string) record.Version {
	t.Helper()
	v, err := s.Put(t.Context(), record.KindManifest, object, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func publish(t *testing.T, s *Set, session uint64) record.CutID {
	t.Helper()
	c := &record.Cut{Session: session, Time: time.Unix(1, 0)}
	if _, err := s.PublishCut(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c.ID()
}

func TestCheckTopology(t *testing.T) {
	for _, c := range []struct {
		groups   string
		w, r, rg int
		ok       bool
	}{
		{"abc", 2, 2, 1, true},
		{"aabbcc", 4, 3, 1, true},
		{"aabc", 3, 2, 1, false}, // four nodes on three sites: a lost site stops a takeover
		{"abcd", 3, 2, 1, true},
		{"abcd", 3, 2, 2, false},
		{"abcdefg", 4, 4, 3, true},
		{"abc", 2, 1, 1, false}, // no overlap
		{"a", 1, 1, 0, true},
		{"a", 1, 1, 1, false},
		{"aa", 2, 1, 0, true},
		{"", 1, 1, 0, false},
		{"abcdefgh", 5, 4, 0, false},
		{"abc", 4, 2, 0, false},
		{"abc", 2, 2, 4, false},
	} {
		err := CheckTopology(strings.Split(c.groups, ""), c.w, c.r, c.rg)
		if (err == nil) != c.ok {
			t.Errorf("%s W=%d R=%d, %d groups may fail: %v", c.groups, c.w, c.r, c.rg, err)
		}
	}
	for m := 1; m <= MaxNodes; m++ {
		w, r := Defaults(m)
		if checkSizes(m, w, r) != nil || checkOverlap(m, w, r) != nil {
			t.Errorf("Defaults(%d) = %d, %d", m, w, r)
		}
	}
	if w, r := Defaults(6); w != 4 || r != 3 {
		t.Errorf("Defaults(6) = %d, %d, want 4, 3", w, r)
	}
}

func TestFormatRefuses(t *testing.T) {
	c := newCluster(t, "aabbcc")
	c.w.nodes[1].down = true
	if _, err := c.open(&memNotes{}).Format(t.Context()); !errors.Is(err, ErrQuorum) {
		t.Errorf("with a node down: %v", err)
	}
	c.w.nodes[1].down = false
	// Broken off half-way, then run again.
	half, err := c.w.sealer.SealOwner(record.Owner{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	c.w.nodes[3].data[string(record.EpochName)] = half
	a := c.format(&memNotes{})
	if o, ok := a.Owner(); !ok || o.Epoch != 2 {
		t.Errorf("owner %v, %v, want epoch 2", o, ok)
	}
	if _, err := c.open(&memNotes{}).Format(t.Context()); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("formatted twice: %v", err)
	}
	put(t, a, "o", "1")
	c.w.mu.Lock() // stragglers may still arrive
	for _, n := range c.w.nodes {
		delete(n.data, string(record.MarkName))
	}
	c.w.mu.Unlock()
	if _, err := c.open(&memNotes{}).Format(t.Context()); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("formatted over records: %v", err)
	}
}

func TestPutReadDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "aabbcc")
		a := c.format(&memNotes{})
		if _, err := a.Newest(t.Context(), record.KindManifest, "o"); !errors.Is(err, ErrNotFound) {
			t.Errorf("before: %v", err)
		}
		put(t, a, "o", "1")
		v := put(t, a, "o", "2")
		f, err := a.Newest(t.Context(), record.KindManifest, "o")
		if err != nil || string(f.Body) != "2" || f.Version != v || !f.Settled || f.Answered != 6 || f.Of != 6 {
			t.Errorf("got %+v, %v", f, err)
		}
		// A mere reader, without an epoch, sees the same.
		r := c.open(&memNotes{})
		if f, err := r.Newest(t.Context(), record.KindManifest, "o"); err != nil || f.Version != v {
			t.Errorf("reader got %+v, %v", f, err)
		}
		if _, err := r.Put(t.Context(), record.KindManifest, "o", nil); !errors.Is(err, ErrNotOwner) {
			t.Errorf("reader put: %v", err)
		}
		// Two nodes down: all works. Three: reading works, writing says who is missing.
		c.w.nodes[0].down, c.w.nodes[1].down = true, true
		put(t, a, "o", "3")
		c.w.nodes[2].down = true
		f, err = a.Newest(t.Context(), record.KindManifest, "o")
		if err != nil || string(f.Body) != "3" || f.Settled || f.Answered != 3 {
			t.Errorf("three down: got %+v, %v", f, err)
		}
		_, err = a.Put(t.Context(), record.KindManifest, "o", []byte("4"))
		var q *QuorumError
		if !errors.As(err, &q) || q.Have != 3 || q.Want != 4 || len(q.Reasons) != 3 || q.Reasons[0].Node != "n0" {
			t.Errorf("three down: put %v", err)
		}
		c.w.nodes[3].down = true
		if _, err = a.Newest(t.Context(), record.KindManifest, "o"); !errors.Is(err, ErrQuorum) {
			t.Errorf("four down: %v", err)
		}
		for _, n := range c.w.nodes {
			n.down = false
		}
		// The one that was not acknowledged may be found; then it is on W nodes.
		f, err = a.Newest(t.Context(), record.KindManifest, "o")
		if err != nil || string(f.Body) != "4" || !f.Settled {
			t.Errorf("all up: got %+v, %v", f, err)
		}
		if _, err := a.Tombstone(t.Context(), record.KindManifest, "o", f.Version); err != nil {
			t.Fatal(err)
		}
		f, err = a.Newest(t.Context(), record.KindManifest, "o")
		if !errors.Is(err, ErrNotFound) || !f.Tombstone {
			t.Errorf("deleted: %+v, %v", f, err)
		}
	})
}

func TestForgetKeepsTheTombstoneUntilAllHaveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "abc")
		a := c.format(&memNotes{})
		v := put(t, a, "o", "1")
		if _, err := a.Forget(t.Context(), record.KindManifest, "o"); err == nil {
			t.Error("a living record was forgotten")
		}
		c.w.nodes[2].down = true
		if _, err := a.Tombstone(t.Context(), record.KindManifest, "o", v); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if gone, err := a.Forget(t.Context(), record.KindManifest, "o"); gone || !errors.Is(err, ErrQuorum) {
			t.Errorf("with a node down: %v, %v", gone, err)
		}
		c.w.nodes[2].down = false
		if gone, err := a.Forget(t.Context(), record.KindManifest, "o"); !gone || err != nil {
			t.Errorf("all up: %v, %v", gone, err)
		}
		for _, n := range c.w.nodes {
			if left := n.names(record.AllPrefix()); len(left) > 0 {
				t.Errorf("%s still has %x", n.id, left)
			}
		}
		if gone, err := a.Forget(t.Context(), record.KindManifest, "o"); !gone || err != nil {
			t.Errorf("again: %v, %v", gone, err)
		}
		// A young tombstone stays, for a late message.
		put(t, a, "p", "1")
		if _, err := a.Tombstone(t.Context(), record.KindManifest, "p", v); err != nil {
			t.Fatal(err)
		}
		if gone, err := a.Forget(t.Context(), record.KindManifest, "p"); gone || err != nil {
			t.Errorf("young: %v, %v", gone, err)
		}
		if n := len(c.names(0)); n != 1 {
			t.Errorf("%d names left, want the tombstone alone", n)
		}
	})
}

func TestListAndPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "aabbcc")
		a := c.format(&memNotes{})
		for i := range 150 {
			put(t, a, fmt.Sprint("o", i), "old")
			put(t, a, fmt.Sprint("o", i), fmt.Sprint(i))
		}
		if _, err := a.Tombstone(t.Context(), record.KindManifest, "o7", record.Version{}); err != nil {
			t.Fatal(err)
		}
		publish(t, a, 1)
		l, err := a.List(t.Context(), record.KindManifest)
		if err != nil || len(l.Records) != 149 || l.Tombstones != 1 || len(l.Unreadable) != 0 || l.Answered != 6 {
			t.Fatalf("got %d records, %d tombstones, %d unreadable, %v", len(l.Records), l.Tombstones, len(l.Unreadable), err)
		}
		for _, r := range l.Records {
			if want := strings.TrimPrefix(r.Object, "o"); string(r.Body) != want {
				t.Errorf("%s is %q", r.Object, r.Body)
			}
		}
		// A copy that is damaged on one node is read from another; damaged everywhere, it is said.
		f, err := a.Newest(t.Context(), record.KindManifest, "o3")
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range c.w.nodes {
			n.data[string(f.Name[:])] = []byte("rubbish")
			l, err := a.List(t.Context(), record.KindManifest)
			if want := i / 5; err != nil || len(l.Unreadable) != want || len(l.Records) != 149-want {
				t.Errorf("damaged on %d nodes: %d records, %d unreadable, %v", i+1, len(l.Records), len(l.Unreadable), err)
			}
		}
		for range 5 {
			publish(t, a, 1)
		}
		n, err := a.Prune(t.Context(), record.KindCut, record.CutObject, 2)
		if err != nil || n != 4 {
			t.Errorf("pruned %d, %v, want 4", n, err)
		}
		if cut, _, err := a.NewestCut(t.Context()); err != nil || cut.Number != 6 {
			t.Errorf("newest after prune: %+v, %v", cut, err)
		}
	})
}

// W nodes are enough; the slow one gets the record later.
func TestSlowNodeDoesNotHoldUpAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "abc")
		a := c.format(&memNotes{})
		c.slow[1] = 5 * time.Second
		begin := time.Now()
		put(t, a, "o", "1")
		if d := time.Since(begin); d > 0 {
			t.Errorf("the write took %v", d)
		}
		synctest.Wait()
		if n := len(c.names(1)); n != 0 {
			t.Fatalf("the slow node has %d records at once", n)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if n := len(c.names(1)); n != 1 {
			t.Errorf("the slow node has %d records later, want 1", n)
		}
		// Slower than the timeout: it missed the record, and the status says so until it is rebuilt.
		c.slow[1] = time.Minute
		put(t, a, "o", "2")
		time.Sleep(time.Minute)
		synctest.Wait()
		st := a.Status(t.Context())
		if !reflect.DeepEqual(st.NeedsRebuild(), []int{1}) || st.Nodes[1].Missed != 1 || !st.CanWrite {
			t.Errorf("status %+v", st)
		}
		c.slow[1] = 0
		if r, err := a.RebuildNode(t.Context(), 1); err != nil || r.Records != 1 || r.Already != 1 {
			t.Errorf("rebuilt %+v, %v", r, err)
		}
		if st := a.Status(t.Context()); len(st.NeedsRebuild()) != 0 {
			t.Errorf("status after rebuild %+v", st)
		}
		// A caller's deadline holds when too few are fast.
		c.slow[0], c.slow[1] = time.Hour, time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Put(ctx, record.KindManifest, "o", nil); !errors.Is(err, ErrQuorum) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline: %v", err)
		}
	})
}

func TestWipedNodeDoesNotCountUntilRebuilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "aabbcc")
		a := c.format(&memNotes{})
		for i := range 200 {
			put(t, a, fmt.Sprint("o", i), fmt.Sprint(i))
		}
		synctest.Wait() // the stragglers, too
		c.wipe(2)
		st := a.Status(t.Context())
		if st.Counting != 5 || !reflect.DeepEqual(st.NeedsRebuild(), []int{2}) || !st.CanRead || !st.CanWrite || !st.CanTakeOver {
			t.Errorf("status %+v", st)
		}
		other := c.open(&memNotes{})
		if _, err := other.RebuildNode(t.Context(), 2); !errors.Is(err, ErrNotOwner) {
			t.Errorf("rebuilt by nobody: %v", err)
		}
		put(t, a, "more", "x") // reaches the wiped node too, uncounted
		synctest.Wait()
		r, err := a.RebuildNode(t.Context(), 2)
		if err != nil || r.Records != 200 || r.Already != 1 || r.Sources != 5 {
			t.Errorf("rebuilt %+v, %v", r, err)
		}
		if !reflect.DeepEqual(c.names(2), c.names(3)) {
			t.Error("the rebuilt node has other records")
		}
		if st := a.Status(t.Context()); st.Counting != 6 {
			t.Errorf("status %+v", st)
		}
		// Too few sources: nothing is called complete.
		c.wipe(2)
		for _, i := range []int{0, 1, 3} {
			c.w.nodes[i].down = true
		}
		if _, err := a.RebuildNode(t.Context(), 2); !errors.Is(err, ErrQuorum) {
			t.Errorf("rebuilt from two sources: %v", err)
		}
		if len(c.w.incomplete()) != 1 {
			t.Error("the node is complete")
		}
	})
}

func TestTakeoverFences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "aabbcc")
		notesA, notesB := &memNotes{}, &memNotes{}
		a := c.format(notesA)
		first := publish(t, a, 11)
		b := c.open(notesB)
		out, err := b.Recover(t.Context())
		if err != nil || out.Cut == nil || out.Cut.Session != 11 || out.Cut.Epoch != 2 || out.Cut.Number != 0 || out.Cut.Origin != first || out.Answered != 6 || out.Resumed {
			t.Fatalf("recovered %+v, %v", out, err)
		}
		_, err = a.PublishCut(t.Context(), &record.Cut{Session: 12})
		var f *FencedError
		if !errors.As(err, &f) || !f.By.Same(out.Owner) || f.By.Host != "test" {
			t.Errorf("the old owner published: %v", err)
		}
		if err := a.Verify(t.Context()); !errors.Is(err, ErrFenced) {
			t.Errorf("the old owner verified: %v", err)
		}
		if st := a.Status(t.Context()); st.CanWrite || st.FencedBy == nil || !st.FencedBy.Same(out.Owner) {
			t.Errorf("status of the old owner %+v", st)
		}
		if _, err := b.PublishCut(t.Context(), &record.Cut{}); err == nil {
			t.Error("published in the middle of a recovery")
		}
		// Broken off and run again: same epoch, same cut, no claim.
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = c.open(notesB)
		again, err := b.Recover(t.Context())
		if err != nil || !again.Resumed || !again.Owner.Same(out.Owner) || again.Cut.ID() != out.Cut.ID() {
			t.Fatalf("run again: %+v, %v", again, err)
		}
		if err := b.FinishRecovery(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.open(notesB).Recover(t.Context()); !errors.Is(err, ErrInUse) {
			t.Errorf("recovered over a working state: %v", err)
		}
		publish(t, b, 13)
		// The old machine comes back: its state is stale, and seen to be so before it claims.
		old := c.open(notesA)
		var stale *StaleError
		if _, err := old.TakeOver(t.Context()); !errors.As(err, &stale) || stale.Claimed || stale.Newest.Session != 13 {
			t.Errorf("take-over of a stale state: %v", err)
		}
		if err := b.Verify(t.Context()); err != nil {
			t.Errorf("the owner was fenced for nothing: %v", err)
		}
		// The present one can take over from itself, and goes on above.
		b2 := c.open(notesB)
		out, err = b2.TakeOver(t.Context())
		if err != nil || out.Cut.Epoch != 3 || out.Cut.Session != 13 {
			t.Fatalf("take-over of the own state: %+v, %v", out, err)
		}
		if id := publish(t, b2, 14); id.Epoch != 3 || id.Number != 1 {
			t.Errorf("next cut is %v, want e3.1", id)
		}
	})
}

func TestResumeGoesOnAboveWhatWasUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "abc")
		notes := &memNotes{}
		a := c.format(notes)
		v1 := put(t, a, "o", "1")
		id1 := publish(t, a, 1)
		// Killed: nothing is saved at the end.
		b := c.open(notes)
		if _, err := b.Resume(); err != nil {
			t.Fatal(err)
		}
		if v2 := put(t, b, "o", "2"); v2.Compare(v1) <= 0 {
			t.Errorf("%v after %v", v2, v1)
		}
		if id2 := publish(t, b, 2); id2.Epoch != id1.Epoch || id2.Number != id1.Number+1 {
			t.Errorf("cut %v after %v", id2, id1)
		}
		if b.LastCut().Number != 2 || b.Writer().Epoch != 1 {
			t.Errorf("last cut %v, writer %+v", b.LastCut(), b.Writer())
		}
		// Stopped: the note is exact.
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if notes.note.Last.Number != 2 || len(notes.note.Pending) != 0 {
			t.Errorf("note after a stop: %+v", notes.note)
		}
		if _, err := b.Put(t.Context(), record.KindManifest, "o", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("put after Close: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		// What cannot be noted is not done.
		d := c.open(notes)
		if _, err := d.Resume(); err != nil {
			t.Fatal(err)
		}
		notes.fail = errors.New("disk full")
		before := len(c.names(0))
		if _, err := d.PublishCut(t.Context(), &record.Cut{}); !errors.Is(err, notes.fail) {
			t.Errorf("published without a note: %v", err)
		}
		if _, err := d.Put(t.Context(), record.KindManifest, "o", nil); !errors.Is(err, notes.fail) {
			t.Errorf("put without a reserved counter: %v", err)
		}
		if n := len(c.names(0)); n != before {
			t.Errorf("%d records reached the node", n-before)
		}
		notes.fail = nil
		if _, err := c.open(&memNotes{}).Resume(); !errors.Is(err, ErrNoNote) {
			t.Errorf("resumed from nothing: %v", err)
		}
	})
}

func TestDamagedEpochKeyIsOneBadNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "abc")
		a := c.format(&memNotes{})
		c.w.nodes[1].data[string(record.EpochName)] = []byte("rubbish")
		put(t, a, "o", "1")
		st := a.Status(t.Context())
		if st.Counting != 2 || !reflect.DeepEqual(st.NeedsRebuild(), []int{1}) {
			t.Errorf("status %+v", st)
		}
		b := c.open(&memNotes{})
		if _, err := b.Recover(t.Context()); err != nil {
			t.Fatalf("recovery over two good nodes: %v", err)
		}
		if _, err := b.RebuildNode(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if st := b.Status(t.Context()); st.Counting != 3 {
			t.Errorf("status after rebuild %+v", st)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	c := newCluster(t, "aabc")
	p := &simProcess{w: c.w}
	var nodes []Node
	for i := range c.w.nodes {
		nodes = append(nodes, &simClient{p, i})
	}
	for what, o := range map[string]Options{
		"no sealer":    {Nodes: nodes[1:], Notebook: &memNotes{}},
		"no notebook":  {Nodes: nodes[1:], Sealer: c.w.sealer},
		"bad groups":   {Nodes: nodes, RedundantGroups: 1, Sealer: c.w.sealer, Notebook: &memNotes{}},
		"listed twice": {Nodes: append(nodes[1:2:2], nodes[1:]...), Sealer: c.w.sealer, Notebook: &memNotes{}},
		"no overlap":   {Nodes: nodes[1:], Write: 1, Read: 2, Sealer: c.w.sealer, Notebook: &memNotes{}},
		"none":         {Sealer: c.w.sealer, Notebook: &memNotes{}},
	} {
		if s, err := Open(o); err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", what)
		}
	}
}

func TestNoteFile(t *testing.T) {
	f := NoteFile(filepath.Join(t.TempDir(), "owner"))
	if _, err := f.Load(); !errors.Is(err, ErrNoNote) {
		t.Errorf("no file: %v", err)
	}
	n := Note{
		Owner:    record.Owner{Epoch: 3, ID: record.OwnerID{1, 2}, Time: time.Unix(5, 6).UTC(), Host: "h"},
		Reserved: 9, Last: record.CutID{Epoch: 3, Number: 4, MAC: [32]byte{5}},
		Pending:    []record.CutID{{Epoch: 3, Number: 5}},
		Recovering: true, LastVersion: record.Version{Epoch: 3, Counter: 1, Rand: 2},
	}
	for _, n := range []Note{n, {Owner: n.Owner}} {
		if err := f.Save(n); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Load(); err != nil || !reflect.DeepEqual(got, n) {
			t.Errorf("got %+v, %v, want %+v", got, err, n)
		}
	}
	good, err := os.ReadFile(string(f))
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(good) - 2 {
		if err := os.WriteFile(string(f), good[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Load(); err == nil || errors.Is(err, ErrNoNote) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"epoch":3,"id":"01020000000000000000000000000000","claimed":"2026-01-02T03:04:05Z","reserved_counters":9,` +
		`"last_cut":{"epoch":3,"number":4,"mac":"` + strings.Repeat("05", 32) + `"},"pending_cuts":[{"epoch":3,"number":5,"mac":"` + strings.Repeat("00", 32) + `"}],` +
		`"recovering":true,"last_version":"e3.1-0000000000000002"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNote(b)
		if err == nil && n.Owner.Epoch == 0 {
			t.Fatal("an owner of epoch 0")
		}
	})
}

// names lists the records on a node.
func (c *cluster) names(i int) [][]byte {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.w.nodes[i].names(record.AllPrefix())
}
