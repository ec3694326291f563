package zdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// checked makes a namespace with two sealed segments and an active one, and gives the bytes of its files.
func checked(t *testing.T) *rig {
	r := newRig(t)
	r.ns.InlineMax = 10
	n := r.open()
	put(t, n, "a", "first", "b", strings.Repeat("long ", 5000), "gone", "x")
	put(t, n, "a", "second")
	r.seal()
	b := NewBatch()
	b.Delete([]byte("gone"))
	b.Set([]byte("c"), []byte("third"))
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	r.seal()
	put(t, n, "d", "fourth")
	if err := errors.Join(n.Sync(t.Context()), n.apply(t.Context())); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) seal() {
	r.t.Helper()
	if _, err := r.n.Seal(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) path(name string) string {
	dir := r.o.DataDir
	if name[0] == 'i' {
		dir = r.o.IndexDir
	}
	return filepath.Join(dir, "ns", name)
}

func (r *rig) read(name string) []byte {
	r.t.Helper()
	f, err := r.mem.Open(r.path(name), false)
	if err != nil {
		r.t.Fatal(err)
	}
	size, _ := f.Size()
	p := make([]byte, size)
	if _, err := f.ReadAt(p, 0); err != nil && size > 0 {
		r.t.Fatal(err)
	}
	return p
}

// overwrite puts p into a file and leaves who has it open with it.
func (r *rig) overwrite(name string, p []byte) {
	r.t.Helper()
	f, err := r.mem.Open(r.path(name), true)
	if err == nil {
		_, err = f.WriteAt(p, 0)
	}
	if err = errors.Join(err, f.Truncate(int64(len(p))), f.Sync()); err != nil {
		r.t.Fatal(err)
	}
}

// copies is a Fetch that has these files.
func copies(files map[SegmentID][]byte) FetchFunc {
	return func(_ context.Context, _ string, id SegmentID, off, n int64) ([]byte, error) {
		if p := files[id]; off+n <= int64(len(p)) {
			return bytes.Clone(p[off : off+n]), nil
		}
		return nil, errors.New("no copy")
	}
}

func (r *rig) check(o CheckOptions) CheckResult {
	r.t.Helper()
	res, err := r.n.Check(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func (r *rig) checkClosed(o CheckOptions) CheckResult {
	r.t.Helper()
	if r.o.FS == nil {
		r.o.FS = r.mem
	}
	res, err := Check(r.t.Context(), r.o, "ns", o)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func wantClean(t *testing.T, what string, res CheckResult) {
	t.Helper()
	if !res.Clean() || res.IndexSkipped != "" {
		t.Errorf("%s: %+v", what, res)
	}
}

// TestCheckClean finds nothing in what is whole: open, after a clean stop, after a crash, with evicted segments, in one
// pass and in many.
func TestCheckClean(t *testing.T) {
	for _, keys := range []int64{1 << 20, 2} {
		t.Run(fmt.Sprint(keys), func(t *testing.T) {
			defer func(old int64) { checkPassKeys = old }(checkPassKeys)
			checkPassKeys = keys
			r := checked(t)
			res := r.check(CheckOptions{})
			wantClean(t, "open", res)
			if res.Segments != 3 || res.Batches < 4 || res.Entries != 7 || res.Keys != 3+1 || res.Bytes < 25000 || res.Missing != 0 {
				t.Errorf("read %+v", res)
			}
			put(t, r.n, "unsynced", "x")
			wantClean(t, "with unsynced entries", r.check(CheckOptions{}))
			if _, err := Check(t.Context(), r.o, "ns", CheckOptions{}); !errors.Is(err, ErrLocked) {
				t.Errorf("of an open database: %v", err)
			}
			r.kill()
			wantClean(t, "killed", r.checkClosed(CheckOptions{}))
			r.open()
			wantClean(t, "open again", r.check(CheckOptions{}))
			d0 := r.read("d0")
			if err := r.n.Evict(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if res = r.check(CheckOptions{}); res.Missing != 1 {
				t.Errorf("evicted: %+v", res)
			}
			wantClean(t, "evicted", res)
			r.close()
			wantClean(t, "closed", r.checkClosed(CheckOptions{Repair: true}))
			r.o.Fetch = copies(map[SegmentID][]byte{0: d0})
			wantKeys(t, r.open(), "a b c d unsynced")
		})
	}
}

// TestCheckData flips a bit in every byte of every d<N> that counts. It is found at its place; the copy repairs it; without
// one it stays as it is and is named.
func TestCheckData(t *testing.T) {
	r := checked(t)
	ends := map[SegmentID]int64{}
	for _, s := range r.n.Segments() {
		ends[s.ID] = s.Length
	}
	r.close()       // its marker witnesses all before, and is itself above the bound
	r.forgetIndex() // opening it takes the most of the time
	files := map[SegmentID][]byte{0: r.read("d0"), 1: r.read("d1"), 2: r.read("d2")}
	for id, good := range files {
		for at := int64(0); at < ends[id]; at += int64(stride(3)) {
			if id == 0 && at > 700 && at < ends[id]-1300 {
				at += 996 // inside the long value
			}
			bad := bytes.Clone(good)
			bad[at] ^= 1 << (at % 8)
			r.overwrite(id.DataName(), bad)
			r.o.Fetch = nil
			res := r.checkClosed(CheckOptions{Repair: true})
			if res.Unrepaired == 0 || !covers(res, r.path(id.DataName()), at) {
				t.Fatalf("d%d flipped at %d: %+v", id, at, res)
			}
			if got := r.read(id.DataName()); !bytes.Equal(got, bad) {
				t.Fatalf("d%d flipped at %d was changed without a copy", id, at)
			}
			r.o.Fetch = copies(files)
			res = r.checkClosed(CheckOptions{Repair: true})
			if res.Unrepaired != 0 || res.Clean() {
				t.Fatalf("d%d flipped at %d, with its copy: %+v", id, at, res)
			}
			if got := r.read(id.DataName()); !bytes.Equal(got, good) {
				t.Fatalf("d%d flipped at %d is not as it was", id, at)
			}
			if id != 2 && at >= segfile.HeaderSize && len(res.Findings[0].Keys) == 0 {
				t.Fatalf("d%d flipped at %d: no key named: %+v", id, at, res)
			}
		}
	}
	wantKeys(t, r.open(), "a b c d")
	r.close()
	wantClean(t, "in the end", r.checkClosed(CheckOptions{}))
}

func (r *rig) forgetIndex() {
	r.t.Helper()
	if err := os.RemoveAll(filepath.Join(r.dir, "index", "ns", badgerDir)); err != nil {
		r.t.Fatal(err)
	}
}

// stride is 1 in the long test.
func stride(short int) int {
	if os.Getenv("QSFS_LONG") != "" {
		return 1
	}
	return short
}

func covers(res CheckResult, file string, at int64) bool {
	for _, f := range res.Findings {
		if f.File == file && f.Offset <= at && at < f.Offset+f.Length && f.Done == "" && f.What != "" {
			return true
		}
	}
	return false
}

// TestCheckOnline repairs a segment that is being read.
func TestCheckOnline(t *testing.T) {
	r := checked(t)
	good := r.read("d0")
	r.close()
	r.o.Fetch = copies(map[SegmentID][]byte{0: good})
	n := r.open()
	bad := bytes.Clone(good)
	at := bytes.Index(bad, []byte("long long")) + 17000
	bad[at] ^= 4
	r.overwrite("d0", bad)
	res := r.check(CheckOptions{})
	if len(res.Findings) != 1 || res.Unrepaired != 1 || string(bytes.Join(res.Findings[0].Keys, nil)) != "abgone" || res.Findings[0].Entries != 3 {
		t.Errorf("found %+v", res)
	}
	res = r.check(CheckOptions{Repair: true})
	if len(res.Findings) != 1 || res.Unrepaired != 0 {
		t.Errorf("repaired %+v", res)
	}
	wantClean(t, "afterwards", r.check(CheckOptions{}))
	fetched := n.Stats().Fetches
	wantValue(t, n, "b", strings.Repeat("long ", 5000))
	if got := n.Stats().Fetches; got != fetched {
		t.Error("the value still comes from the copy")
	}
}

// TestCheckIndexSegment flips every byte of i<N> and cuts it: it is written again from d<N>, byte for byte, also from the copy.
func TestCheckIndexSegment(t *testing.T) {
	r := checked(t)
	d1, good := r.read("d1"), r.read("i1")
	r.close()
	r.forgetIndex()
	for at := 0; at < len(good); at += stride(3) {
		for _, cut := range []bool{false, true} {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << (at % 8)
			if cut {
				bad = bad[:at]
			}
			r.overwrite("i1", bad)
			res := r.checkClosed(CheckOptions{})
			if res.Unrepaired != 1 || len(res.Findings) != 1 || res.Findings[0].File != r.path("i1") {
				t.Fatalf("i1 at %d, cut %v: %+v", at, cut, res)
			}
			if res = r.checkClosed(CheckOptions{Repair: true}); res.Unrepaired != 0 || !bytes.Equal(r.read("i1"), good) {
				t.Fatalf("i1 at %d, cut %v, repaired: %+v", at, cut, res)
			}
		}
	}
	// d<N> is elsewhere.
	r.overwrite("i1", good[:100])
	if err := r.mem.Remove(r.path("d1")); err != nil {
		t.Fatal(err)
	}
	if res := r.checkClosed(CheckOptions{Repair: true}); res.Unrepaired == 0 || !bytes.Equal(r.read("i1"), good[:100]) {
		t.Errorf("without d1 and copy: %+v", res)
	}
	r.o.Fetch = copies(map[SegmentID][]byte{1: d1})
	if res := r.checkClosed(CheckOptions{Repair: true}); res.Unrepaired != 0 || !bytes.Equal(r.read("i1"), good) {
		t.Errorf("without d1: %+v", res)
	}
	wantKeys(t, r.open(), "a b c d")
	r.close()
	wantClean(t, "in the end", r.checkClosed(CheckOptions{}))
}

// TestCheckWrongIndexSegment: an i<N> that checks but is not what d<N> gives.
func TestCheckWrongIndexSegment(t *testing.T) {
	r := checked(t)
	good := r.read("i0")
	foot, err := segfile.ReadFooterAt(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	foot.Needs = 7 // says what d0 does not
	bad := segfile.AppendFooter(bytes.Clone(good[:segfile.IndexHeaderSize+foot.RecordBytes]), foot)
	r.overwrite("i0", bad)
	if res := r.check(CheckOptions{}); res.Unrepaired != 1 {
		t.Errorf("found %+v", res)
	}
	if err := r.n.RebuildIndexSegment(t.Context(), 0); err != nil || !bytes.Equal(r.read("i0"), good) {
		t.Errorf("written again: %v", err)
	}
	foot.Needs = 0
	foot.PieceSums[0][3]++ // its own sums say that d0 is another
	r.overwrite("i0", segfile.AppendFooter(bytes.Clone(good[:segfile.IndexHeaderSize+foot.RecordBytes]), foot))
	res := r.check(CheckOptions{Repair: true})
	if res.Unrepaired != 1 || res.Findings[0].File != r.path("d0") {
		t.Errorf("a piece that only i0 finds wrong: %+v", res)
	}
	for id, want := range map[SegmentID]error{2: ErrSegment, 9: ErrSegment} {
		if err := r.n.RebuildIndexSegment(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("i%d: %v", id, err)
		}
	}
}

// TestCheckRecords flips a bit in every byte of the small files.
func TestCheckRecords(t *testing.T) {
	r := checked(t)
	if err := r.n.SetRetention(Retention{KeepLast: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.n.Pin(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, r.n, "a", "newest")
	r.seal()
	if res, err := r.n.Compact(t.Context(), CompactOptions{All: true}); err != nil || res.Segments == 0 {
		t.Fatal(res, err)
	}
	wantClean(t, "compacted, with versions that are kept", r.check(CheckOptions{}))
	for _, name := range []string{identityName, keepName, "removed"} {
		good := r.read(name)
		for at := range good {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << (at % 8)
			r.overwrite(name, bad)
			if res := r.check(CheckOptions{}); res.Unrepaired != 1 || res.Findings[0].File != r.path(name) {
				t.Fatalf("%s, byte %d: %+v", name, at, res)
			}
			if res := r.check(CheckOptions{Repair: true}); res.Unrepaired != 0 || !bytes.Equal(r.read(name), good) {
				t.Fatalf("%s, byte %d repaired: %+v", name, at, res)
			}
		}
	}
	for _, name := range []string{identityName, keepName, "removed"} {
		bad := r.read(name)
		bad[len(bad)-1] ^= 1
		r.overwrite(name, bad)
	}
	inc := r.n.Incarnation()
	r.stop()
	if res := r.checkClosed(CheckOptions{Repair: true}); res.Unrepaired != 3 {
		t.Errorf("closed: %+v", res)
	}
	if err := r.try(); err == nil {
		t.Error("opens without knowing what is kept")
	}
	if err := r.mem.Remove(r.path(keepName)); err != nil {
		t.Fatal(err)
	}
	if r.open().Incarnation() == inc {
		t.Error("a lost incarnation came back")
	}
	wantKeys(t, r.n, "a b c d")
}

// TestCheckIndex: what the index has and the log has not, and the other way round, and wrong counters.
func TestCheckIndex(t *testing.T) {
	for _, tt := range []struct {
		name, what string
		change     func(a *index.Applier, e index.Entry) error
	}{
		{"extra", "the log has no such entry", func(a *index.Applier, e index.Entry) error {
			return a.Add(index.Change{Key: []byte("extra"), Entry: e})
		}},
		{"missing", "the index does not have it", func(a *index.Applier, e index.Entry) error {
			return a.Add(index.Change{Key: []byte("a"), Delete: true, Entry: index.Entry{Seq: e.Seq + 1}})
		}},
		{"elsewhere", "the log has e1.4", func(a *index.Applier, e index.Entry) error {
			e.Location.Offset++
			return a.Add(index.Change{Key: []byte("a"), Entry: e})
		}},
		{"risen", "the log deletes it", func(a *index.Applier, e index.Entry) error {
			return a.Add(index.Change{Key: []byte("gone"), Entry: e})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, closed := range []bool{false, true} {
				r := checked(t)
				x, err := r.n.acquireIndex(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				e, _, _ := x.Get([]byte("a"))
				at, _ := x.Applied()
				a := x.NewApplier(false, index.Policy{})
				if err := errors.Join(tt.change(a, e), a.Flush(at), x.Release()); err != nil {
					t.Fatal(err)
				}
				a.Discard()
				look := r.check
				if closed {
					r.close()
					look = r.checkClosed
				}
				res := look(CheckOptions{})
				if res.Unrepaired != 1 || !strings.Contains(res.Findings[0].What, tt.what) || len(res.Findings[0].Keys) != 1 {
					t.Errorf("closed %v, found %+v", closed, res)
				}
				if res = look(CheckOptions{Repair: true}); res.Unrepaired != 0 || res.Clean() {
					t.Errorf("closed %v, repaired %+v", closed, res)
				}
				if closed {
					r.open()
				}
				wantKeys(t, r.n, "a b c d")
				wantClean(t, "afterwards", r.check(CheckOptions{}))
			}
		})
	}
}

// TestCheckHoles: entries that nobody can read any more make no findings in the index.
func TestCheckHoles(t *testing.T) {
	r := checked(t)
	r.close()
	d, i := r.read("d0"), r.read("i0")
	d[300] ^= 1
	i[len(i)-1] ^= 1
	r.overwrite("d0", d)
	r.overwrite("i0", i)
	res := r.checkClosed(CheckOptions{Repair: true})
	if len(res.Findings) != 2 || res.Unrepaired != 2 {
		t.Errorf("found %+v", res)
	}
	if err := r.try(); err == nil {
		t.Error("a namespace without d0 and i0 opens")
	}
}

// TestCheckPace: progress is told, the rate holds, and it can be ended.
func TestCheckPace(t *testing.T) {
	r := checked(t)
	var steps []CheckProgress
	began := time.Now()
	res := r.check(CheckOptions{RateBytes: 200 << 10, Progress: func(p CheckProgress) { steps = append(steps, p) }})
	if least := time.Duration(res.Bytes) * time.Second / (200 << 10); time.Since(began) < least*9/10 {
		t.Errorf("%d bytes took %v, at least %v are due", res.Bytes, time.Since(began), least)
	}
	last := steps[len(steps)-1]
	if last.Step != "index" || last.Done != last.Total || steps[0].Step != "log" || steps[0].Total < 25000 {
		t.Errorf("progress %+v", steps)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.n.Check(ctx, CheckOptions{RateBytes: 10}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
	r.close()
	if _, err := Check(t.Context(), r.o, "other", CheckOptions{}); !errors.Is(err, vfs.ErrNotExist) {
		t.Errorf("of no namespace: %v", err)
	}
}

// TestCheckWhileWriting: writers, seals and evictions go on, and nothing is found.
func TestCheckWhileWriting(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize, r.o.OverlayBytes = 64<<10, 128<<10
	n := r.open()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			if i%100 == 0 {
				time.Sleep(5 * time.Millisecond)
			}
			b := NewBatch()
			b.Set(fmt.Appendf(nil, "k%03d", i%500), bytes.Repeat([]byte{byte(i)}, i%3000))
			b.Delete(fmt.Appendf(nil, "k%03d", i*7%500))
			if _, err := n.Commit(ctx, b); err != nil {
				done <- err
				return
			}
		}
	}()
	for i := 0; i < 10 || len(n.Segments()) < 5 && t.Context().Err() == nil; i++ {
		wantClean(t, "meanwhile", r.check(CheckOptions{}))
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
