package zdb

import (
	"fmt"
	"testing"
	"time"
)

// TestApplyAtRest: what nobody adds to any more goes into the index before it is old.
func TestApplyAtRest(t *testing.T) {
	r := newRig(t)
	n := r.open()
	began := time.Now()
	b := NewBatch()
	for i := range 6000 {
		b.Set(fmt.Appendf(nil, "key%06d", i), []byte("value"))
	}
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if got := n.Stats().OverlayBytes; got < restBytes {
		t.Fatalf("the overlay takes %d bytes, less than what the test is about", got)
	}
	for n.Stats().OverlayBytes > 0 {
		if time.Since(began) >= applyAge-time.Second {
			t.Fatalf("after %v nothing is applied", time.Since(began))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := n.Stats().Keys; got != 6000 {
		t.Errorf("the index has %d keys, want 6000", got)
	}
}

// TestResting: a generation is at rest when it is worth it and did not change between looks.
func TestResting(t *testing.T) {
	var r resting
	g, other := newGeneration(), newGeneration()
	g.moved.Store(restBytes)
	other.moved.Store(restBytes)
	for i, step := range []struct {
		g    *generation
		add  int64
		want bool
	}{{g, 0, false}, {g, 1, false}, {other, 0, false}, {other, 0, true}, {other, 1, false}, {other, 0, true}} {
		step.g.moved.Add(step.add)
		if got := r.look(step.g); got != step.want {
			t.Fatalf("look %d: %v, want %v", i, got, step.want)
		}
	}
	small := newGeneration()
	for range 3 {
		if r.look(small) {
			t.Fatal("an empty generation is to be applied")
		}
	}
}
