package zdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"qsfs/zdb/internal/vfs"
)

// TestHeadStays: the highest sequence does not change by compaction, neither now nor at the next opening: what another
// log needs is measured against it.
func TestHeadStays(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 4 << 10
	n := r.open()
	for i := range 100 {
		put(t, n, fmt.Sprintf("k%d", i), strings.Repeat("v", 100))
	}
	for i := range 100 {
		del(t, n, fmt.Sprintf("k%d", i))
	}
	want := n.Head().Seq
	check := func(when string) {
		t.Helper()
		if got := n.Head().Seq; got != want {
			t.Fatalf("%s the highest sequence is %v, it was %v", when, got, want)
		}
	}
	for range 3 {
		if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
			t.Fatal(err)
		}
		check("after a compaction")
	}
	sessions := n.Sessions()
	if s := n.Segments(); len(s) > 2 || n.Stats().LogBytes > 1<<10 {
		t.Errorf("nothing is live, and the log is %+v", s)
	}
	r.close()
	n = r.open()
	check("after reopening")
	if got := n.Sessions(); len(got) == 0 || got[0] != sessions[0] {
		t.Errorf("sessions %v, they were %v", got, sessions)
	}
	wantAll(t, n, nil)

	// After an unclean stop numbers are left out. They must not seem to have been given.
	put(t, n, "a", "1")
	want = n.Head().Seq
	if err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.kill()
	n = r.open()
	check("after a kill")
	if res, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil || res.Copied == 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	check("after a compaction behind it")
}

// TestCompactNewest: a run over all leaves nothing dead in a sealed segment, the newest one included.
func TestCompactNewest(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 64 << 10
	n := r.open()
	for range 3 {
		for i := range 50 {
			put(t, n, fmt.Sprintf("k%d", i), strings.Repeat("v", 100))
		}
	}
	// The active segment is empty when the run looks what there is.
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	for _, s := range n.Segments() {
		if s.Sealed && s.Dead > 0 {
			t.Errorf("%+v", s)
		}
	}
	want := all(t, n)
	r.kill()
	wantAll(t, r.open(), want)
	if rebuilt := r.n.Stats().IndexRebuilt; rebuilt != 0 {
		t.Errorf("the index was rebuilt %d times", rebuilt)
	}
}

// TestIndexOfAnotherDay puts back a Badger that knew the log before segments behind its place were compacted: what was moved
// out of them it has never seen.
func TestIndexOfAnotherDay(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 256 << 10
	n := r.open()
	want := make(map[string]string)
	fill := func(from, to int, v string) {
		for i := from; i < to; i++ {
			k := fmt.Sprintf("k%03d", i)
			put(t, n, k, v+strings.Repeat("x", 30000))
			want[k] = v + strings.Repeat("x", 30000)
		}
	}
	fill(0, 12, "old")
	r.close()
	index := filepath.Join(r.dir, "index", "ns", badgerDir)
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.CopyFS(kept, os.DirFS(index)); err != nil {
		t.Fatal(err)
	}
	n = r.open()
	// The segment where the index stood stays as it is: all of it is live.
	fill(100, 130, "new")
	fill(110, 120, "newer")
	if res, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil || res.Copied == 0 || res.Segments < 2 {
		t.Fatalf("%+v, %v", res, err)
	}
	wantAll(t, n, want)
	r.close()
	if err := errors.Join(os.RemoveAll(index), os.CopyFS(index, os.DirFS(kept))); err != nil {
		t.Fatal(err)
	}
	wantAll(t, r.open(), want)
}

// TestUnlinkFails: a file that cannot be removed holds nobody up, and goes later.
func TestUnlinkFails(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	var once sync.Once
	left := ""
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) (err error) {
		if c.Op == "Remove" && strings.HasPrefix(c.Name, "d") {
			once.Do(func() { left, err = c.Name, errors.New("injected") })
		}
		return err
	}}
	n := r.open()
	want := overwritten(t, n)
	_, _ = n.Compact(t.Context(), CompactOptions{All: true})
	if left == "" {
		t.Fatal("nothing was removed")
	}
	del(t, n, "k001", "k002", "k003")
	delete(want, "k001")
	delete(want, "k002")
	delete(want, "k003")
	if res, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil || res.Segments == 0 {
		t.Fatalf("the next run: %+v, %v", res, err)
	}
	if _, err := r.mem.Stat(filepath.Join(r.dir, "data", "ns", left)); !errors.Is(err, vfs.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}
	wantAll(t, n, want)
}

