package zdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// openAt opens a database below dir and closes it with the test.
func openAt(t *testing.T, dir string, change func(*Options)) *DB {
	t.Helper()
	o := Options{DataDir: filepath.Join(dir, "data"), IndexDir: filepath.Join(dir, "index")}
	if change != nil {
		change(&o)
	}
	db, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func openNS(t *testing.T, db *DB, name string, o NamespaceOptions) *Namespace {
	t.Helper()
	n, err := db.Namespace(t.Context(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func put(t *testing.T, n *Namespace, kv ...string) Commit {
	t.Helper()
	b := NewBatch()
	for i := 0; i < len(kv); i += 2 {
		b.Set([]byte(kv[i]), []byte(kv[i+1]))
	}
	c, err := n.Commit(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantValue(t *testing.T, n *Namespace, key, want string) {
	t.Helper()
	e, err := n.Get(t.Context(), []byte(key))
	if err != nil || string(e.Value) != want {
		t.Errorf("Get(%q) = %.40q, %v, want %.40q", key, e.Value, err, want)
	}
}

// TestThinPath goes once along the whole way: commit, sync, seal, reopen, evict, fetch.
func TestThinPath(t *testing.T) {
	dir := t.TempDir()
	var fetched int
	saved := map[SegmentID][]byte{}
	options := func(o *Options) {
		o.Epoch = 1
		o.Fetch = func(_ context.Context, ns string, seg SegmentID, off, n int64) ([]byte, error) {
			fetched += int(n)
			return saved[seg][off : off+n], nil
		}
	}
	db := openAt(t, dir, options)
	n := openNS(t, db, "zdbfs-data", NamespaceOptions{})
	big := bytes.Repeat([]byte("0123456789abcdef"), 10000)
	c := put(t, n, "a", "1", "b", "2", "big", string(big))
	if c.First != MakeSeq(1, 1) || c.Last != MakeSeq(1, 3) {
		t.Errorf("commit = %+v", c)
	}
	wantValue(t, n, "a", "1")
	wantValue(t, n, "big", string(big))
	if err := n.SyncTo(t.Context(), c.Last); err != nil {
		t.Fatal(err)
	}
	if d := n.Durable(); d.Seq != c.Last || d.Segment != 0 {
		t.Errorf("durable = %+v", d)
	}
	b := NewBatch()
	b.Delete([]byte("b"))
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Get(t.Context(), []byte("b")); err != ErrNotFound {
		t.Errorf("deleted key: %v", err)
	}
	id, err := n.Seal(t.Context())
	if err != nil || id != 0 {
		t.Fatal(id, err)
	}
	put(t, n, "c", "3")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	db = openAt(t, dir, options)
	n = openNS(t, db, "zdbfs-data", NamespaceOptions{})
	wantValue(t, n, "a", "1")
	wantValue(t, n, "c", "3")
	path := filepath.Join(dir, "data", "zdbfs-data", "d0")
	saved[0], err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Evict(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("d0 after Evict: %v", err)
	}
	p := make([]byte, 100)
	if k, err := n.ReadRange(t.Context(), []byte("big"), 70000, p); err != nil || k != 100 || !bytes.Equal(p, big[70000:70100]) || fetched != 100 {
		t.Errorf("ReadRange = %d, %v, fetched %d", k, err, fetched)
	}
	it, err := n.NewIter(t.Context(), IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for ok := it.First(); ok; ok = it.Next() {
		keys = append(keys, string(it.Key()))
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil || fmt.Sprint(keys) != "[a big c]" {
		t.Errorf("keys = %v, %v", keys, err)
	}
	t.Logf("%+v", n.Segments())
}
