package server

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"qsfs/zdb/internal/vfs"
)

// commits is how many batches a namespace has taken.
func (ts *testServer) commits(namespace string) uint64 {
	if eng := ts.lookup(namespace).eng.Load(); eng != nil { // else nothing has been asked of it
		return eng.Stats().Commits
	}
	return 0
}

// pipeline sends commands at once and compares the replies.
func (w *wire) pipeline(steps []step) {
	w.t.Helper()
	var stream []byte
	for _, s := range steps {
		stream = append(stream, request(s.args...)...)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := w.nc.Write(stream)
		sent <- err
	}()
	for i, s := range steps {
		if got := w.reply(); got != s.want {
			w.t.Errorf("%d: %.60q: got %.100s, want %.100s", i, s.args, got, s.want)
		}
	}
	if err := <-sent; err != nil {
		w.t.Errorf("send: %v", err)
	}
}

// SETs that arrive together are committed together, and answered as if each had come alone.
func TestSetsTogether(t *testing.T) {
	t.Parallel()
	for _, noSync := range []bool{false, true} {
		ts := start(t, func(o *Options) { o.NoSync, o.Metrics = noSync, true })
		w := ts.adminWire()
		var steps []step
		const n = 640
		value := strings.Repeat("v", 1000)
		for i := range n {
			k := fmt.Sprintf("k%d", i)
			steps = append(steps, do(fmt.Sprintf("%q", k), []string{"SET", "setx"}[i%2], k, value+k))
		}
		before := ts.commits("default")
		w.pipeline(steps)
		if d := ts.commits("default") - before; d > n/4 {
			t.Errorf("%d SETs in one pipeline were %d batches", n, d)
		}
		for i := range n {
			k := fmt.Sprintf("k%d", i)
			w.want(fmt.Sprintf("%q", value+k), "GET", k)
		}
		info := ts.info(w, "default")
		keys := 0
		for i := range n {
			keys += len(fmt.Sprintf("k%d", i))
		}
		if want := fmt.Sprint(n*len(value) + keys); info["entries"] != fmt.Sprint(n) || info["data_size_bytes"] != want {
			t.Errorf("entries %s, bytes %s; want %d, %s", info["entries"], info["data_size_bytes"], n, want)
		}
		figures, _ := ts.scrape()
		for _, name := range []string{"SET", "SETX"} {
			if got := figures[fmt.Sprintf("zdb_command_seconds_count{command=%q}", name)]; got != n/2 {
				t.Errorf("%v %s are in the metrics, want %d", got, name, n/2)
			}
		}
	}
}

// Whatever stands between SETs, and whatever is wrong with one of them, changes nothing for the others.
func TestSetsTogetherEachByItself(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w, plain := ts.adminWire(), ts.dial()
	long := strings.Repeat("k", 256)
	w.want("+OK", "NSNEW", "worm")
	w.want("+OK", "NSNEW", "seq")
	w.want("+OK", "NSSET", "seq", "mode", "seq")
	w.want("+OK", "NSNEW", "small")
	w.want("+OK", "NSSET", "small", "maxsize", "10")
	before := ts.commits("default")
	w.pipeline([]step{
		do(`"a"`, "SET", "a", "1"), do(`"b"`, "SET", "b", "1"), do("nil", "SET", "a", "1"), do(`"a"`, "SET", "a", "2"), do("nil", "SETX", "a", "2"),
		do(`"2"`, "GET", "a"), do(`"a"`, "SET", "a", "3"), do("-Key too large", "SET", long, "x"), do(`"c"`, "SET", "c", ""),
		do("-Invalid argument, key needed", "SET", "", "x"), do("nil", "SET", "c", ""), do("-Unexpected arguments", "SET", "d"), do(`"d"`, "SET", "d", "4"),
		do(`"e"`, "SET", "e", "5", "1000"), do(":1000", "KEYTIME", "e"), do(`"f"`, "SET", "f", "6"), do("-Command not supported", "SETY", "f", "6"),
		do(`"g"`, "SET", "g", "7"), do("+OK", "DEL", "g"), do(`"g"`, "SET", "g", "8"), do(":7", "DBSIZE"),
	})
	if d := ts.commits("default") - before; d < 8 || d > 12 {
		t.Errorf("%d batches", d)
	}
	plain.pipeline([]step{do(`"h"`, "SET", "h", "1"), do("-Permission denied", "SET", "i", "1", "5"), do(`"j"`, "SET", "j", "1")})
	w.pipeline([]step{
		do("+OK", "SELECT", "worm"), do(`"a"`, "SET", "a", "1"), do(`"b"`, "SET", "b", "1"), do("+OK", "NSSET", "worm", "worm", "1"),
		do(`"c"`, "SET", "c", "1"), do("-Namespace is protected by worm mode", "SET", "a", "2"), do(`"d"`, "SET", "d", "1"),
		do("-Namespace is protected by worm mode", "SET", "b", "1"), do(`"1"`, "GET", "d"),
		do("+OK", "NSSET", "worm", "lock", "1"), do("-Namespace is temporarily locked (read-only)", "SET", "e", "1"),
		do("-Namespace is temporarily locked (read-only)", "SET", "f", "1"), do(":4", "DBSIZE"),
		do("+OK", "SELECT", "small"), do(`"a"`, "SET", "a", "12345"), do(`"b"`, "SET", "b", "12345"), do("-No space left on this namespace", "SET", "c", "1"),
		do(`"a"`, "SET", "a", "1"), do(`"c"`, "SET", "c", "1234"), do("-No space left on this namespace", "SET", "d", "1"),
		do("+OK", "SELECT", "seq"), do(`"\x00\x00\x00\x00\x00\x00\x00\x00"`, "SET", "", "x"), do(`"\x01\x00\x00\x00\x00\x00\x00\x00"`, "SET", "", "y"),
		do("-Invalid key, only update authorized", "SET", "12345678", "z"), do(`"\x02\x00\x00\x00\x00\x00\x00\x00"`, "SET", "", "y"),
	})
}