// TestCompactWhileClosing: a run that goes on while the namespace is closed ends, and leaves the index closed.
func TestCompactWhileClosing(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	want := overwritten(t, r.open())
	for range 8 {
		n := r.n
		var wg sync.WaitGroup
		started := make(chan struct{}, 1)
		wg.Go(func() {
			defer close(started)
			for {
				_, err := n.Compact(t.Context(), CompactOptions{All: true, Progress: func(CompactProgress) {
					select {
					case started <- struct{}{}:
					default:
					}
				}})
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("compact: %v", err)
					return
				}
			}
		})
		wg.Go(func() {
			for {
				if _, err := n.Get(t.Context(), []byte("k001")); errors.Is(err, ErrClosed) {
					return
				} else if err != nil {
					t.Errorf("get: %v", err)
					return
				}
			}
		})
		for k := range want { // so that there is something to do
			want[k] += "y"
			put(t, n, k, want[k])
		}
		<-started
		r.close()
		n.idxMu.Lock()
		if n.idx != nil {
			t.Error("the index is open in a closed namespace")
		}
		n.idxMu.Unlock()
		wg.Wait()
		r.open()
		wantAll(t, r.n, want)
		if rebuilt := r.n.Stats().IndexRebuilt; rebuilt != 0 {
			t.Fatalf("the index was rebuilt %d times", rebuilt)
		}
	}
}

// TestRemoveBesideRebuild lets segments go while the index is made again: it reads them to the end first.
func TestRemoveBesideRebuild(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	armed, tried := false, false
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if armed && c.Op == "Open" && strings.HasPrefix(c.Name, "i") {
			armed, tried = false, true
			r.n.compactor.mu.Lock()
			defer r.n.compactor.mu.Unlock()
			return r.n.removeWaiting(context.Background(), &CompactResult{})
		}
		return nil
	}}
	n := r.open()
	want := overwritten(t, n)
	hold := n.Hold()
	if res, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil || len(res.Kept) == 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	hold.Release()
	armed = true
	if err := n.RebuildIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !tried {
		t.Fatal("no removal was tried")
	}
	wantAll(t, n, want)
	if res, err := n.Compact(t.Context(), CompactOptions{}); err != nil || res.Segments == 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	wantAll(t, n, want)
}

