package server

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdb/internal/vfs"
)

// long is a value that is not kept in the index, so that to compare with it is to read it.
func long(c string) string { return strings.Repeat(c, 1000) }

// Where there is no room for all SETs that came together, those are taken for which there is.
func TestSetsTogetherNearTheEnd(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	var refused atomic.Int64
	ts := faulty(t, func(c vfs.Call) error {
		if full.Load() && c.Op == "WriteAt" && isData(c) && c.Len > 4000 {
			refused.Add(1)
			return unix.ENOSPC
		}
		return nil
	})
	w := ts.adminWire()
	w.want(`"same"`, "SET", "same", "value")
	full.Store(true)
	var steps []step
	for i := range 12 {
		k := fmt.Sprintf("k%d", i)
		steps = append(steps, do(fmt.Sprintf("%q", k), "SET", k, long("v")))
	}
	steps[3] = do("-Cannot write data right now", "SET", "k3", strings.Repeat("v", 9000))
	steps[5] = do("nil", "SET", "same", "value")
	w.pipeline(steps)
	if refused.Load() < 2 {
		t.Errorf("%d writes were refused: the SETs did not go together", refused.Load())
	}
	for i := range 12 {
		want := fmt.Sprintf("%q", long("v"))
		if i == 3 || i == 5 {
			want = "nil"
		}
		w.want(want, "GET", fmt.Sprintf("k%d", i))
	}
	info := ts.info(w, "default")
	if want := fmt.Sprint(10*1000 + len("value")); info["entries"] != "11" || info["data_size_bytes"] != want {
		t.Errorf("entries %s, bytes %s; want 11, %s", info["entries"], info["data_size_bytes"], want)
	}
}

// So it is where several connections share a batch: who asks for little gets it.
func TestTurnsNearTheEnd(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	ts := faulty(t, func(c vfs.Call) error {
		if full.Load() && c.Op == "WriteAt" && isData(c) && c.Len > 4000 {
			return unix.ENOSPC
		}
		return nil
	})
	w := ts.adminWire()
	w.want(`"k"`, "SET", "k", "v")
	full.Store(true)
	join, keys := gathering(t, ts, "default"), apart(9)
	var all []*wire
	for i, k := range keys {
		c := ts.dial()
		value := long("v")
		if i == 4 {
			value = strings.Repeat("v", 9000)
		}
		c.send("SET", k, value)
		all = append(all, c)
	}
	join(len(keys))
	for i, c := range all {
		want := fmt.Sprintf("%q", keys[i])
		if i == 4 {
			want = "-Cannot write data right now"
		}
		if got := c.reply(); got != want {
			t.Errorf("%d: got %s, want %s", i, got, want)
		}
	}
	if info := ts.info(w, "default"); info["entries"] != "9" || info["data_size_bytes"] != "8001" {
		t.Errorf("entries %s, bytes %s; want 9, 8001", info["entries"], info["data_size_bytes"])
	}
}

// So it is where maxsize is set while they are on their way.
func TestSetsTogetherMeetALimit(t *testing.T) {
	t.Parallel()
	var stuck atomic.Bool
	reading, goOn := make(chan bool, 1), make(chan bool)
	ts := faulty(t, func(c vfs.Call) error {
		if c.Op == "ReadAt" && isData(c) && stuck.CompareAndSwap(true, false) {
			reading <- true
			<-goOn
		}
		return nil
	})
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release)
	admin, w := ts.adminWire(), ts.dial()
	admin.want("+OK", "NSNEW", "small")
	w.play([]step{do("+OK", "SELECT", "small"), do(`"slow"`, "SET", "slow", long("a"))})
	keys := slices.DeleteFunc(apart(3), func(k string) bool { return stripeOf([]byte(k)) == stripeOf([]byte("slow")) })
	stuck.Store(true)
	w.raw(slices.Concat(request("SET", "slow", long("b")), request("SET", keys[0], long("c")), request("SET", keys[1], long("d"))))
	<-reading
	admin.want("+OK", "NSSET", "small", "maxsize", "2500")
	release()
	for i, want := range []string{`"slow"`, fmt.Sprintf("%q", keys[0]), "-No space left on this namespace"} {
		if got := w.reply(); got != want {
			t.Errorf("SET %d: got %s, want %s", i, got, want)
		}
	}
	w.play([]step{do(":2", "DBSIZE"), do("nil", "SET", "slow", long("b")), do(fmt.Sprintf("%q", long("c")), "GET", keys[0])})
	if info := ts.info(admin, "small"); info["data_size_bytes"] != "2000" {
		t.Errorf("%s bytes, want 2000", info["data_size_bytes"])
	}
}

