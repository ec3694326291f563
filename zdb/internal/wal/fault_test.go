package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

var errFault = errors.New("injected fault")

// life is what a log does in the tests below: commits, syncs, two seals, a clean
// stop. It stops at the first error and says which keys it may and must be found with.
func (r *rig) life() (acked, tried int, err error) {
	if err = r.try(); err != nil {
		return 0, 0, err
	}
	defer func() {
		if cerr := r.l.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			acked = tried
		}
		r.l = nil
	}()
	for i := range 12 {
		tried = i + 1
		if err = r.append(0, fmt.Sprintf("k%02d", i)); err != nil {
			return acked, tried, err
		}
		if i%3 == 2 {
			if err = r.l.Sync(r.t.Context()); err != nil {
				return acked, tried, err
			}
			acked = tried
		}
		if i%5 == 4 {
			if _, err = r.l.Seal(r.t.Context()); err != nil {
				return acked, tried, err
			}
			acked = tried
		}
	}
	return acked, tried, nil
}

func lifeKeys(n int) string {
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf("k%02d", i))
	}
	return strings.Join(keys, " ")
}

// checkLife opens what is left and wants a prefix of the life, with all that was acknowledged.
func (r *rig) checkLife(what string, acked, tried int) {
	r.t.Helper()
	r.o.FS = nil
	r.open()
	got := r.keys()
	n := len(strings.Fields(got))
	if n < acked || n > tried || got != lifeKeys(n) {
		r.t.Fatalf("%s: log holds %q; acknowledged were %d of %d", what, got, acked, tried)
	}
	for _, name := range strings.Fields(r.names()) {
		if strings.HasSuffix(name, ".tmp") {
			r.t.Fatalf("%s: %s is left over", what, name)
		}
	}
	r.put("more")
	r.close()
	r.open()
	r.want(strings.TrimSpace(got + " more"))
	r.stop()
}

// TestEveryCallFails lets the n-th call fail, and all after it, and once only that
// one, until none fails any more.
func TestEveryCallFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		once bool
		err  error
	}{{"stays broken", false, errFault}, {"once", true, errFault}, {"full once", true, unix.ENOSPC}, {"full", false, unix.ENOSPC}} {
		t.Run(tt.name, func(t *testing.T) {
			for at := int64(1); ; at++ {
				r := newRig(t)
				failed := false
				r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
					if c.N == at || c.N > at && !tt.once {
						failed = true
						return fmt.Errorf("%s %s: %w", c.Op, c.Name, tt.err)
					}
					return nil
				}}
				acked, tried, err := r.life()
				if !failed {
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("%d calls", at-1)
					if at < 60 {
						t.Errorf("only %d calls", at-1)
					}
					return
				}
				what := fmt.Sprintf("call %d failed (%v)", at, err)
				killed := r.mem.KillClone()
				r.mem = r.mem.CrashClone(nil)
				r.checkLife(what+", power lost", acked, tried)
				r.mem = killed
				r.checkLife(what, acked, tried)
			}
		})
	}
}

// TestPowerLossAtEveryCall lets the n-th call and all after it fail, and loses power
// when the life has ended: those before it, also of another goroutine, have then come
// to their end.
func TestPowerLossAtEveryCall(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for at := int64(1); ; at++ {
			r := newRig(t)
			r.o.Prewrite = at%2 == 0
			var lost atomic.Bool
			r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
				if c.N < at {
					return nil
				}
				lost.Store(true)
				return errFault
			}}
			acked, tried, _ := r.life()
			if !lost.Load() {
				if at < 60 {
					t.Errorf("only %d calls", at-1)
				}
				break
			}
			var rng *rand.Rand
			if keep {
				rng = rand.New(rand.NewPCG(uint64(at), 1))
			}
			r.mem = r.mem.CrashClone(rng)
			r.checkLife(fmt.Sprintf("power lost at call %d", at), acked, tried)
		}
	}
}