// TestWantedAgain: a segment that waits for its removal is wanted again, because retention grew and the index was made anew
// from the log. It stays, or what history lists could not be read.
func TestWantedAgain(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	n := r.open()
	overwritten(t, n)
	hold := n.Hold()
	if res, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil || len(res.Kept) == 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if err := n.SetRetention(Retention{KeepFor: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := n.RebuildIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	hold.Release()
	for range 2 {
		if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
			t.Fatal(err)
		}
	}
	versions := 0
	for i := range 200 {
		list, err := n.History(t.Context(), fmt.Appendf(nil, "k%03d", i), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range list {
			if versions++; v.Deleted {
				continue
			}
			if _, err := n.ReadLocation(t.Context(), v.Location, 0, make([]byte, v.Length)); err != nil {
				t.Fatalf("k%03d: %+v: %v", i, v, err)
			}
		}
	}
	if versions < 300 {
		t.Fatalf("only %d versions", versions)
	}
	if res, err := n.Check(t.Context(), CheckOptions{}); err != nil || !res.Clean() {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestCompactExpired: what became too old is dropped by the run itself, not first by a sweep that comes later.
func TestCompactExpired(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	n := r.open()
	const age = 200 * time.Millisecond
	if err := n.SetRetention(Retention{KeepFor: age}); err != nil {
		t.Fatal(err)
	}
	want := overwritten(t, n)
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(age)
	for time.Now().Before(end) {
		time.Sleep(time.Until(end))
	}
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if s := n.Stats(); s.Versions != 0 || s.LogBytes > 2*s.LiveBytes {
		t.Errorf("%+v", s)
	}
	wantAll(t, n, want)
}

// TestCompactFetches: an evicted segment whose copy cannot be had now is left alone, and taken later.
func TestCompactFetches(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	saved := make(map[SegmentID][]byte)
	up := false
	r.o.Fetch = func(_ context.Context, _ string, id SegmentID, off, n int64) ([]byte, error) {
		if p := saved[id]; up && off+n <= int64(len(p)) {
			return p[off : off+n], nil
		}
		return nil, errors.New("nobody answers")
	}
	n := r.open()
	want := overwritten(t, n)
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	evicted := 0
	for _, s := range n.Segments() {
		if !s.Sealed || s.Live == 0 || float64(s.Live) > evictedLive*float64(s.Length) {
			continue
		}
		f, err := r.mem.Open(filepath.Join(r.dir, "data", "ns", s.ID.DataName()), false)
		if err != nil {
			t.Fatal(err)
		}
		saved[s.ID] = make([]byte, s.Length)
		if _, err := f.ReadAt(saved[s.ID], 0); err != nil {
			t.Fatal(err)
		}
		if err := n.Evict(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		evicted++
	}
	if evicted == 0 {
		t.Fatal("no segment is fit for it")
	}
	var missing *MissingError
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); !errors.As(err, &missing) {
		t.Fatalf("without a copy: %v", err)
	}
	up = true
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	for _, s := range n.Segments() {
		if !s.Local {
			t.Errorf("%+v is left", s)
		}
	}
	wantAll(t, n, want)
}

// TestFetchOfCompacted: a value whose evicted segment is compacted away, with its copy, while it is fetched is read where it
// is then.
func TestFetchOfCompacted(t *testing.T) {
	r := newRig(t)
	var n *Namespace
	var saved []byte
	compacted := false
	r.o.Fetch = func(ctx context.Context, _ string, id SegmentID, off, l int64) ([]byte, error) {
		if compacted {
			return saved[off : off+l], nil
		}
		compacted = true
		if res, err := n.Compact(ctx, CompactOptions{All: true}); err != nil || res.Segments == 0 {
			t.Errorf("%+v, %v", res, err)
		}
		return nil, errors.New("there is no such object")
	}
	n = r.open()
	put(t, n, "k", "value")
	for range 20 {
		put(t, n, "dead", strings.Repeat("x", 1000))
	}
	put(t, n, "dead", "")
	id, err := n.Seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if saved, err = vfs.ReadFile(r.mem, filepath.Join(r.dir, "data", "ns", id.DataName()), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.apply(t.Context()), n.Evict(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	wantValue(t, n, "k", "value")
	if !compacted {
		t.Fatal("nothing was fetched")
	}
}

// TestDeletesGo: deletes that were copied because something older lay in the log go when that has gone.
func TestDeletesGo(t *testing.T) {
	for _, all := range []bool{false, true} {
		r := newRig(t)
		r.ns.SegmentSize = 16 << 10
		n := r.open()
		const keys = 2000
		for i := range keys {
			put(t, n, fmt.Sprintf("k%05d", i), "")
		}
		for i := range keys {
			del(t, n, fmt.Sprintf("k%05d", i))
		}
		hold := n.Hold()
		for range 4 {
			if _, err := n.Compact(t.Context(), CompactOptions{All: all}); err != nil {
				t.Fatal(err)
			}
			hold.Release()
		}
		if s := n.Stats(); s.LogBytes > 2*r.ns.SegmentSize {
			t.Errorf("all %v: nothing is live, and %d bytes of log are left: %+v", all, s.LogBytes, n.Segments())
		}
		r.kill()
		dropIndex(t, r)
		wantAll(t, r.open(), nil)
		r.stop()
	}
}

// TestCompactPoison: an fsync that fails in a compaction makes the namespace read-only, like any other.
func TestCompactPoison(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 64 << 10
	armed := false
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if armed && c.Op == "SyncData" {
			armed = false
			return errors.New("injected")
		}
		return nil
	}}
	n := r.open()
	want := overwritten(t, n)
	if _, err := n.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := n.Segments()
	armed = true
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); !errors.Is(err, ErrPoisoned) || armed {
		t.Fatalf("compact: %v", err)
	}
	if err := n.Err(); !errors.Is(err, ErrPoisoned) {
		t.Fatalf("the namespace: %v", err)
	}
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); !errors.Is(err, ErrPoisoned) {
		t.Errorf("the next one: %v", err)
	}
	if now := n.Segments(); len(now) < len(before) {
		t.Errorf("segments went: %+v", now)
	}
	wantAll(t, n, want)
	r.powerOff()
	n = r.open()
	wantAll(t, n, want)
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	wantAll(t, n, want)
}

// TestPinThatFailed: a pin whose record could not be written is there after a restart with what it promises, or not at all.
func TestPinThatFailed(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	armed := false
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if armed && c.Op == "SyncDir" {
			return errors.New("injected")
		}
		return nil
	}}
	n := r.open()
	want := overwritten(t, n)
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	armed = true
	seq, err := n.Pin(t.Context())
	if err == nil {
		t.Fatal("the pin went through")
	}
	armed = false
	for k := range want {
		put(t, n, k, "later")
	}
	for range 2 {
		if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
			t.Fatal(err)
		}
	}
	r.kill()
	n = r.open()
	for _, p := range n.Pins() {
		if p != seq {
			t.Fatalf("pin %v", p)
		}
		for k, v := range want {
			if e, err := n.GetAt(t.Context(), []byte(k), seq); err != nil || string(e.Value) != v {
				t.Fatalf("%s at the pin: %.20q, %v, want %.20q", k, e.Value, err, v)
			}
		}
	}
}

