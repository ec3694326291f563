package wal

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/segfile"
)

// TestTornTail cuts the log at every byte of its last batches: what was synced
// stays, the rest goes batch by batch.
func TestTornTail(t *testing.T) {
	for _, fill := range []string{"cut", "zeros", "noise"} {
		t.Run(fill, func(t *testing.T) {
			r := newRig(t)
			r.open()
			r.put("a")
			r.sync()
			bound := r.l.Durable().Offset
			ends := []int64{bound}
			for _, k := range []string{"b", "c", "d"} {
				r.put(k)
				ends = append(ends, r.l.Head().Offset)
			}
			whole := r.read("d0")[:ends[3]]
			for cut := bound; cut <= ends[3]; cut++ {
				torn := bytes.Clone(whole[:cut])
				if fill != "cut" {
					torn = append(torn, make([]byte, 200)...)
				}
				if fill == "noise" {
					for i := cut; i < int64(len(torn)); i++ {
						torn[i] = byte(i * 37)
					}
				}
				r.only("d0", torn)
				r.open()
				want, moved := "a", 0
				for i, k := range []string{"b", "c", "d"} {
					if cut >= ends[i+1] {
						want += " " + k
						moved++
					}
				}
				r.want(want)
				// The second batch witnesses the first.
				s, f := r.l.Segments(), r.l.Found()
				length := bound
				if moved == 0 {
					length, moved = segfile.HeaderSize, 1 // a itself has no witness left
				}
				if len(s) != 2 || !s[0].Sealed || s[0].Length != length || f.Clean || f.Moved != moved {
					t.Errorf("segments %+v, found %+v, want d0 of %d bytes, %d moved", s, f, length, moved)
				}
				r.close()
				r.open() // and once more, after a clean stop
				if !r.l.Found().Clean {
					t.Error("a clean stop is not seen")
				}
				r.want(want)
				if t.Failed() {
					t.Fatalf("cut at %d of %v", cut, ends)
				}
			}
		})
	}
}

// seven commits batches with a sync behind the fourth, which the fifth
// witnesses. It returns where each begins, and the end.
func (r *rig) seven() []int64 {
	r.t.Helper()
	ends := []int64{segfile.HeaderSize}
	for i, k := range strings.Split("a b c d e f g", " ") {
		r.put(k)
		ends = append(ends, r.l.Head().Offset)
		if i == 3 {
			r.sync()
		}
	}
	return ends
}

// TestDamage flips a bit in every byte of the log. Below the bound it is damage,
// named with file and offset, and restored if there is a copy; above, the log ends there.
func TestDamage(t *testing.T) {
	r := newRig(t)
	r.open()
	ends := r.seven()
	whole := r.read("d0")[:ends[7]]
	bound := ends[4]
	for _, copies := range []bool{false, true} {
		for at := range whole {
			asked := 0
			r.o.Fetch = nil
			if copies {
				r.o.Fetch = copyOf(0, whole, &asked)
			}
			bad := bytes.Clone(whole)
			bad[at] ^= 0x10
			r.only("d0", bad)
			err := r.try()
			var ce *segfile.CorruptionError
			switch {
			case int64(at) < bound && !copies:
				start := int64(0)
				for _, e := range ends {
					if e <= int64(at) {
						start = e
					}
				}
				if !errors.As(err, &ce) || ce.File != dir+"/d0" || ce.Offset != start {
					t.Fatalf("byte %d: %v, want damage at %d", at, err, start)
				}
				if !bytes.Equal(r.read("d0"), bad) || r.names() != "d0" {
					t.Fatalf("byte %d: the damaged log was changed: %s", at, r.names())
				}
			case err != nil:
				t.Fatalf("byte %d: %v", at, err)
			case int64(at) < bound:
				r.want("a b c d e f g")
				if asked == 0 || !bytes.Equal(r.read("d0"), whole[:bound]) {
					t.Fatalf("byte %d: not restored (asked %d times)", at, asked)
				}
			default:
				want := "a b c d"
				for i := 4; i < 7; i++ {
					if ends[i+1] <= int64(at) {
						want += " " + string(rune('a'+i))
					}
				}
				r.want(want)
				if asked > 0 {
					t.Fatalf("byte %d above the bound was fetched", at)
				}
			}
			if t.Failed() {
				t.Fatalf("byte %d", at)
			}
		}
	}
}

// TestWitnessBehindDamage: the only witness may stand behind the bad batch, whose length cannot be trusted.
func TestWitnessBehindDamage(t *testing.T) {
	r := newRig(t)
	r.open()
	ends := r.seven()
	whole := r.read("d0")[:ends[7]]
	for i := ends[2]; i < ends[4]; i++ {
		whole[i] = 0xee // two batches gone, lengths and all
	}
	r.only("d0", whole)
	var ce *segfile.CorruptionError
	if err := r.try(); !errors.As(err, &ce) || ce.Offset != ends[2] {
		t.Errorf("open: %v, want damage at %d", err, ends[2])
	}
}

// TestKnownDurable: what a cut has is not lost with a tail that has no other witness.
func TestKnownDurable(t *testing.T) {
	r := newRig(t)
	r.open()
	ends := r.seven()
	whole := r.read("d0")[:ends[7]]
	r.only("d0", whole[:ends[5]+3])
	r.o.KnownDurable = map[segfile.ID]int64{0: ends[6]}
	var ce *segfile.CorruptionError
	if err := r.try(); !errors.As(err, &ce) || ce.Offset != ends[5] {
		t.Fatalf("open without a copy: %v, want damage at %d", err, ends[5])
	}
	asked := 0
	r.o.Fetch = copyOf(0, whole[:ends[6]], &asked)
	r.open()
	r.want("a b c d e f")
	if s := r.l.Segments()[0]; s.Length != ends[6] || asked == 0 {
		t.Errorf("d0 is sealed at %d, want %d; asked %d times", s.Length, ends[6], asked)
	}
}