// TestPoison: after a failed fsync nothing is taken any more, what was is still
// readable, and the next opening does not trust the pages of the old file.
func TestPoison(t *testing.T) {
	r := newRig(t)
	fail := false
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if fail && c.Op == "SyncData" {
			return errFault
		}
		return nil
	}}
	r.open()
	r.put("a")
	r.sync()
	r.put("b")
	fail = true
	if err := r.l.Sync(t.Context()); !errors.Is(err, ErrPoisoned) || !errors.Is(err, errFault) {
		t.Errorf("sync: %v", err)
	}
	fail = false
	if err := r.append(0, "c"); !errors.Is(err, ErrPoisoned) {
		t.Errorf("append: %v", err)
	}
	if err := r.l.Sync(t.Context()); !errors.Is(err, ErrPoisoned) {
		t.Errorf("a sync after the failed one: %v", err)
	}
	if _, err := r.l.Seal(t.Context()); !errors.Is(err, ErrPoisoned) {
		t.Errorf("seal: %v", err)
	}
	if err := r.l.Err(); !errors.Is(err, ErrPoisoned) {
		t.Errorf("Err: %v", err)
	}
	r.want("a b")
	if err := r.l.Close(); !errors.Is(err, ErrPoisoned) {
		t.Errorf("close: %v", err)
	}
	r.l, r.o.FS = nil, nil
	r.open()
	r.want("a b")
	s := r.l.Segments()
	if f := r.l.Found(); f.Clean || f.Moved == 0 || len(s) != 2 || !s[0].Sealed {
		t.Errorf("found %+v, segments %+v: b was not written again", f, s)
	}
}

// TestFailedWrite: a batch that does not fit leaves nothing behind, and the log goes on.
func TestFailedWrite(t *testing.T) {
	r := newRig(t)
	r.open()
	r.put("a")
	r.mem.SetLimit(r.mem.Used() + 50)
	if err := r.append(0, "big"); !IsNoSpace(err) {
		t.Fatalf("append on a full disk: %v", err)
	}
	r.mem.SetLimit(0)
	r.put("b")
	r.sync()
	r.want("a b")
	r.powerOff()
	r.open()
	r.want("a b")
}

// TestGrowsOnFullDisk: a segment that cannot be followed grows.
func TestGrowsOnFullDisk(t *testing.T) {
	r := newRig(t)
	r.o.SegmentSize = 1000
	full := false
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if full && c.Op == "Create" {
			return unix.ENOSPC
		}
		return nil
	}}
	r.open()
	full = true
	want := ""
	for i := range 20 {
		k := fmt.Sprintf("k%02d", i)
		r.put(k)
		want += " " + k
	}
	if s := r.l.Segments(); len(s) != 1 {
		t.Errorf("%d segments", len(s))
	}
	full = false
	r.put("last")
	r.want(want[1:] + " last")
	if s := r.l.Segments(); len(s) != 2 {
		t.Errorf("%d segments after there was room again", len(s))
	}
}

// TestSealerBehind: while nothing can be sealed, the log grows and nobody waits; afterwards all is sealed.
func TestSealerBehind(t *testing.T) {
	r := newRig(t)
	r.o.SegmentSize = 1000
	var full atomic.Bool
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if full.Load() && c.Op == "Create" && strings.HasPrefix(c.Name, "i") {
			return unix.ENOSPC
		}
		return nil
	}}
	r.open()
	full.Store(true)
	start := time.Now()
	for i := range 60 {
		r.put(fmt.Sprintf("k%02d", i))
	}
	if took := time.Since(start); took > sealRetry {
		t.Errorf("60 commits took %v", took)
	}
	if s := r.l.Segments(); len(s) != maxUnsealed+1 || s[0].Sealed {
		t.Errorf("%d segments, the first sealed %v", len(s), s[0].Sealed)
	}
	full.Store(false)
	if _, err := r.l.Seal(t.Context()); err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		open := 0
		for _, s := range r.l.Segments() {
			if !s.Sealed {
				open++
			}
		}
		if open == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d segments are not sealed", open)
		}
	}
}

