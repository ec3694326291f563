package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// private makes a namespace that only its password opens.
func (w *wire) private(name, password string) {
	w.t.Helper()
	w.want("+OK", "NSNEW", name)
	w.want("+OK", "NSSET", name, "password", password)
	w.want("+OK", "NSSET", name, "public", "0")
}

func TestFlush(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	admin := ts.adminWire()
	admin.want("-Flushing public namespace denied", "FLUSH")
	admin.want("+OK", "NSNEW", "ns")
	a, b := ts.dial(), ts.dial()
	a.play([]step{do("+OK", "SELECT", "ns"), do(`"k"`, "SET", "k", "v"), do("-Flushing public namespace denied", "FLUSH")})
	admin.want("+OK", "NSSET", "ns", "password", "secret")
	b.want("+OK", "SELECT", "ns") // public: may only read
	a.want("-Flushing public namespace denied", "FLUSH")
	admin.want("+OK", "NSSET", "ns", "public", "0")
	b.want("-Namespace is in read-only mode", "FLUSH")
	admin.want("+OK", "NSSET", "ns", "lock", "1")
	a.want("-Namespace is temporarily locked (read-only)", "FLUSH")
	admin.want("+OK", "NSSET", "ns", "lock", "0")
	admin.want("+OK", "NSSET", "ns", "worm", "1")
	a.want("-Cannot delete a key when namespace is in worm mode", "FLUSH")
	admin.want("+OK", "NSSET", "ns", "worm", "0")
	admin.want("+OK", "NSSET", "ns", "maxsize", "10")
	before := a.do("INCARNATION")
	a.play([]step{do(`"full"`, "SET", "full", "123456789"), do("-No space left on this namespace", "SET", "more", "x"), do(":2", "DBSIZE")})
	data, _ := ts.lookup("ns").paths(0)
	if _, err := os.Stat(data); err != nil {
		t.Fatal(err)
	}
	a.want("+OK", "FLUSH")
	// The sessions go on, in an empty namespace with the settings of before.
	for _, w := range []*wire{a, b} {
		w.play([]step{do(":0", "DBSIZE"), do("nil", "GET", "k"), do("-No more data", "SCAN"), do("-Key not found", "HISTORY", "k")})
	}
	b.want("-Namespace is in read-only mode", "SET", "k", "v")
	a.play([]step{do(`"k"`, "SET", "k", "0123456789"), do("-No space left on this namespace", "SET", "l", "x")})
	if after := a.do("INCARNATION"); after == before {
		t.Errorf("the incarnation is still %s", after)
	}
	ts.reopen()
	w := ts.dial()
	w.play([]step{do("-Namespace protected and private", "SELECT", "ns"), do("+OK", "SELECT", "ns", "secret"), do(":1", "DBSIZE"), do(`"0123456789"`, "GET", "k")})
}

// A sequential namespace begins with id 0 again.
func TestFlushSequential(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Mode = ModeSequential })
	admin := ts.adminWire()
	admin.private("ns", "secret")
	w := ts.dial()
	w.play([]step{do("+OK", "SELECT", "ns", "secret"), do(quoted(0), "SET", "", "a"), do(quoted(1), "SET", "", "b"), do("+OK", "FLUSH"),
		do("nil", "GET", id(0)), do(quoted(0), "SET", "", "c"), do(":1", "DBSIZE")})
}

