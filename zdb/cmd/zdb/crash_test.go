package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qsfs/zdb/client"
)

// TestKilledNode kills the process under 16 clients that overwrite, delete and swap, at random moments and at named
// points. What was acknowledged must be there after the restart, what was deleted must stay deleted. The only freedom is
// the one operation per key that was in flight.
func TestKilledNode(t *testing.T) {
	points := []string{"", "zdb.server.reply.before", "zdb.commit.written", "zdb.sync.before", "zdb.sync.after", "zdb.apply.before", "zdb.apply.after", "zdb.seal.renamed"}
	if os.Getenv("QSFS_LONG") != "" {
		for range 4 {
			points = append(points, points...)
		}
	}
	n := newNode(t, "--namespace", "ns:secret")
	crew := newCrew(16)
	rng := rand.New(rand.NewPCG(1, 2))
	for round, point := range points {
		var env []string
		hit := filepath.Join(n.dir, fmt.Sprintf("hit%d", round))
		if point != "" {
			env = []string{fmt.Sprintf("QSFS_CRASH=%s@%d", point, passes(point, rng)), "QSFS_CRASH_LOG=" + hit}
		}
		died := func() {
			t.Helper()
			if raw, err := os.ReadFile(hit); err != nil || !bytes.Contains(raw, []byte(point)) {
				t.Errorf("round %d did not die at %s: %q, %v\n%s", round, point, raw, err, n.log.String())
			}
		}
		if !n.survives(env...) { // compaction begins as soon as the namespace is open
			died()
			t.Logf("round %d %s: at the start", round, point)
			continue
		}
		crew.check(t, n)
		before := crew.acknowledged.Load()
		ctx, cancel := context.WithCancel(t.Context())
		work := crew.run(ctx, n)
		if point == "" {
			time.Sleep(300*time.Millisecond + time.Duration(rng.IntN(300))*time.Millisecond)
			n.cmd.Process.Kill()
		}
		exited := make(chan error, 1)
		go func() { exited <- n.cmd.Wait() }()
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			t.Errorf("round %d: %s was not passed often enough", round, point)
			n.cmd.Process.Kill()
			<-exited
		}
		n.cmd = nil
		cancel()
		work.Wait()
		if point != "" {
			died()
		}
		t.Logf("round %d %s: %d acknowledged", round, point, crew.acknowledged.Load()-before)
	}
	n.start()
	crew.check(t, n)
	if total := crew.acknowledged.Load(); total < 1000 {
		t.Errorf("only %d operations were acknowledged in all", total)
	}
}

// passes is how often a point is passed before it kills.
func passes(point string, rng *rand.Rand) int {
	switch point {
	case "zdb.seal.renamed":
		return 3 + rng.IntN(5) // a restart seals too
	case "zdb.apply.before", "zdb.apply.after":
		return 1
	}
	return 100 + rng.IntN(300)
}

// A crew is a set of clients that know what their keys must hold.
type crew struct {
	clients      []*worker
	acknowledged atomic.Int64
}

// A worker owns some keys. For each it knows what was acknowledged, and what is in flight.
type worker struct {
	id   int
	rng  *rand.Rand
	keys map[string]*slot
	seq  int
}

type slot struct {
	value   []byte // acknowledged; nil is absent
	pending bool
	next    []byte // in flight, when pending
}

func newCrew(n int) *crew {
	c := &crew{}
	for i := range n {
		w := &worker{id: i, rng: rand.New(rand.NewPCG(uint64(i), 7)), keys: map[string]*slot{}}
		for k := range 20 {
			w.keys[fmt.Sprintf("w%d-k%d", i, k)] = &slot{}
		}
		c.clients = append(c.clients, w)
	}
	return c
}

func (c *crew) run(ctx context.Context, n *node) *sync.WaitGroup {
	var wg sync.WaitGroup
	for _, w := range c.clients {
		cl := n.client(client.Options{Namespace: "ns", Password: "secret", Conns: 1})
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := w.step(ctx, cl); err != nil {
					return
				}
				c.acknowledged.Add(1)
			}
		})
	}
	return &wg
}

// step does one operation on a random key.
func (w *worker) step(ctx context.Context, cl *client.Client) error {
	key := fmt.Sprintf("w%d-k%d", w.id, w.rng.IntN(len(w.keys)))
	s := w.keys[key]
	w.seq++
	value := fmt.Appendf(nil, "%s value %d ", key, w.seq)
	value = append(value, bytes.Repeat([]byte{byte(w.seq)}, w.rng.IntN(8192))...)
	s.pending = true
	var err error
	switch w.rng.IntN(4) {
	case 0:
		s.next = nil
		if err = cl.Del(ctx, []byte(key)); errors.Is(err, client.ErrNotFound) && s.value == nil {
			err = nil
		}
	case 1:
		s.next = value
		var swapped bool
		var current []byte
		swapped, current, err = cl.CAS(ctx, []byte(key), value, s.value)
		if err == nil && !swapped {
			err = fmt.Errorf("%s: compare-and-set found %.40q, expected %.40q", key, current, s.value)
		}
	default:
		s.next = value
		_, err = cl.Set(ctx, []byte(key), value)
	}
	if err != nil {
		return err
	}
	s.value, s.pending, s.next = s.next, false, nil
	return nil
}

// check compares all keys with what the workers know.
func (c *crew) check(t *testing.T, n *node) {
	t.Helper()
	cl := n.client(client.Options{Namespace: "ns", Password: "secret"})
	for _, w := range c.clients {
		for key, s := range w.keys {
			got, err := cl.Get(t.Context(), []byte(key))
			if err != nil && !errors.Is(err, client.ErrNotFound) {
				t.Errorf("%s: %v", key, err)
				continue
			}
			if errors.Is(err, client.ErrNotFound) {
				got = nil
			}
			switch {
			case same(got, s.value):
			case s.pending && same(got, s.next):
			case s.pending:
				t.Errorf("%s: got %.40q, want %.40q or, in flight, %.40q", key, got, s.value, s.next)
			default:
				t.Errorf("%s: got %.40q, want %.40q", key, got, s.value)
			}
			s.value, s.pending, s.next = got, false, nil
		}
	}
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