// TestRotation writes many small segments, ahead of zeros and without.
func TestRotation(t *testing.T) {
	for _, prewrite := range []bool{false, true} {
		r := newRig(t)
		r.o.SegmentSize, r.o.Prewrite = 2000, prewrite
		var sealed []segfile.ID
		r.o.OnSeal = func(id segfile.ID) { sealed = append(sealed, id) }
		var last Head
		r.o.OnDurable = func(h Head) {
			if h.Before(last.Pos) {
				t.Errorf("durable head went back from %v to %v", last, h)
			}
			last = h
		}
		r.open()
		var keys []string
		for i := range 300 {
			k := fmt.Sprintf("k%03d", i)
			r.put(k)
			keys = append(keys, k)
		}
		r.sync()
		r.want(strings.Join(keys, " "))
		if last != r.l.Durable() {
			t.Errorf("told %+v, durable is %+v", last, r.l.Durable())
		}
		r.close()
		for i, id := range sealed {
			if id != segfile.ID(i) {
				t.Fatalf("sealed %v", sealed)
			}
		}
		r.o.OnSeal = nil
		r.open()
		n := 0
		for _, s := range r.l.Segments() {
			if s.Sealed {
				n++
				data := r.read(s.ID.DataName())
				index := r.read(s.ID.IndexName())
				f, err := segfile.ReadFooterAt(strings.NewReader(string(index)), int64(len(index)))
				if err == nil {
					err = errors.Join(f.Verify(strings.NewReader(string(data))), f.VerifyIndex(strings.NewReader(string(index))))
				}
				if err != nil || int64(len(data)) != f.DataLength || f.FirstSeq != s.First || f.LastSeq != s.Last {
					t.Fatalf("i%d: %v, footer %+v", s.ID, err, f)
				}
			}
		}
		if n < 20 {
			t.Errorf("%d sealed segments", n)
		}
		if got := r.l.Sessions(); len(got) != 1 || got[0] != (segfile.SessionStart{First: segfile.MakeSeq(1, 1), Session: 11}) {
			t.Errorf("sessions %v", got)
		}
		// From the index segments alone it is the same.
		for _, s := range r.l.Segments() {
			if s.Sealed {
				if err := r.l.Evict(s.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := strings.Join(r.replay(r.l.First(), r.l.Head().Pos, true), " "); got != strings.Join(keys, " ") {
			t.Errorf("without d<N>: %d bytes of keys", len(got))
		}
		r.stop()
	}
}

// TestDamagedIndexSegment: i<N> is made again from d<N>, the same byte for byte.
func TestDamagedIndexSegment(t *testing.T) {
	r := newRig(t)
	r.open()
	r.put("a", "b")
	if _, err := r.l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.put("c")
	if _, err := r.l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.close()
	for _, name := range []string{"i0", "i1"} {
		good := r.read(name)
		bad := append([]byte(nil), good...)
		bad[len(bad)-20] ^= 1
		r.write(name, bad)
		r.open()
		r.want("a b c")
		r.close()
		if string(r.read(name)) != string(good) {
			t.Errorf("%s differs from the first one", name)
		}
	}
	// Without d0 it is damage.
	r.write("i0", []byte("no index segment"))
	if err := r.mem.Remove(dir + "/d0"); err != nil {
		t.Fatal(err)
	}
	var ce *segfile.CorruptionError
	if err := r.try(); !errors.As(err, &ce) || ce.File != dir+"/i0" {
		t.Errorf("open without d0: %v", err)
	}
}

// TestReads: checked blocks, damage, fetching, and what is not there.
func TestReads(t *testing.T) {
	r := newRig(t)
	var asked int
	r.open()
	value := make([]byte, 100000)
	for i := range value {
		value[i] = byte(i * 7 >> 3)
	}
	var b batch.Builder
	b.Set([]byte("k"), value)
	a, err := r.l.Append(t.Context(), &b, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	loc := segfile.Location{Segment: a.Segment, Offset: a.Offset + int64(b.Items()[0].Value), Length: 100000}
	if _, err := r.l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole := r.read("d0")
	ranges := [][2]int{{0, 1}, {0, 100000}, {16383, 2}, {99999, 1}, {16384, 16384}, {50000, 40000}, {5, 0}, {32768, 67232}}
	check := func(what string) {
		t.Helper()
		for _, x := range ranges {
			p := make([]byte, x[1])
			if err := r.l.ReadValue(t.Context(), loc, int64(x[0]), p); err != nil || string(p) != string(value[x[0]:x[0]+x[1]]) {
				t.Errorf("%s: read %v: %v", what, x, err)
			}
		}
	}
	check("local")
	for _, x := range [][2]int64{{-1, 1}, {0, 100001}, {100000, 1}} {
		if err := r.l.ReadValue(t.Context(), loc, x[0], make([]byte, x[1])); !errors.Is(err, ErrRange) {
			t.Errorf("read %v: %v", x, err)
		}
	}
	far := loc
	far.Offset += 1000
	if err := r.l.ReadValue(t.Context(), far, 0, make([]byte, 1)); !errors.Is(err, ErrRange) {
		t.Errorf("read behind the segment: %v", err)
	}
	far = loc
	far.Segment = 99
	if err := r.l.ReadValue(t.Context(), far, 0, make([]byte, 1)); !errors.Is(err, ErrSegment) {
		t.Errorf("read of no segment: %v", err)
	}
	// One flipped bit in the third block: its neighbours are served, itself only from the copy.
	bad := append([]byte(nil), whole...)
	bad[loc.Offset+40000] ^= 1
	r.close()
	r.write("d0", bad)
	r.open()
	var ce *segfile.CorruptionError
	if err := r.l.ReadValue(t.Context(), loc, 40000, make([]byte, 1)); !errors.As(err, &ce) || ce.Offset != loc.Offset+32768 {
		t.Errorf("read of a damaged block: %v", err)
	}
	if err := r.l.ReadValue(t.Context(), loc, 32767, make([]byte, 1)); err != nil {
		t.Errorf("read of its neighbour: %v", err)
	}
	r.close()
	r.o.Fetch = copyOf(0, whole, &asked)
	r.open()
	check("damaged, with a copy")
	if asked == 0 {
		t.Error("the copy was not used")
	}
	asked = 0
	if err := r.l.Evict(0); err != nil {
		t.Fatal(err)
	}
	check("evicted")
	if asked != len(ranges)-1 {
		t.Errorf("asked %d times for %d ranges", asked, len(ranges)-1)
	}
	if err := errors.Join(r.l.Evict(0)); err != nil {
		t.Errorf("second Evict: %v", err)
	}
	if err := r.l.Evict(1); !errors.Is(err, ErrSegment) {
		t.Errorf("Evict of the active segment: %v", err)
	}
	r.close()
	r.o.Fetch = nil
	r.open()
	var me *segfile.MissingError
	if err := r.l.ReadValue(t.Context(), loc, 0, make([]byte, 1)); !errors.As(err, &me) || me.Segment != 0 {
		t.Errorf("read with nobody to ask: %v", err)
	}
}

// TestRecovered: a directory that was filled from elsewhere, with sealed segments of
// which only i<N> is here, receipts, and a tail without i<N>.
func TestRecovered(t *testing.T) {
	r := newRig(t)
	r.open()
	r.put("a")
	id, err := r.l.Seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.put("b")
	if _, err = r.l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.put("c")
	r.sync()
	r.put("d")
	r.sync()
	cut := r.l.Durable().Offset
	i0, i1, d1, d2 := r.read("i0"), r.read("i1"), r.read("d1"), r.read("d2")[:cut]
	r.only("i0", i0)
	r.write("i1", i1)
	r.write("d1", d1)
	r.write("d2", d2)
	r.write("r0", []byte("receipt"))
	r.write("r1", []byte("receipt"))
	r.o.Epoch, r.o.Session, r.o.MinSegment = 2, 12, 7
	r.o.KnownDurable = map[segfile.ID]int64{2: cut}
	r.open()
	s := r.l.Segments()
	if id != 0 || len(s) != 4 || s[0].Local || !s[1].Local || !s[2].Sealed || s[2].Length != cut || s[3].ID != 7 || s[3].Sealed {
		t.Errorf("segments %+v", s)
	}
	if got := strings.Join(r.replay(r.l.First(), r.l.Head().Pos, false), " "); got != "a b c d" {
		t.Errorf("keys %q", got)
	}
	r.put("e")
	if seq := r.l.Head().Seq; seq.Epoch() != 2 {
		t.Errorf("sequence %v", seq)
	}
	r.kill()
	r.o.KnownDurable = nil
	r.open()
	if got := strings.Join(r.replay(r.l.First(), r.l.Head().Pos, false), " "); got != "a b c d e" {
		t.Errorf("keys after a crash %q", got)
	}
	if s := r.l.Sessions(); len(s) != 2 || s[1].Session != 12 {
		t.Errorf("sessions %v", s)
	}
}
