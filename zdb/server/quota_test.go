package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"qsfs/zdb/client"
)

// diskUsage is what the files below directories take, by blocks.
func diskUsage(t *testing.T, dirs ...string) (sum int64) {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil // removed meanwhile
			}
			if info, err := e.Info(); err == nil {
				sum += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	return sum
}

// documented is what COMMANDS.md says that a namespace with a maxsize takes at most.
func documented(maxSize int64) int64 { return maxSize + maxSize/4 + 64<<20 }

// watchDisk looks at what a namespace takes until it is stopped, and returns the most.
func watchDisk(ts *testServer, name string) (stop func() int64) {
	done := make(chan struct{})
	var most int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			most = max(most, diskUsage(ts.t, filepath.Join(ts.o.DataDir, name), filepath.Join(ts.o.IndexDir, name)))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() int64 { close(done); wg.Wait(); return most }
}

// TestMaxSizeOnDisk overwrites small and middle values in storms that would take many times the limit, and fills a
// namespace with tiny values. What is on the disk never exceeds what is documented, no overwrite is refused, and deletes
// always work. With QSFS_LONG the values are smaller, and the storms longer.
func TestMaxSizeOnDisk(t *testing.T) {
	t.Parallel()
	type storm struct {
		name       string
		maxSize    int64
		size, keys int
		writes     int64 // bytes to write, payload
		mayFill    bool
	}
	storms := []storm{
		{name: "overwriting 4 KiB", maxSize: 16 << 20, size: 4096, keys: 3000, writes: 76 << 20},
		{name: "overwriting 64 KiB", maxSize: 32 << 20, size: 64 << 10, keys: 300, writes: 128 << 20},
		{name: "filling with 512 bytes", maxSize: 4 << 20, size: 512, keys: 1 << 40, writes: 24 << 20, mayFill: true},
	}
	if os.Getenv("QSFS_LONG") != "" {
		storms = []storm{
			{name: "overwriting 16 bytes", maxSize: 64 << 20, size: 16, keys: 20_000, writes: 24 << 20},
			{name: "overwriting 4 KiB", maxSize: 64 << 20, size: 4096, keys: 10_000, writes: 640 << 20},
			{name: "overwriting 64 KiB", maxSize: 256 << 20, size: 64 << 10, keys: 2500, writes: 2 << 30},
			{name: "filling with 16 bytes", maxSize: 64 << 20, size: 16, keys: 1 << 40, writes: 24 << 20, mayFill: true},
			{name: "filling with 4 KiB", maxSize: 64 << 20, size: 4096, keys: 1 << 40, writes: 128 << 20, mayFill: true},
		}
	}
	for _, tc := range storms {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			maxSize := tc.maxSize
			ts := start(t, func(o *Options) { o.SegmentSize, o.NoSync = 0, true })
			w := ts.adminWire()
			w.want("+OK", "NSNEW", "ns")
			w.want("+OK", "NSSET", "ns", "maxsize", fmt.Sprint(maxSize))
			stop := watchDisk(ts, "ns")
			var left, refused, written, next atomic.Int64
			left.Store(tc.writes)
			var wg sync.WaitGroup
			for i := range 4 {
				c := ts.client("ns", "")
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(1, uint64(i)))
					for left.Add(-64*int64(tc.size)) > 0 && (!tc.mayFill || refused.Load() == 0) {
						cmds := make([]client.Command, 64)
						for k := range cmds {
							value := make([]byte, tc.size)
							for at := 0; at+8 <= len(value); at += 8 {
								binary.LittleEndian.PutUint64(value[at:], rng.Uint64())
							}
							n := next.Add(1)
							if !tc.mayFill {
								n = rng.Int64N(int64(tc.keys))
							}
							cmds[k] = client.Cmd("SET", fmt.Appendf(nil, "key:%012d", n), value)
						}
						results, err := c.Pipeline(context.Background(), cmds...)
						if err != nil {
							t.Error(err)
							return
						}
						for _, r := range results {
							switch {
							case r.Err == nil:
								written.Add(1)
							case strings.Contains(r.Err.Error(), errQuota):
								refused.Add(1)
							default:
								t.Error(r.Err)
								return
							}
						}
					}
				})
			}
			wg.Wait()
			most := stop()
			t.Logf("%d written, %d refused, at most %.1f MiB on disk of %.1f documented", written.Load(), refused.Load(), float64(most)/(1<<20), float64(documented(maxSize))/(1<<20))
			if most > documented(maxSize) {
				t.Errorf("%d bytes on disk, documented are %d", most, documented(maxSize))
			}
			if tc.mayFill != (refused.Load() > 0) {
				t.Errorf("%d writes were refused", refused.Load())
			}
			if !tc.mayFill {
				return
			}
			if written.Load() == 0 {
				t.Fatal("nothing was written")
			}
			// The disk is relieved by deletes, which are never refused, and then takes writes again.
			w.want("+OK", "SELECT", "ns")
			deleted := 0
			for k := int64(1); k <= next.Load() && deleted < 20_000; k++ {
				switch got := w.do("DEL", fmt.Sprintf("key:%012d", k)); got {
				case "+OK":
					deleted++
				case "-" + errKeyNotFound:
				default:
					t.Fatalf("a delete on a full namespace: %s", got)
				}
			}
			w.want("+OK", "COMPACT", "ns", "ALL")
			settled(w, "ns")
			eventually(t, "a write after deletes", func() bool { return w.do("SET", "again", "value") == `"again"` })
		})
	}
}

