package main

import (
	"testing"
	"time"
)

// TestRest: memory is given back after work, a number of times, not while it goes on, and not for a trickle.
func TestRest(t *testing.T) {
	const ms = time.Millisecond
	r := rest{}
	used := time.Duration(0)
	step := func(by time.Duration, want bool) {
		t.Helper()
		used += by
		got := r.reached(used)
		if got != want {
			t.Fatalf("after %v: %v, want %v", used, got, want)
		}
		if got {
			used += 30 * ms
			r.given(used)
		}
	}
	step(10*ms, false)
	step(10*ms, false) // at rest, but nothing was done
	for range 8 {
		step(200*ms, false)
	}
	step(5*ms, false)
	step(100*ms, false) // not the end
	step(5*ms, false)
	step(5*ms, true)
	step(restMore, false)
	step(5*ms, false)
	step(5*ms, true)          // a little work after the end
	for range restAgain - 1 { // what Badger lets go later
		for range restPause - 1 {
			step(5*ms, false)
		}
		step(5*ms, true)
	}
	for range 100 {
		step(5*ms, false)
	}
}