// After a crash at any step either all is there or nothing; what was written after the flush stays.
func TestFlushIsAtomic(t *testing.T) {
	t.Parallel()
	aside := func(all map[string]*settings) {
		old := *all["ns"]
		old.Store, old.Removed, old.Removing = "ns", time.Now(), true
		all["ns/1"], all["ns"].Store = &old, "ns/1"
	}
	mark := func(all map[string]*settings) { all["ns"].Flushing = true } // as version 1 did
	both := []string{"data", "index"}
	for _, tc := range []struct {
		name    string
		change  func(map[string]*settings)
		dropped []string // of the namespace's two directories
		empty   bool
	}{
		{"before", func(map[string]*settings) {}, nil, false},
		{"listed", aside, nil, true}, {"half", aside, []string{"data"}, true}, {"dropped", aside, both, true},
		{"version 1, marked", mark, nil, true}, {"version 1, half", mark, []string{"data"}, true}, {"version 1, dropped", mark, both, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ts := start(t, nil)
			ts.adminWire().private("ns", "secret")
			w := ts.dial()
			w.play([]step{do("+OK", "SELECT", "ns", "secret"), do(`"k"`, "SET", "k", "v")})
			if err := ts.Close(); err != nil {
				t.Fatal(err)
			}
			<-ts.served
			all, _, err := loadRegistry(ts.o.DataDir)
			if err != nil {
				t.Fatal(err)
			}
			tc.change(all)
			if err := saveRegistry(ts.o.DataDir, all); err != nil {
				t.Fatal(err)
			}
			for _, dir := range tc.dropped {
				parent := map[string]string{"data": ts.o.DataDir, "index": ts.o.IndexDir}[dir]
				if err := os.Rename(filepath.Join(parent, "ns"), filepath.Join(parent, ".dropped-ns")); err != nil {
					t.Fatal(err)
				}
			}
			ts.open()
			w = ts.dial()
			w.want("+OK", "SELECT", "ns", "secret")
			if !tc.empty {
				w.want(`"v"`, "GET", "k")
				return
			}
			w.play([]step{do("nil", "GET", "k"), do(":0", "DBSIZE"), do(`"n"`, "SET", "n", "new")})
			if left := ts.lookup("ns").store(); left != "ns" {
				eventually(t, "the files of before go", func() bool {
					_, err := os.Stat(filepath.Join(ts.o.DataDir, "ns"))
					return os.IsNotExist(err)
				})
			}
			ts.reopen()
			w = ts.dial()
			w.play([]step{do("+OK", "SELECT", "ns", "secret"), do(`"new"`, "GET", "n")})
			ts.adminWire().want("[]", "KEPT", "LIST")
		})
	}
}

// Writers go on while others flush: each of their writes is before a flush or after it.
func TestFlushAmongWriters(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.NoSync = true })
	ts.adminWire().private("ns", "secret")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 3 {
		w := ts.dial()
		w.want("+OK", "SELECT", "ns", "secret")
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("%d-%d", i, n)
				w.want(fmt.Sprintf("%q", key), "SET", key, "value")
			}
		})
	}
	w := ts.dial()
	w.want("+OK", "SELECT", "ns", "secret")
	for range 10 {
		w.want("+OK", "FLUSH")
	}
	close(stop)
	wg.Wait()
	w.want("+OK", "FLUSH")
	w.want(":0", "DBSIZE")
	w.want("-No more data", "SCAN")
}

func TestReload(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ts.dial().want("-Permission denied", "RELOAD", "default")
	w := ts.adminWire()
	w.play([]step{
		do(`"k"`, "SET", "k", "value"), do("+OK", "RELOAD", "default"), do(`"value"`, "GET", "k"), do(":1", "DBSIZE"),
		do("-Unexpected arguments", "RELOAD"), do("-Unexpected arguments", "RELOAD", "a", "b"), do("-Namespace not found", "RELOAD", "none"),
		do("-Namespace too long", "RELOAD", strings.Repeat("x", 129)), do("-Invalid argument", "RELOAD", ""),
	})
	// The figures are put right while writers go on.
	n := ts.lookup("default")
	n.entries.Add(5)
	n.payload.Add(-3)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		w := ts.dial()
		wg.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
					w.do("SET", fmt.Sprintf("%d", i*1000+k%100), strings.Repeat("x", k%50))
					w.do("DEL", fmt.Sprintf("%d", i*1000+k%70))
				}
			}
		})
	}
	for range 5 {
		w.want("+OK", "RELOAD", "default")
	}
	close(stop)
	wg.Wait()
	eng, err := n.acquire(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer n.release()
	keys, bytes, err := eng.Count(context.Background())
	if err != nil || n.entries.Load() != keys || n.keyBytes.Load()+n.payload.Load() != bytes {
		t.Errorf("%d keys with %d bytes, the engine counts %d with %d, %v", n.entries.Load(), n.keyBytes.Load()+n.payload.Load(), keys, bytes, err)
	}
}