// What keep_deleted keeps counts for maxsize: a front machine that overwrites without end is refused before the bound of the
// disk, can still delete, and has destroyed nothing; the admin reads the first version.
func TestMaxSizeWithKeptVersions(t *testing.T) {
	t.Parallel()
	const maxSize = 2 << 20
	ts := start(t, func(o *Options) { o.SegmentSize, o.NoSync = 0, true })
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	w.want("+OK", "NSSET", "ns", "maxsize", fmt.Sprint(maxSize))
	w.want("+OK", "NSSET", "ns", "keep_deleted", "1d")
	w.want("+OK", "SELECT", "ns")
	w.want(`"key 0"`, "SET", "key 0", "the first")
	stop := watchDisk(ts, "ns")
	c := ts.client("ns", "")
	refused := 0
	for i := 0; i < 4000 && refused == 0; i++ {
		_, err := c.Set(t.Context(), fmt.Appendf(nil, "key %d", i%10), fmt.Appendf(nil, "%032000d", i))
		switch {
		case errors.Is(err, client.ErrNoSpace):
			refused++
		case err != nil:
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("128 MB of kept versions were taken with 2 MiB")
	}
	for i := range 10 {
		if err := c.Del(t.Context(), fmt.Appendf(nil, "key %d", i)); err != nil {
			t.Errorf("a delete when it is full: %v", err)
		}
	}
	if most := stop(); most > documented(maxSize) {
		t.Errorf("%d bytes on disk, documented are %d", most, documented(maxSize))
	}
	if st := ts.lookup("ns").eng.Load().Stats(); st.Segments < 10 || st.CopiedBytes > 8<<20 {
		t.Errorf("%d segments, %d bytes copied although nothing of them is dead", st.Segments, st.CopiedBytes)
	}
	admin, err := client.Dial(t.Context(), client.Options{Address: ts.address, Admin: adminPassword})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	var last client.Version
	for before := uint64(0); ; before = last.Seq {
		page, err := admin.Versions(t.Context(), "ns", []byte("key 0"), before)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		last = page[len(page)-1]
	}
	if v, err := admin.VersionValue(t.Context(), "ns", []byte("key 0"), last.Seq); err != nil || string(v) != "the first" {
		t.Errorf("the first version: %.20q, %v", v, err)
	}
}

// A write that waits for room when its namespace is emptied goes into the empty one, which owes nothing for it afterwards.
func TestFlushWhileWaitingForRoom(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	admin := ts.adminWire()
	admin.private("ns", "secret")
	admin.want("+OK", "NSSET", "ns", "maxsize", "1000000")
	w, other := ts.dial(), ts.dial()
	for _, c := range []*wire{w, other} {
		c.want("+OK", "SELECT", "ns", "secret")
	}
	n := ts.lookup("ns")
	room := make(chan struct{})
	n.quota.mu.Lock()
	n.quota.reclaim = room // as if compaction were at work
	n.quota.mu.Unlock()
	const most = 1 << 40
	n.quota.inflight.Add(most)
	w.send("SET", "k", "value")
	eventually(t, "the write waits", func() bool { return n.quota.inflight.Load() > most })
	other.want("+OK", "FLUSH")
	close(room)
	if got := w.reply(); got != `"k"` {
		t.Errorf("SET: %s", got)
	}
	w.want(`"value"`, "GET", "k")
	if got := ts.lookup("ns").quota.inflight.Load(); got != 0 || n.quota.inflight.Load() != most {
		t.Errorf("%d bytes are asked for in the new one, %d in the old one", got, n.quota.inflight.Load()-most)
	}
}
