package quorum

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"qsfs/zstor/internal/record"
)

// heldNode lets a test choose when a Put or a CompareAndSet goes through.
type heldNode struct {
	Node
	put func()            // before
	cas func(name []byte) // before
}

func (n heldNode) Put(ctx context.Context, name, value []byte) (State, error) {
	if n.put != nil {
		n.put()
	}
	return n.Node.Put(ctx, name, value)
}

func (n heldNode) CompareAndSet(ctx context.Context, name, value, expected []byte) ([]byte, error) {
	if n.cas != nil {
		n.cas(name)
	}
	return n.Node.CompareAndSet(ctx, name, value, expected)
}

// keyThenMark plays one schedule, which chance does not find, for it takes seven things in one order. Owner A has formatted
// nodes 0, 1 and 2, W = R = 2. It reports whether a cut of A's was acknowledged, and whether the next recovery found it.
//
//  1. B claims nodes 1 and 2, while 0 is not reached, and publishes the newest cut again.
//  2. A, which knows nothing of it, publishes a cut: node 0 still shows A and counts. To 1 and 2 it travels slowly.
//  3. Node 1 is wiped, and a late copy of the format's compare-and-set, which expects no epoch key, brings A's key back.
//  4. B rebuilds node 1 from nodes 0 and 2; node 0 is raised by that.
//  5. A's cut reaches node 1 between the last two steps of the rebuild.
//
// When the key comes first, node 1 shows B by then, and A learns that it is fenced. When the mark comes first, node 1 is
// complete and shows A: it counts, and A has W acknowledgements for a cut that B's history lacks. The sources of the
// rebuild, which all show B, do not prevent that, for node 0 was counted before it was raised.
func keyThenMark(t *testing.T, without rule) (acked, found bool) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "abc")
		a := c.format(&memNotes{})
		key := c.w.nodes[1].data[string(record.EpochName)]
		publish(t, a, 11)
		synctest.Wait()

		c.w.nodes[0].down = true
		b := c.open(&memNotes{})
		if _, err := b.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.FinishRecovery(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c.w.nodes[0].down = false

		slow := [3]chan struct{}{1: make(chan struct{}), 2: make(chan struct{})}
		for i := 1; i <= 2; i++ {
			a.nodes[i] = heldNode{Node: a.nodes[i], put: func() { <-slow[i] }}
		}
		published := make(chan error, 1)
		go func() {
			_, err := a.PublishCut(t.Context(), &record.Cut{Session: 12})
			published <- err
		}()
		synctest.Wait()
		if n := len(c.names(0)); n != 2 {
			t.Fatalf("node 0 has %d cuts, want A's two", n)
		}

		c.wipe(1)
		c.w.nodes[1].data[string(record.EpochName)] = key

		steps := 0
		b.without = without
		b.nodes[1] = heldNode{Node: b.nodes[1], cas: func([]byte) {
			if steps++; steps == 2 {
				close(slow[1])
				synctest.Wait()
			}
		}}
		if _, err := b.RebuildNode(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if steps != 2 {
			t.Fatalf("the rebuild ended with %d steps", steps)
		}
		close(slow[2])
		err := <-published
		if err != nil && !errors.Is(err, ErrFenced) {
			t.Fatal(err)
		}
		acked = err == nil
		synctest.Wait()

		out, err := c.open(&memNotes{}).Recover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found = out.Cut.Session == 12
	})
	return acked, found
}

// A rebuild raises the epoch key, then writes the mark; the other way round loses.
func TestEpochKeyThenMark(t *testing.T) {
	if acked, _ := keyThenMark(t, noRule); acked {
		t.Error("the fenced owner's cut was acknowledged")
	}
	if acked, found := keyThenMark(t, ruleEpochThenMark); !acked || found {
		t.Errorf("the mark before the key: acknowledged %v, found %v: the schedule loses nothing", acked, found)
	}
}
