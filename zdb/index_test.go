package zdb

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fillIndex commits and applies n keys and closes in order.
func fillIndex(t *testing.T, r *rig, keys int) {
	t.Helper()
	n := r.open()
	for i := range keys {
		put(t, n, fmt.Sprintf("k%04d", i), fmt.Sprintf("value %d", i))
	}
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.close()
}

func checkIndex(t *testing.T, n *Namespace, keys int) {
	t.Helper()
	got := all(t, n)
	if len(got) != keys {
		t.Fatalf("%d keys, want %d", len(got), keys)
	}
	for i := range keys {
		wantValue(t, n, fmt.Sprintf("k%04d", i), fmt.Sprintf("value %d", i))
	}
	if k, b, err := n.Count(t.Context()); err != nil || k != int64(keys) {
		t.Errorf("Count = %d, %d, %v", k, b, err)
	}
	if s := n.Stats(); s.Keys != int64(keys) {
		t.Errorf("Stats().Keys = %d, want %d", s.Keys, keys)
	}
}

// badgerFiles lists the index's files that match, with something in them.
func badgerFiles(t *testing.T, r *rig, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(r.dir, "index", "ns", badgerDir, "*", pattern))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range all {
		if info, err := os.Stat(name); err == nil && info.Size() > 0 {
			names = append(names, name)
		}
	}
	return names
}

// TestIndexLost: without its files the index is built from the log.
func TestIndexLost(t *testing.T) {
	for _, what := range []string{"all", "MANIFEST", "*.sst", "opening", "empty"} {
		t.Run(strings.Trim(what, "*."), func(t *testing.T) {
			r := newRig(t)
			r.ns.InlineMax = 100
			fillIndex(t, r, 500)
			parent := filepath.Join(r.dir, "index", "ns", badgerDir)
			switch what {
			case "all":
				if err := os.RemoveAll(parent); err != nil {
					t.Fatal(err)
				}
			case "opening":
				if err := os.WriteFile(filepath.Join(parent, "opening"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			case "empty":
				for _, f := range badgerFiles(t, r, "*") {
					if err := os.Truncate(f, 0); err != nil {
						t.Fatal(err)
					}
				}
			default:
				files := badgerFiles(t, r, what)
				if len(files) == 0 {
					t.Fatalf("no %s", what)
				}
				for _, f := range files {
					if err := os.Remove(f); err != nil {
						t.Fatal(err)
					}
				}
			}
			n := r.open()
			checkIndex(t, n, 500)
			if got := n.Stats().IndexRebuilt; what != "all" && what != "MANIFEST" && got != 1 {
				t.Errorf("rebuilt %d times", got)
			}
			r.close()
			checkIndex(t, r.open(), 500)
		})
	}
}

// TestIndexFlips flips bits all over the index's files. A value that does not
// check is never served, and the index is rebuilt from the log.
func TestIndexFlips(t *testing.T) {
	r := newRig(t)
	r.ns.InlineMax = 100
	fillIndex(t, r, 2000)
	files := badgerFiles(t, r, "*.sst")
	if len(files) == 0 {
		t.Fatal("no table")
	}
	rebuilt := uint64(0)
	for round := range 12 {
		file := badgerFiles(t, r, "*.sst")[0]
		p, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// In the middle of a value, wherever one is.
		at := strings.Index(string(p), fmt.Sprintf("value %d", 100+round*150))
		if at < 0 {
			t.Fatalf("no value in %s", file)
		}
		p[at+round%5] ^= 1 << (round % 8)
		if err := os.WriteFile(file, p, 0o600); err != nil {
			t.Fatal(err)
		}
		n := r.open()
		for i := range 2000 {
			wantValue(t, n, fmt.Sprintf("k%04d", i), fmt.Sprintf("value %d", i))
		}
		checkIndex(t, n, 2000)
		rebuilt += n.Stats().IndexRebuilt
		r.close()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	if rebuilt != 12 {
		t.Errorf("rebuilt %d times in 12 rounds", rebuilt)
	}
}

// TestVerifyIndex: flips that no read would notice are found by reading everything.
func TestVerifyIndex(t *testing.T) {
	r := newRig(t)
	fillIndex(t, r, 1000)
	file := badgerFiles(t, r, "*.sst")[0]
	p, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p[len(p)/3] ^= 4
	if err := os.WriteFile(file, p, 0o600); err != nil {
		t.Fatal(err)
	}
	n := r.open()
	if err := n.VerifyIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := n.Stats().IndexRebuilt; got != 1 {
		t.Errorf("rebuilt %d times", got)
	}
	checkIndex(t, n, 1000)
	if err := n.VerifyIndex(t.Context()); err != nil || n.Stats().IndexRebuilt != 1 {
		t.Errorf("second Verify: %v", err)
	}
}

// TestIndexBehind: an older index catches up with the log.
func TestIndexBehind(t *testing.T) {
	r := newRig(t)
	r.ns.InlineMax = 100
	fillIndex(t, r, 100)
	parent := filepath.Join(r.dir, "index", "ns", badgerDir)
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(parent)); err != nil {
		t.Fatal(err)
	}
	n := r.open()
	put(t, n, "k0007", "new")
	b := NewBatch()
	b.Delete([]byte("k0008"))
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, n, "more", "x")
	r.close()
	if err := os.RemoveAll(parent); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(parent, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	n = r.open()
	got := all(t, n)
	if len(got) != 100 || got["k0007"] != "new" || got["more"] != "x" || got["k0008"] != "" {
		t.Errorf("%d keys, %q %q", len(got), got["k0007"], got["more"])
	}
	if s := n.Stats(); s.IndexRebuilt != 0 || s.Keys != 100 {
		t.Errorf("stats %+v", s)
	}
}

// TestIndexAhead: what the index knows and the log lost is not served.
func TestIndexAhead(t *testing.T) {
	r := newRig(t)
	r.ns.InlineMax = 100
	n := r.open()
	put(t, n, "a", "1")
	if err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	short := r.mem.KillClone()
	put(t, n, "b", "2")
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.mem, r.o.FS = short, nil // the disk lies: what was synced is gone
	n = r.open()
	wantKeys(t, n, "a")
	put(t, n, "c", "3")
	wantKeys(t, n, "a c")
	if n.Stats().IndexRebuilt != 1 {
		t.Error("the index was not rebuilt")
	}
	r.close()
	wantKeys(t, r.open(), "a c")
}

// TestIndexOfAnotherLog: an index that belongs to other segments is dropped.
func TestIndexOfAnotherLog(t *testing.T) {
	r := newRig(t)
	fillIndex(t, r, 20)
	r.mem, r.o.FS = newRig(t).mem, nil
	n := r.open()
	put(t, n, "x", "1")
	wantKeys(t, n, "x")
}

// TestUnwitnessed: batches that were durable and applied without a witness move
// to the next segment; the index follows, without a rebuild.
func TestUnwitnessed(t *testing.T) {
	r := newRig(t)
	n := r.open()
	put(t, n, "a", "1", "gone", "x")
	put(t, n, "b", "2")
	b := NewBatch()
	b.Delete([]byte("gone"))
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.powerOff()
	n = r.open()
	wantKeys(t, n, "a b")
	s, st := n.Segments(), n.Stats()
	if st.IndexRebuilt != 0 || st.Keys != 2 || st.LiveBytes != 4 || len(s) != 2 || s[0].Live != 0 || s[1].Live != 28 {
		t.Errorf("stats %+v, segments %+v", st, s)
	}
}

// TestLive follows the live bytes of each segment.
func TestLive(t *testing.T) {
	r := newRig(t)
	n := r.open()
	put(t, n, "a", "11", "b", "22", "c", "33")
	if _, err := n.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, n, "a", "4444")
	b := NewBatch()
	b.Delete([]byte("b"))
	b.Delete([]byte("nothing"))
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		if err := n.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantKeys(t, n, "a c")
		s, st := n.Segments(), n.Stats()
		if s[0].Live != 15 || s[1].Live != 17 || st.Keys != 2 || st.LiveBytes != 8 {
			t.Errorf("%s: %+v, %+v", what, s, st)
		}
	}
	check("at first")
	r.close()
	n = r.open()
	check("after a clean stop")
	r.close()
	if err := os.RemoveAll(filepath.Join(r.dir, "index", "ns", badgerDir)); err != nil {
		t.Fatal(err)
	}
	n = r.open()
	check("after a rebuild")
}

