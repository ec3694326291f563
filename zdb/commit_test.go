package zdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdb/internal/vfs"
)

func TestLimits(t *testing.T) {
	r := newRig(t)
	n := r.open()
	longest := bytes.Repeat([]byte("k"), MaxKeySize)
	value := bytes.Repeat([]byte("0123456789abcdef"), MaxValueSize/16)
	b := NewBatch()
	b.Set(longest, value)
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Errorf("longest key and value: %v", err)
	}
	if e, err := n.Get(t.Context(), longest); err != nil || !bytes.Equal(e.Value, value) {
		t.Errorf("longest value: %d bytes, %v", len(e.Value), err)
	}
	tests := []struct {
		name string
		fill func(*Batch)
		want error
	}{
		{"empty key", func(b *Batch) { b.Set(nil, []byte("v")) }, ErrKey},
		{"long key", func(b *Batch) { b.Delete(append(longest, 'k')) }, ErrKey},
		{"long value", func(b *Batch) { b.Set([]byte("k"), append(value, 'x')) }, ErrBatchTooBig},
		{"much", func(b *Batch) { b.Set([]byte("k"), value); b.Set([]byte("l"), value[:100000]) }, ErrBatchTooBig},
		{"many", func(b *Batch) {
			for i := range MaxBatchEntries + 1 {
				b.Delete(fmt.Appendf(nil, "%d", i))
			}
		}, ErrBatchTooBig},
		{"most", func(b *Batch) {
			for i := range MaxBatchEntries {
				b.Delete(fmt.Appendf(nil, "%d", i))
			}
		}, nil},
		{"nothing", func(*Batch) {}, nil},
	}
	for _, tt := range tests {
		b.Reset()
		tt.fill(b)
		if _, err := n.Commit(t.Context(), b); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	b.Reset()
	b.Set([]byte("twice"), []byte("1"))
	b.Delete([]byte("twice"))
	b.Set([]byte("twice"), []byte("2"))
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	wantValue(t, n, "twice", "2")
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantValue(t, n, "twice", "2")
	r.close()
	wantValue(t, r.open(), "twice", "2")
	wantValue(t, r.n, string(longest), string(value))
}

// TestBatchAgain: a batch may be used again although the overlay refers to what it held.
func TestBatchAgain(t *testing.T) {
	for _, inline := range []int{0, 1000} {
		r := newRig(t)
		r.ns.InlineMax = inline
		n := r.open()
		b := NewBatch()
		for i := range 50 {
			b.Reset()
			b.Set(fmt.Appendf(nil, "k%02d", i), bytes.Repeat([]byte{byte(i)}, 1+i*40))
			if _, err := n.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 50 {
			wantValue(t, n, fmt.Sprintf("k%02d", i), strings.Repeat(string([]byte{byte(i)}), 1+i*40))
		}
	}
}

// TestCompareAndSet: of many that want to raise the same key, each step is made by one.
func TestCompareAndSet(t *testing.T) {
	r := newRig(t)
	n := r.open()
	errLost := errors.New("somebody was faster")
	var won [20]int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for step := range won {
				b := NewBatch()
				b.Set([]byte("epoch"), fmt.Append(nil, step))
				_, err := n.CommitIf(t.Context(), b, func(r Reader) error {
					e, err := r.Get([]byte("epoch"))
					switch {
					case errors.Is(err, ErrNotFound) && step == 0:
						return nil
					case err == nil && string(e.Value) == fmt.Sprint(step-1):
						return nil
					}
					return errLost
				})
				if err == nil {
					mu.Lock()
					won[step]++
					mu.Unlock()
				} else if err != errLost {
					t.Errorf("step %d: %v", step, err)
				}
				if step%5 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	if won[0] != 1 {
		t.Errorf("step 0 was made %d times", won[0])
	}
	for step, times := range won {
		if times > 1 {
			t.Errorf("step %d was made %d times", step, times)
		}
	}
}

// TestSharedSync: many writers that sync share fsyncs.
func TestSharedSync(t *testing.T) {
	r := newRig(t)
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if c.Op == "SyncData" {
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	}}
	n := r.open()
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 10 {
				b := NewBatch()
				b.Set(fmt.Appendf(nil, "%d/%d", w, i), []byte("v"))
				c, err := n.Commit(t.Context(), b)
				if err == nil {
					err = n.SyncTo(t.Context(), c.Last)
				}
				if err != nil {
					t.Error(err)
				}
				if d := n.Durable(); d.Seq < c.Last {
					t.Errorf("durable is %v after SyncTo(%v)", d.Seq, c.Last)
				}
			}
		})
	}
	wg.Wait()
	if s := n.Stats(); s.Commits != 160 || s.Syncs >= 120 {
		t.Errorf("%d syncs for %d commits", s.Syncs, s.Commits)
	}
}

