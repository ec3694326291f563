package server

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"qsfs/zdb/client"
)

// The numbers at which the original stalled: a read that ends exactly at a command's end.
func TestPipelines(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.dial()
	w.want(`"k"`, "SET", "k", "v")
	for _, tc := range []struct {
		n    int
		args []string
		want string
	}{
		{512, []string{"GET", strings.Repeat("k", 10)}, "nil"},
		{512, []string{"GET", "k"}, `"v"`},
		{10000, []string{"PING"}, "+PONG"},
		{8, []string{"SET", "8k", strings.Repeat("x", 8192-31)}, ""},
		{100, []string{"SET", "64k", strings.Repeat("x", 65536)}, ""},
	} {
		var stream []byte
		for range tc.n {
			stream = append(stream, request(tc.args...)...)
		}
		go w.nc.Write(stream)
		for i := range tc.n {
			if got := w.reply(); strings.HasPrefix(got, "broken") || tc.want != "" && got != tc.want {
				t.Fatalf("%d × %.30q: reply %d is %.100s", tc.n, tc.args, i, got)
			}
		}
	}
}

// Commands of one connection run in order, whatever waits for the disk and whatever does not.
func TestPipelineOrder(t *testing.T) {
	t.Parallel()
	for _, noSync := range []bool{false, true} {
		ts := start(t, func(o *Options) { o.NoSync = noSync })
		w := ts.adminWire()
		w.want("+OK", "NSNEW", "other")
		var stream []byte
		var want []string
		add := func(reply string, args ...string) {
			stream, want = append(stream, request(args...)...), append(want, reply)
		}
		for i := range 300 {
			k, v := fmt.Sprintf("k%d", i%7), fmt.Sprintf("v%d", i)
			add(fmt.Sprintf("%q", k), "SET", k, v)
			add(fmt.Sprintf("%q", v), "GET", k)
			add("+PONG", "PING")
			switch i % 5 {
			case 0:
				add("+OK", "SELECT", "other")
				add(fmt.Sprintf("%q", k), "SET", k, v)
				add(fmt.Sprintf(`[%q nil]`, v), "MGET", k, "missing")
				add("+OK", "SELECT", "default")
			case 1:
				add("+OK", "DEL", k)
				add("nil", "GET", k)
				add("-Key not found", "DEL", k)
				add(":1", "CAS", k, v)
			case 2:
				add("-Command not supported", "WHAT")
			}
		}
		go w.nc.Write(stream)
		for i := range want {
			if got := w.reply(); got != want[i] {
				t.Fatalf("reply %d: got %s, want %s", i, got, want[i])
			}
		}
	}
}

// Writes of many connections and of one pipeline share fsyncs.
func TestGroupCommit(t *testing.T) {
	ts := start(t, nil)
	syncs := func() uint64 { return ts.lookup("default").eng.Load().Stats().Syncs }
	w := ts.dial()
	w.want(`"k"`, "SET", "k", "v")
	before := syncs()
	const n = 2000
	var stream []byte
	for i := range n {
		stream = append(stream, request("SET", fmt.Sprintf("p%d", i), "v")...)
	}
	go w.nc.Write(stream)
	for range n {
		w.reply()
	}
	if d := syncs() - before; d > n/10 {
		t.Errorf("%d pipelined writes took %d fsyncs", n, d)
	}
	before = syncs()
	var wg sync.WaitGroup
	for c := range 20 {
		wg.Go(func() {
			w := ts.dial()
			for i := range 50 {
				w.want(fmt.Sprintf(`"c%d-%d"`, c, i), "SET", fmt.Sprintf("c%d-%d", c, i), "v")
			}
		})
	}
	wg.Wait()
	d := syncs() - before
	if d < 50 {
		t.Errorf("1000 writes, 50 one after the other, took only %d fsyncs: replies came before they were durable", d)
	}
	if d > 500 {
		t.Errorf("1000 writes of 20 clients took %d fsyncs", d)
	}
}

func TestCASUnderContention(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	const clients, rounds = 8, 30
	key := []byte("counter")
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c := ts.client("", "")
			for done := 0; done < rounds; {
				var current []byte
				var n int
				if v, err := c.Get(t.Context(), key); err == nil {
					current = v
					fmt.Sscan(string(v), &n)
				} else if err != client.ErrNotFound {
					t.Error(err)
					return
				}
				// Unique values, so that "has that value already" is always this client's own success.
				next := fmt.Appendf(nil, "%d %p %d", n+1, c, done)
				swapped, _, err := c.CAS(t.Context(), key, next, current)
				if err != nil {
					t.Error(err)
					return
				}
				if swapped {
					done++
				}
			}
		})
	}
	wg.Wait()
	v, err := ts.client("", "").Get(t.Context(), key)
	if err != nil || !strings.HasPrefix(string(v), fmt.Sprint(clients*rounds)+" ") {
		t.Errorf("%d increments led to %q, %v", clients*rounds, v, err)
	}
}