// TestManyNamespaces keeps only a few indexes open.
func TestManyNamespaces(t *testing.T) {
	dir := t.TempDir()
	db := openAt(t, dir, func(o *Options) { o.MaxIndexes = 2; o.Reserve = -1 })
	var ns []*Namespace
	for i := range 6 {
		n := openNS(t, db, fmt.Sprintf("ns%d", i), NamespaceOptions{})
		put(t, n, "k", fmt.Sprint(i))
		if err := n.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		ns = append(ns, n)
	}
	for round := range 3 {
		open := 0
		for i, n := range ns {
			wantValue(t, n, "k", fmt.Sprint(i))
		}
		for _, n := range ns {
			n.idxMu.Lock()
			if n.idx != nil {
				open++
			}
			n.idxMu.Unlock()
		}
		if open > 2 {
			t.Errorf("round %d: %d indexes are open", round, open)
		}
	}
	names, err := db.Namespaces()
	if err != nil || len(names) != 6 {
		t.Errorf("Namespaces = %v, %v", names, err)
	}
}

// TestBigReplay rebuilds an index that needs many transactions.
func TestBigReplay(t *testing.T) {
	r := newRig(t)
	r.ns.InlineMax = 1000
	r.ns.SegmentSize = 1 << 20
	n := r.open()
	value := strings.Repeat("v", 300)
	for i := range 8 {
		b := NewBatch()
		for k := range 2500 {
			b.Set(fmt.Appendf(nil, "%05d", i*2000+k), []byte(value))
		}
		if _, err := n.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	r.kill()
	if err := os.RemoveAll(filepath.Join(r.dir, "index", "ns", badgerDir)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	n = r.open()
	keys, bytes, err := n.Count(t.Context())
	if err != nil || keys != 16500 || bytes != 16500*305 {
		t.Errorf("Count = %d, %d, %v", keys, bytes, err)
	}
	t.Logf("rebuilt in %v", time.Since(start))
}