// TestFlushInterval: what nobody syncs is synced when it grows old.
func TestFlushInterval(t *testing.T) {
	r := newRig(t)
	r.ns.FlushInterval = 20 * time.Millisecond
	told := make(chan Head, 100)
	r.ns.OnDurable = func(h Head) { told <- h }
	n := r.open()
	c := put(t, n, "a", "1")
	for deadline := time.After(10 * time.Second); ; {
		select {
		case h := <-told:
			if h.Seq < c.Last {
				continue
			}
			if h != n.Durable() && h.Offset > n.Durable().Offset {
				t.Errorf("told %+v, durable is %+v", h, n.Durable())
			}
		case <-deadline:
			t.Fatal("not synced")
		}
		break
	}
	r.powerOff()
	wantKeys(t, r.open(), "a")
}

// TestOverlayBound: writers wait for the applier, and the memory stays bounded.
func TestOverlayBound(t *testing.T) {
	r := newRig(t)
	r.o.OverlayBytes = 100 << 10
	r.ns.InlineMax = 1000
	n := r.open()
	value := bytes.Repeat([]byte("v"), 900)
	for i := range 1500 {
		b := NewBatch()
		b.Set(fmt.Appendf(nil, "%06d", i), value)
		if _, err := n.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if got := n.Stats().OverlayBytes; got > 102<<10 {
			t.Fatalf("overlay has %d bytes", got)
		}
	}
	if keys, _, err := n.Count(t.Context()); keys != 1500 || err != nil {
		t.Errorf("Count = %d, %v", keys, err)
	}
	// A writer that waits can be cancelled.
	n.applyMu.Lock()
	defer n.applyMu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		b := NewBatch()
		b.Set(fmt.Appendf(nil, "%06d", i), value)
		_, err = n.Commit(ctx, b)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("commit into a full overlay: %v", err)
	}
}

// TestPoisonedNamespace says so, reads on, and is whole again after the next opening.
func TestPoisonedNamespace(t *testing.T) {
	r := newRig(t)
	fail := false
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if fail && c.Op == "SyncData" {
			return unix.EIO
		}
		return nil
	}}
	n := r.open()
	put(t, n, "a", "1")
	fail = true
	if err := n.Sync(t.Context()); !errors.Is(err, ErrPoisoned) || !errors.Is(err, unix.EIO) {
		t.Errorf("sync: %v", err)
	}
	fail = false
	b := NewBatch()
	b.Set([]byte("b"), nil)
	if _, err := n.Commit(t.Context(), b); !errors.Is(err, ErrPoisoned) {
		t.Errorf("commit: %v", err)
	}
	if err := n.Err(); !errors.Is(err, ErrPoisoned) {
		t.Errorf("Err: %v", err)
	}
	wantValue(t, n, "a", "1")
	if err := r.db.Close(); !errors.Is(err, ErrPoisoned) {
		t.Errorf("close: %v", err)
	}
	r.db, r.o.FS = nil, nil
	n = r.open()
	wantValue(t, n, "a", "1")
	put(t, n, "b", "2")
	if err := n.Err(); err != nil {
		t.Error(err)
	}
}