// TestWrongCopy: a restored range must check, whoever sent it.
func TestWrongCopy(t *testing.T) {
	r := newRig(t)
	r.open()
	ends := r.seven()
	bad := r.read("d0")[:ends[7]]
	bad[ends[1]+10] ^= 1
	r.only("d0", bad)
	asked := 0
	r.o.Fetch = copyOf(0, make([]byte, 1000), &asked)
	var ce *segfile.CorruptionError
	if err := r.try(); !errors.As(err, &ce) || asked == 0 || !bytes.Equal(r.read("d0"), bad) {
		t.Errorf("open with a wrong copy: %v", err)
	}
}

// TestMarker: an idle writer leaves a witness for the last synced batch within a second.
func TestMarker(t *testing.T) {
	r := newRig(t)
	r.open()
	r.put("a")
	r.sync()
	end := r.l.Durable()
	for deadline := time.Now().Add(10 * time.Second); r.l.Durable() == end; {
		if time.Now().After(deadline) {
			t.Fatal("no marker")
		}
		time.Sleep(10 * time.Millisecond)
	}
	const size = batch.HeaderSize + batch.TrailerSize
	if got := r.l.Durable(); got.Offset != end.Offset+size || got.Seq != end.Seq {
		t.Errorf("durable after the marker: %+v", got)
	}
	time.Sleep(3 * idle)
	if got := r.l.Head().Offset; got != end.Offset+size {
		t.Errorf("one more marker: head at %d", got)
	}
	// It survives the power going, and makes a torn batch damage.
	r.powerOff()
	p := r.read("d0")
	p[end.Offset-3] ^= 1
	r.write("d0", p)
	var ce *segfile.CorruptionError
	if err := r.try(); !errors.As(err, &ce) {
		t.Errorf("flip in a batch that a marker witnesses: %v", err)
	}
}

// TestHoleBehindCleanStop: what a lost page leaves behind a clean stop must not
// become part of the log that goes on there.
func TestHoleBehindCleanStop(t *testing.T) {
	r := newRig(t)
	r.open()
	r.put("a")
	r.close()
	r.open()
	from := r.l.Head().Offset
	r.put("b")
	to := r.l.Head().Offset
	r.put("stale")
	p := r.read("d0")
	clear(p[from:to]) // the page of b never reached the disk, the next one did
	r.only("d0", p)
	r.open()
	r.want("a")
	r.put("d") // as long as b was
	r.kill()
	r.open()
	r.want("a d")
}

// TestNeeds: the log ends before the first batch that needs what is not there, also
// where that had been durable.
func TestNeeds(t *testing.T) {
	r := newRig(t)
	r.open()
	for i, k := range []string{"a", "b", "c", "d", "e"} {
		if err := r.append(segfile.MakeSeq(1, uint64(10*i)), k); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.append(segfile.MakeSeq(1, 39), "x"); !errors.Is(err, ErrNeeds) {
		t.Errorf("lower needs: %v", err)
	}
	r.put("f") // repeats the last
	if got := r.l.Head().Needs; got != segfile.MakeSeq(1, 40) {
		t.Errorf("needs %v, want e1.40", got)
	}
	r.sync()
	r.kill()
	saved := r.mem
	for head, want := range map[uint64]string{40: "a b c d e f", 45: "a b c d e f", 39: "a b c d", 30: "a b c d", 29: "a b c", 0: "a"} {
		r.mem = saved.KillClone()
		r.o.NeedsHead = func() segfile.Seq { return segfile.MakeSeq(1, head) }
		r.open()
		r.want(want)
		if cut := r.l.Found().Cut; cut != (head < 40) {
			t.Errorf("needs up to %d: cut %v", head, cut)
		}
		next := r.l.Head().Needs
		if next > r.o.NeedsHead() {
			t.Errorf("needs %v after a cut at %d", next, head)
		}
		r.put("y")
		if seq := r.l.Head().Seq; seq.Counter() < skipAfterCrash {
			t.Errorf("a sequence that was lost may come back: %v", seq)
		}
		r.kill()
		r.o.NeedsHead = func() segfile.Seq { return segfile.MakeSeq(1, 100) }
		r.open()
		r.want(want + " y")
		r.stop()
	}
}

// TestNeedsSealed: sealed metadata that needs what is lost is refused, not cut.
func TestNeedsSealed(t *testing.T) {
	r := newRig(t)
	r.open()
	if err := r.append(segfile.MakeSeq(1, 10), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.close()
	r.o.NeedsHead = func() segfile.Seq { return segfile.MakeSeq(1, 9) }
	if err := r.try(); err == nil || !strings.Contains(err.Error(), "e1.10") {
		t.Errorf("open: %v", err)
	}
}

// TestEpoch: a log of a later epoch is not continued by an earlier one.
func TestEpoch(t *testing.T) {
	r := newRig(t)
	r.o.Epoch = 5
	r.open()
	r.put("a")
	r.close()
	r.o.Epoch = 4
	if err := r.try(); !errors.Is(err, ErrEpoch) {
		t.Errorf("open under a lower epoch: %v", err)
	}
	r.o.Epoch = 6
	r.open()
	r.put("b")
	if seq := r.l.Head().Seq; seq != segfile.MakeSeq(6, 2) {
		t.Errorf("sequence after a takeover: %v, want e6.2", seq)
	}
	r.want("a b")
}
