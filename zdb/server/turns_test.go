package server

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"qsfs/zdb"
	"qsfs/zdb/internal/vfs"
)

// gathering makes the test the one that leads in a namespace. join waits until n turns have joined, and commits them.
func gathering(t *testing.T, ts *testServer, namespace string) (join func(n int)) {
	t.Helper()
	n := ts.lookup(namespace)
	lead := &turn{}
	n.turns.mu.Lock()
	n.turns.lead = lead
	n.turns.mu.Unlock()
	return func(members int) {
		t.Helper()
		eventually(t, "all have joined", func() bool {
			n.turns.mu.Lock()
			defer n.turns.mu.Unlock()
			return len(lead.members) == members
		})
		n.turns.mu.Lock()
		if n.turns.lead == lead {
			n.turns.lead = nil
		}
		n.turns.mu.Unlock()
		lead.commit(t.Context(), n.eng.Load(), zdb.NewBatch())
	}
}

// apart returns keys none of which shares a lock with another one.
func apart(n int) (keys []string) {
	var held stripes
	for i := 0; len(keys) < n; i++ {
		k := fmt.Sprintf("k%d", i)
		if stripe := stripeOf([]byte(k)); !held.has(stripe) {
			held.add(stripe)
			keys = append(keys, k)
		}
	}
	return keys
}

// SETs and CAS of several connections are one batch, synced once, and each has its own answer.
func TestTurns(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	const n = 20
	keys := apart(2*n + 2)
	taken, large, second, keys := keys[0], keys[1], keys[2:2+n], keys[2+n:]
	w := ts.adminWire()
	w.want(fmt.Sprintf("%q", taken), "SET", taken, "v")
	before, syncs := ts.commits("default"), ts.lookup("default").eng.Load().Stats().Syncs
	join := gathering(t, ts, "default")
	var all []*wire
	for i := range n {
		c := ts.dial()
		all = append(all, c)
		switch {
		case i%5 == 0:
			c.send("CAS", keys[i], "v")
		case i%5 == 1: // two of its own
			c.raw(append(request("SET", keys[i], "v"), request("SET", second[i], "w")...))
		default:
			c.send("SET", keys[i], "v")
		}
	}
	same, big, del := ts.dial(), ts.dial(), ts.dial()
	same.want("nil", "SET", taken, "v") // nothing to commit: it does not wait
	big.want(fmt.Sprintf("%q", large), "SET", large, strings.Repeat("x", turnBytes))
	del.want("+OK", "DEL", large)
	if d := ts.commits("default") - before; d != 2 {
		t.Errorf("%d batches while one gathers", d)
	}
	join(n)
	for i, c := range all {
		want := fmt.Sprintf("%q", keys[i])
		if i%5 == 0 {
			want = ":1"
		}
		if got := c.reply(); got != want {
			t.Errorf("%d: got %s, want %s", i, got, want)
		}
		if i%5 == 1 {
			if got := c.reply(); got != fmt.Sprintf("%q", second[i]) {
				t.Errorf("%d: second reply %s", i, got)
			}
		}
	}
	if d := ts.commits("default") - before; d != 3 {
		t.Errorf("%d batches, want 3", d)
	}
	if d := ts.lookup("default").eng.Load().Stats().Syncs - syncs; d > 6 {
		t.Errorf("%d syncs", d)
	}
	w.want(fmt.Sprintf(":%d", 1+n+n/5), "DBSIZE")
	for i := range n {
		w.want(`"v"`, "GET", keys[i])
	}
}

// One that leads takes togetherBytes at most; who has no room leads the next.
func TestTurnsFull(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ts.dial().want(`"k"`, "SET", "k", "v")
	ts.lookup("default").turns.crowd.Store(crowdMost)
	join, keys := gathering(t, ts, "default"), apart(3)
	value := strings.Repeat("x", togetherBytes/3)
	var all []*wire
	for i := range 3 {
		c := ts.dial()
		c.send("SET", keys[i], value)
		all = append(all, c)
	}
	for got := 0; got == 0; { // one of them had no room
		for i, c := range all {
			if v, err := ts.lookup("default").eng.Load().Has(t.Context(), []byte(keys[i])); err == nil && v {
				if got := c.reply(); got != fmt.Sprintf("%q", keys[i]) {
					t.Errorf("%d: %s", i, got)
				}
				all[i] = nil
				got++
			}
		}
	}
	join(2)
	for i, c := range all {
		if c == nil {
			continue
		}
		if got := c.reply(); got != fmt.Sprintf("%q", keys[i]) {
			t.Errorf("%d: %s", i, got)
		}
	}
}

// When a shared batch fails each hears of it, and nothing of it is there.
func TestTurnsFail(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	ts := faulty(t, func(c vfs.Call) error {
		if full.Load() && c.Op == "WriteAt" && isData(c) {
			return unix.ENOSPC
		}
		return nil
	})
	w := ts.adminWire()
	w.want(`"k"`, "SET", "k", "v")
	w.want("+OK", "NSNEW", "small")
	w.want("+OK", "NSSET", "small", "maxsize", "1000")
	for _, namespace := range []string{"default", "small"} {
		w.want("+OK", "SELECT", namespace)
		w.want(`"first"`, "SET", "first", "v")
		before := ts.info(w, namespace)
		full.Store(true)
		join, keys := gathering(t, ts, namespace), apart(9)
		var all []*wire
		for i := range 9 {
			c := ts.dial()
			c.want("+OK", "SELECT", namespace)
			c.send("SET", keys[i], "v")
			all = append(all, c)
		}
		join(9)
		for i, c := range all {
			if got := c.reply(); got != "-Cannot write data right now" {
				t.Errorf("%d: %s", i, got)
			}
		}
		full.Store(false)
		if after := ts.info(w, namespace); after["entries"] != before["entries"] || after["data_size_bytes"] != before["data_size_bytes"] {
			t.Errorf("%s: entries %s, bytes %s; before %s, %s", namespace, after["entries"], after["data_size_bytes"], before["entries"], before["data_size_bytes"])
		}
		for i, c := range all {
			c.want(fmt.Sprintf("%q", keys[i]), "SET", keys[i], "v")
		}
	}
}

// Connections that write at the same time find each other by themselves.
func TestTurnsByThemselves(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.NoSync = true })
	ts.dial().want(`"k"`, "SET", "k", "v")
	shared := false
	for round := 0; round < 20 && !shared; round++ {
		before := ts.commits("default")
		const clients, each = 32, 200
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				w := ts.dial()
				for i := range each {
					k := fmt.Sprintf("%d-%d-%d", round, c, i)
					w.want(fmt.Sprintf("%q", k), "SET", k, "v")
				}
			})
		}
		wg.Wait()
		d := ts.commits("default") - before
		t.Logf("%d SETs were %d batches", clients*each, d)
		shared = d < clients*each*9/10
	}
	if !shared {
		t.Error("no batch was shared")
	}
}