// TestCompactBehindMarker: a sealed segment ends in a marker that the index has not seen, and nothing is left to apply.
func TestCompactBehindMarker(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	n := r.open()
	put(t, n, "k", "v")
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	for end := n.Head(); n.Head() == end; { // within a second
		time.Sleep(10 * time.Millisecond)
	}
	if res, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil || res.Segments != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	wantAll(t, n, map[string]string{"k": "v"})
}

// TestCompactLastRoom: on a disk that is full to the last KiB a run frees what needs no room to go, and then the rest.
func TestCompactLastRoom(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 16 << 10
	r.o.IndexRoom = -1
	n := r.open()
	want := make(map[string]string)
	for round := range 4 {
		for i := range 100 {
			k, v := fmt.Sprintf("k%02d", i), strings.Repeat("x", 1000+round)
			if round < 3 || i%2 == 0 {
				put(t, n, k, v)
				want[k] = v
			}
		}
	}
	if err := errors.Join(n.Sync(t.Context()), n.apply(t.Context())); err != nil {
		t.Fatal(err)
	}
	for waiting := true; waiting; { // for the sealer
		waiting = false
		for _, s := range n.Segments() {
			waiting = waiting || !s.Sealed && s.ID < n.Head().Segment
		}
		time.Sleep(time.Millisecond)
	}
	used := r.mem.Used()
	r.mem.SetLimit(used + 1<<10)
	if res, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil || res.Segments < 10 {
		t.Fatalf("%+v, %v", res, err)
	}
	if now := r.mem.Used(); now > used/2 {
		t.Errorf("%d bytes, %d before", now, used)
	}
	wantAll(t, n, want)
	r.kill()
	dropIndex(t, r)
	wantAll(t, r.open(), want)
}

// TestCompactBesideLost compacts a log with a hole: nothing else is lost, deletes stay, and what the lost segment held comes back with it.
func TestCompactBesideLost(t *testing.T) {
	r := newRig(t)
	r.ns.SegmentSize = 8 << 10
	n := r.open()
	want := overwritten(t, n)
	put(t, n, "last", "x")
	want["last"] = "x"
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The oldest one: values that were overwritten or deleted since lie in it, and some that live.
	gone := n.Segments()[0]
	if gone.Live == 0 || gone.Dead == 0 {
		t.Fatalf("%+v", gone)
	}
	r.close()
	paths := []string{filepath.Join(r.dir, "data", "ns", gone.ID.DataName()), filepath.Join(r.dir, "index", "ns", gone.ID.IndexName())}
	aside := r.mem.KillClone()
	for _, p := range paths {
		if err := r.mem.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	n = r.open()
	for range 2 {
		if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
			t.Fatal(err)
		}
	}
	var missing *MissingError
	bad := 0
	for k, v := range want {
		e, err := n.Get(t.Context(), []byte(k))
		switch {
		case errors.As(err, &missing) && missing.Segment == gone.ID:
			bad++
		case err != nil || string(e.Value) != v:
			t.Fatalf("%s: %.20q, %v", k, e.Value, err)
		}
	}
	if bad == 0 || bad > len(want)/2 {
		t.Fatalf("%d of %d values are missing", bad, len(want))
	}
	r.close()
	for _, p := range paths { // somebody finds the disk it was on
		from, err := aside.Open(p, false)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := from.Size()
		data := make([]byte, size)
		if _, err := from.ReadAt(data, 0); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(r.mem, p, data); err != nil {
			t.Fatal(err)
		}
	}
	dropIndex(t, r)
	n = r.open()
	wantAll(t, n, want)
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	wantAll(t, n, want)
}

// TestCompactBig moves the longest entry that there is.
func TestCompactBig(t *testing.T) {
	r := newRig(t)
	n := r.open()
	key, value := strings.Repeat("k", MaxKeySize), strings.Repeat("v", MaxValueSize)
	put(t, n, key, value)
	put(t, n, "dead", value[:MaxValueSize/2])
	put(t, n, "dead", "")
	if res, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil || res.Segments != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	wantAll(t, n, map[string]string{key: value, "dead": ""})
}