// A batch that fails is answered for each SET of it, leaves nothing, and what comes behind it is taken again.
func TestSetsTogetherFail(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	var failed atomic.Int64
	ts := faulty(t, func(c vfs.Call) error {
		if full.Load() && c.Op == "WriteAt" && isData(c) {
			failed.Add(1)
			return unix.ENOSPC
		}
		return nil
	})
	w := ts.adminWire()
	w.want(`"k0"`, "SET", "k0", "old")
	before := ts.info(w, "default")
	full.Store(true)
	var steps []step
	for i := range 20 {
		if i == 10 {
			steps = append(steps, do("nil", "SET", "k0", "old")) // stores nothing
		}
		steps = append(steps, do("-Cannot write data right now", "SET", fmt.Sprintf("k%d", i+i/20), strings.Repeat("x", 9000)))
	}
	w.pipeline(steps)
	if n := failed.Load(); n <= 20 {
		t.Errorf("%d writes failed: want one of each SET, and of those together", n)
	}
	full.Store(false)
	w.want(`"old"`, "GET", "k0")
	w.want("nil", "GET", "k1")
	if after := ts.info(w, "default"); after["entries"] != before["entries"] || after["data_size_bytes"] != before["data_size_bytes"] {
		t.Errorf("counted %s, %s; before %s, %s", after["entries"], after["data_size_bytes"], before["entries"], before["data_size_bytes"])
	}
	w.pipeline([]step{do(`"k0"`, "SET", "k0", "new"), do(`"k1"`, "SET", "k1", "new")})
}

// Connections that set the same keys together, in any order, do not block each other for good, and what is counted stays right.
func TestSetsTogetherOfMany(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.NoSync = true })
	const keys = 300
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			w := ts.dial()
			r := rand.New(rand.NewPCG(uint64(c), 1))
			for range 40 {
				var stream []byte
				for range 64 {
					k := fmt.Sprintf("k%d", r.IntN(keys))
					if r.IntN(8) == 0 {
						stream = append(stream, request("DEL", k)...)
					} else {
						stream = append(stream, request("SET", k, strings.Repeat("v", r.IntN(50)))...)
					}
				}
				go w.nc.Write(stream)
				for range 64 {
					if got := w.reply(); strings.HasPrefix(got, "broken") || strings.HasPrefix(got, "-") && got != "-Key not found" {
						t.Errorf("reply %s", got)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	w := ts.adminWire()
	n := ts.lookup("default")
	entries, payload, keyBytes := n.entries.Load(), n.payload.Load(), n.keyBytes.Load()
	if err := n.recount(t.Context(), n.eng.Load()); err != nil {
		t.Fatal(err)
	}
	if entries != n.entries.Load() || payload != n.payload.Load() || keyBytes != n.keyBytes.Load() {
		t.Errorf("counted %d keys of %d bytes with %d bytes; there are %d, %d, %d", entries, keyBytes, payload, n.entries.Load(), n.keyBytes.Load(), n.payload.Load())
	}
	w.want(fmt.Sprintf(":%d", entries), "DBSIZE")
}

// A mirror sees SETs that were committed together one by one and in order; who waits for one hears of it.
func TestMirrorOfSetsTogether(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	m, waiting, w := ts.adminWire(), ts.dial(), ts.dial()
	w.want("+PONG", "PING")
	m.want("+"+textMirror, "MIRROR")
	waiting.send("WAIT", "SETX", "1800000")
	eventually(t, "two watch", func() bool { return ts.watch.any.Load() == 2 })
	if got := m.reply(); !strings.Contains(got, `"WAIT"`) {
		t.Errorf("mirror: %s", got)
	}
	var steps []step
	for i := range 50 {
		k := fmt.Sprintf("k%d", i)
		name := "SET"
		if i == 30 {
			name = "SETX"
		}
		steps = append(steps, do(fmt.Sprintf("%q", k), name, k, "v"))
	}
	before := ts.commits("default")
	w.pipeline(steps)
	if d := ts.commits("default") - before; d > 20 {
		t.Errorf("%d batches", d)
	}
	for i, s := range steps {
		if got, want := m.reply(), fmt.Sprintf(`%q %q "v"]`, s.args[0], s.args[1]); !strings.HasSuffix(got, want) {
			t.Fatalf("%d: mirror got %s, want %s", i, got, want)
		}
	}
	if got := waiting.reply(); got != "+SETX" {
		t.Errorf("WAIT SETX: %s", got)
	}
}