// TestNeedsTwo: metadata never becomes durable before the data that it refers to.
func TestNeedsTwo(t *testing.T) {
	dir := t.TempDir()
	mem := vfs.NewMem()
	open := func() (*DB, *Namespace, *Namespace) {
		db := openAt(t, dir, func(o *Options) { o.FS = mem; o.Reserve = -1; o.Epoch = 1 })
		data := openNS(t, db, "data", NamespaceOptions{FlushInterval: time.Hour})
		meta := openNS(t, db, "meta", NamespaceOptions{
			FlushInterval: time.Hour, InlineMax: 100,
			NeedsHead: func() Seq { return data.Head().Seq },
			SyncNeeds: data.SyncTo,
		})
		return db, data, meta
	}
	db, data, meta := open()
	c := put(t, data, "content", "x")
	b := NewBatch()
	b.Set([]byte("file"), []byte("content"))
	b.SetNeeds(c.Last)
	m, err := meta.Commit(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if data.Durable().Seq >= c.Last {
		t.Fatal("data is durable already")
	}
	if err := meta.SyncTo(t.Context(), m.Last); err != nil {
		t.Fatal(err)
	}
	if d := data.Durable(); d.Seq < c.Last {
		t.Errorf("meta is durable, what it needs is not: %+v", d)
	}
	c = put(t, data, "content2", "x")
	b.Reset()
	b.Set([]byte("file2"), []byte("content2"))
	b.SetNeeds(c.Last)
	if _, err := meta.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	// All that was written of the metadata survives, of the data only what was synced.
	left := mem.KillClone()
	crashed := mem.CrashClone(nil)
	_ = db.Close()
	copyFile(t, crashed, left, filepath.Join(dir, "data", "data", "d0"))
	mem = left
	_, data, meta = open()
	wantKeys(t, data, "content")
	wantKeys(t, meta, "file")
}

// copyFile replaces a file of to by that of from.
func copyFile(t *testing.T, from, to *vfs.Mem, path string) {
	t.Helper()
	f, err := from.Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	p := make([]byte, size)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	g, err := to.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.WriteAt(p, 0); err != nil {
		t.Fatal(err)
	}
}

// TestFetchErrors: what cannot be brought is missing, not absent.
func TestFetchErrors(t *testing.T) {
	r := newRig(t)
	r.o.FetchTimeout = 30 * time.Millisecond
	n := r.open()
	put(t, n, "a", "value")
	id, err := n.Seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Evict(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	get := func() error {
		_, err := r.n.Get(t.Context(), []byte("a"))
		return err
	}
	var me *MissingError
	if err := get(); !errors.As(err, &me) || errors.Is(err, ErrNotFound) {
		t.Errorf("with nobody to ask: %v", err)
	}
	r.close()
	r.o.Fetch = func(ctx context.Context, _ string, _ SegmentID, _, _ int64) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	r.open()
	if err := get(); !errors.As(err, &me) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a fetch that hangs: %v", err)
	}
	if ok, err := r.n.Has(t.Context(), []byte("a")); !ok || err != nil {
		t.Errorf("Has = %v, %v", ok, err)
	}
	r.close()
	r.o.Fetch = func(context.Context, string, SegmentID, int64, int64) ([]byte, error) { return []byte("v"), nil }
	r.open()
	if err := get(); !errors.As(err, &me) {
		t.Errorf("with a short answer: %v", err)
	}
	if s := r.n.Stats(); s.Fetches != 0 {
		t.Errorf("%d fetches counted", s.Fetches)
	}
}

// A lock that cannot be had for another reason, such as the rights of who asks, is not said to be somebody else's.
func TestLockThatFails(t *testing.T) {
	dir := t.TempDir()
	db := openAt(t, dir, nil)
	openNS(t, db, "ns", NamespaceOptions{})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	o := Options{DataDir: filepath.Join(dir, "data"), IndexDir: filepath.Join(dir, "index")}
	lock := filepath.Join(o.DataDir, ".lock")
	if err := errors.Join(os.Remove(lock), os.Mkdir(lock, 0o700)); err != nil {
		t.Fatal(err)
	}
	_, open := Open(t.Context(), o)
	_, check := Check(t.Context(), o, "ns", CheckOptions{})
	var dump error
	for _, err := range Dump(t.Context(), o, "ns") {
		dump = err
	}
	for what, err := range map[string]error{"Open": open, "Check": check, "Dump": dump} {
		if err == nil || errors.Is(err, ErrLocked) || !errors.Is(err, unix.EISDIR) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLockAndNames(t *testing.T) {
	dir := t.TempDir()
	db := openAt(t, dir, nil)
	if _, err := Open(t.Context(), Options{DataDir: filepath.Join(dir, "data"), IndexDir: filepath.Join(dir, "other")}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v", err)
	}
	for _, name := range []string{"", strings.Repeat("x", 129), strings.Repeat("/", 100)} {
		if _, err := db.Namespace(t.Context(), name, NamespaceOptions{}); !errors.Is(err, ErrName) {
			t.Errorf("Namespace(%.10q): %v", name, err)
		}
	}
	odd := []string{"../../hello", ".hidden", "a/b", "ünïcode", "100%", "plain"}
	for i, name := range odd {
		n := openNS(t, db, name, NamespaceOptions{})
		put(t, n, "k", fmt.Sprint(i))
	}
	names, err := db.Namespaces()
	if err != nil || len(names) != len(odd) {
		t.Fatalf("Namespaces = %q, %v", names, err)
	}
	for i, name := range odd {
		wantValue(t, openNS(t, db, name, NamespaceOptions{}), "k", fmt.Sprint(i))
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("%v beside data and index", entries)
	}
}

// TestDrop: a dropped namespace is gone, also if the process ends half-way, and a new one is another.
func TestDrop(t *testing.T) {
	dir := t.TempDir()
	db := openAt(t, dir, nil)
	n := openNS(t, db, "ns", NamespaceOptions{})
	put(t, n, "k", "v")
	inc := n.Incarnation()
	if err := db.DropNamespace(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Get(t.Context(), []byte("k")); !errors.Is(err, ErrClosed) {
		t.Errorf("Get from a dropped namespace: %v", err)
	}
	n = openNS(t, db, "ns", NamespaceOptions{})
	if _, err := n.Get(t.Context(), []byte("k")); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get from the new one: %v", err)
	}
	if n.Incarnation() == inc || inc == ([16]byte{}) {
		t.Error("the new one has the incarnation of the old one")
	}
	inc = n.Incarnation()
	put(t, n, "k", "v2")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, dir, nil)
	if n := openNS(t, db, "ns", NamespaceOptions{}); n.Incarnation() != inc {
		t.Error("the incarnation changed with a restart")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// Half-way: the index is out of sight, the data not yet.
	if err := os.Rename(filepath.Join(dir, "index", "ns"), filepath.Join(dir, "index", droppedPrefix+"ns")); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, dir, nil)
	if names, err := db.Namespaces(); len(names) != 0 || err != nil {
		t.Errorf("Namespaces = %v, %v", names, err)
	}
}

func TestClosed(t *testing.T) {
	r := newRig(t)
	n := r.open()
	put(t, n, "a", "1")
	it, err := n.NewIter(t.Context(), IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.Close(), n.Close()); err != nil {
		t.Fatal(err)
	}
	b := NewBatch()
	b.Set([]byte("b"), nil)
	_, cerr := n.Commit(t.Context(), b)
	_, gerr := n.Get(t.Context(), []byte("zz"))
	_, ierr := n.NewIter(t.Context(), IterOptions{})
	for _, err := range []error{cerr, gerr, ierr, n.Err()} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if err := it.Close(); err != nil {
		t.Error(err)
	}
	n, err = r.db.Namespace(t.Context(), "ns", r.ns) // open again
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, n, "a")
	if err := errors.Join(r.db.Close(), r.db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.db.Namespace(t.Context(), "ns", r.ns); !errors.Is(err, ErrClosed) {
		t.Errorf("Namespace after Close: %v", err)
	}
}

// TestDropAndMakeAgain: a namespace of the name of one that was dropped is read from its own files, whatever was open of those
// before.
func TestDropAndMakeAgain(t *testing.T) {
	db := openAt(t, t.TempDir(), nil)
	for _, v := range []string{"first", "again"} {
		n := openNS(t, db, "ns", NamespaceOptions{})
		put(t, n, "k", v)
		if _, err := n.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantValue(t, n, "k", v)
		if err := db.DropNamespace(t.Context(), "ns"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCloseWhileWaitingForRoom: a writer that waits for room when the log fails and the namespace is closed does not wait for ever.
func TestCloseWhileWaitingForRoom(t *testing.T) {
	r := newRig(t)
	r.o.OverlayBytes = 1
	n := r.open()
	n.stop() // the applier ends before it hears of the writer
	n.wg.Wait()
	put(t, n, "k", "v")
	<-n.wake
	done := make(chan error)
	go func() {
		b := NewBatch()
		b.Set([]byte("l"), []byte("v"))
		_, err := n.Commit(t.Context(), b)
		done <- err
	}()
	for len(n.wake) == 0 { // the writer's last step before it waits
		time.Sleep(time.Millisecond)
	}
	_ = n.log.Poison(errors.New("fsync failed"))
	_ = n.Close() // says that
	select {
	case err := <-done:
		if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrPoisoned) {
			t.Errorf("Commit: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the writer waits for ever")
	}
}