// SETs wait for a key that somebody else has locked only where they come to it, and nobody waits for them meanwhile.
func TestSetsTogetherBesideASlowOne(t *testing.T) {
	t.Parallel()
	var stuck atomic.Bool
	reading, goOn := make(chan bool, 1), make(chan bool)
	ts := faulty(t, func(c vfs.Call) error {
		if c.Op == "ReadAt" && isData(c) && stuck.CompareAndSwap(true, false) {
			reading <- true
			<-goOn
		}
		return nil
	})
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release)
	slow, w, other := ts.dial(), ts.dial(), ts.dial()
	w.want(`"slow"`, "SET", "slow", long("a"))
	keys := slices.DeleteFunc(apart(6), func(k string) bool { return stripeOf([]byte(k)) == stripeOf([]byte("slow")) })
	stuck.Store(true)
	slow.send("SET", "slow", long("b"))
	<-reading
	var stream []byte
	for i, k := range append(keys[:3:3], "slow", keys[3], keys[4]) {
		stream = append(stream, request("SET", k, fmt.Sprint(i))...)
	}
	w.raw(stream)
	eventually(t, "what comes before the key that is locked is set", func() bool { return other.do("GET", keys[2]) == `"2"` })
	other.want(fmt.Sprintf("%q", keys[0]), "SET", keys[0], "other") // all others are free
	other.want(fmt.Sprintf("%q", keys[4]), "SET", keys[4], "other")
	other.want("+OK", "DEL", keys[4])
	release()
	if got := slow.reply(); got != `"slow"` {
		t.Errorf("the slow one: %s", got)
	}
	for i, k := range append(keys[:3:3], "slow", keys[3], keys[4]) {
		if got := w.reply(); got != fmt.Sprintf("%q", k) {
			t.Errorf("SET %d: %s", i, got)
		}
	}
	other.want(`"3"`, "GET", "slow")
	other.want(`"5"`, "GET", keys[4])
}

// While each SET takes its time, fewer and fewer are taken together, so that others need not wait for them.
func TestSetsTogetherWhileSlow(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	ts := faulty(t, func(c vfs.Call) error {
		if slow.Load() && c.Op == "ReadAt" && isData(c) {
			time.Sleep(2 * togetherTime)
		}
		return nil
	})
	w := ts.dial()
	fill := func(c string) (steps []step) {
		for i := range 60 {
			k := fmt.Sprintf("k%d", i)
			steps = append(steps, do(fmt.Sprintf("%q", k), "SET", k, long(c)))
		}
		return steps
	}
	w.pipeline(fill("a"))
	slow.Store(true)
	before := ts.commits("default")
	ts.dial().pipeline(fill("b"))
	if d := ts.commits("default") - before; d < 30 {
		t.Errorf("60 slow SETs were %d batches", d)
	}
	slow.Store(false)
	w.pipeline(fill("c"))
}

// A connection that has nothing to say keeps little of what it once sent: one large value, or a run of SETs behind one.
func TestIdleKeepsLittle(t *testing.T) {
	ts := start(t, func(o *Options) { o.NoSync = true })
	ts.dial().want(`"first"`, "SET", "first", "value")
	before := takeFootprint(t)
	const connections, size = 24, 4 << 20
	value := strings.Repeat("v", size)
	for c := range connections {
		w := ts.dial()
		large, small := fmt.Sprintf("large %d", c), fmt.Sprintf("small %d", c)
		steps := []step{do(fmt.Sprintf("%q", large), "SET", large, value)}
		for i := range c % 3 * 40 {
			k := fmt.Sprintf("%s of %d", small, i)
			steps = append(steps, do(fmt.Sprintf("%q", k), "SET", k, "v"))
		}
		w.pipeline(steps)
	}
	var after footprint
	eventually(t, "memory is given back", func() bool {
		after = takeFootprint(t)
		return ts.buffers.Lent() == 0
	})
	grown := int64(after.heap) - int64(before.heap)
	t.Logf("%d connections have %d bytes each", connections, grown/connections)
	if grown > connections*(512<<10) {
		t.Errorf("%d connections that are idle keep %d MiB", connections, grown>>20)
	}
}
