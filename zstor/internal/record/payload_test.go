package record

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func sampleManifest(object string) Manifest {
	return Manifest{
		Object: object, Generation: Generation{1, 2, 3}, K: 4, N: 6, KeyEpoch: 2, StripeSize: 1 << 20, Compression: 1, Fallback: true,
		DataLen: 64 << 20, IndexLen: 12345, DataStripes: 64, IndexStripes: 1, Writer: Writer{3, 99}, Time: time.Unix(1700000000, 5).UTC(),
		Nodes: []Holding{
			{0, "127.0.0.1:9901/data", Stored}, {1, "127.0.0.1:9902/data", Confirmed}, {2, "c", GivenUp}, {2, "d", Stored}, {3, "e", Offered}, {4, "f", Stored}, {4, "g", Stored},
		},
		Checksum: [32]byte{7},
	}
}

func sampleTail(t testing.TB) Tail {
	t.Helper()
	whole := sampleManifest("zdbfs-data/9")
	whole.DataLen = 2 << 20
	tail := Tail{SegmentKey: SegmentKey{"zdbfs-data", 9}, Incarnation: [16]byte{4}, Session: 77, Whole: &whole}
	for i := range 3 {
		from := int64(2<<20 + i*1000)
		if err := tail.Append(from, from+1000, sampleManifest(fmt.Sprintf("piece %d", i))); err != nil {
			t.Fatal(err)
		}
	}
	return tail
}

func sampleCut(t testing.TB) *Cut {
	t.Helper()
	l := NewLedger()
	l.Add(SegmentRef{SegmentKey{"zdbfs-data", 1}, Generation{1}, 64 << 20, 1000})
	l.Add(SegmentRef{SegmentKey{"zdbfs-meta", 1}, Generation{2}, 16 << 20, 1000})
	b := l.Snapshot(1, 1)
	s := newSealer(t, 1)
	enc, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Rebase(b, s.NewBaseRef(b, enc, sampleManifest("base/1"))); err != nil {
		t.Fatal(err)
	}
	l.Add(SegmentRef{SegmentKey{"zdbfs-data", 2}, Generation{3}, 64 << 20, 1000})
	l.Remove(SegmentKey{"zdbfs-meta", 1})
	c := &Cut{
		Epoch: 2, Number: 8, Origin: CutID{1, 2, [32]byte{3}}, Time: time.Unix(1700000001, 0).UTC(), Session: 5,
		Meta: Head{Seq: 1, Needs: 2, Segment: 3, Offset: 4, Incarnation: [16]byte{5}, Session: 6},
		Data: Head{Seq: 7, Needs: 8, Segment: 9, Offset: 10, Incarnation: [16]byte{11}, Session: 12},
		Tails: []Tail{
			sampleTail(t),
			{SegmentKey: SegmentKey{"zdbfs-meta", 4}, Sealed: true},
		},
	}
	l.Fill(c)
	return c
}

// heldCut holds a sealed segment by its tail: another tail of its namespace follows.
func heldCut(t testing.TB) *Cut {
	t.Helper()
	c := sampleCut(t)
	c.Number++
	c.Tails[0].Sealed = true
	c.Tails = slices.Insert(c.Tails, 1, Tail{SegmentKey: SegmentKey{"zdbfs-data", c.Tails[0].Segment + 1}, Session: 12})
	return c
}

func TestManifest(t *testing.T) {
	m := sampleManifest("zdbfs-data/17")
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, m) {
		t.Errorf("got %+v, want %+v", *got, m)
	}
	// Indices 0, 1, 2 and 4 are stored (4 twice), 1 is confirmed.
	if m.Count(Stored) != 4 || m.Count(Confirmed) != 1 {
		t.Errorf("stored %d, confirmed %d, want 4, 1", m.Count(Stored), m.Count(Confirmed))
	}
	for n := range len(b) {
		if _, err := DecodeManifest(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
	for what, spoil := range map[string]func(*Manifest){
		"k = 1":        func(m *Manifest) { m.K = 1 },
		"n = k":        func(m *Manifest) { m.N = m.K },
		"n > 256":      func(m *Manifest) { m.N = 257 },
		"no object":    func(m *Manifest) { m.Object = "" },
		"no stripe":    func(m *Manifest) { m.StripeSize = 0 },
		"negative":     func(m *Manifest) { m.DataLen = -1 },
		"index ≥ n":    func(m *Manifest) { m.Nodes = []Holding{{6, "a", Stored}} },
		"unknown hold": func(m *Manifest) { m.Nodes = []Holding{{0, "a", 9}} },
		"no node":      func(m *Manifest) { m.Nodes = []Holding{{0, "", Stored}} },
		"too many":     func(m *Manifest) { m.Nodes = slices.Repeat([]Holding{{0, "a", Stored}}, maxHoldings+1) },
	} {
		bad := sampleManifest("o")
		spoil(&bad)
		if _, err := bad.Encode(); err == nil {
			t.Errorf("%s: encoded", what)
		}
	}
}

func TestIntentTombstone(t *testing.T) {
	i := &Intent{Round: RoundID{1}, Writer: Writer{2, 3}, Time: time.Unix(4, 5).UTC(), Entries: []IntentEntry{
		{Object: "a", Generation: Generation{1}, K: 4, N: 6, KeyEpoch: 1, MaxStripe: 9, Nodes: []Holding{{0, "n0", Offered}}},
		{Object: "b", K: 2, N: 3},
	}}
	b, err := i.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeIntent(b)
	if err != nil || !reflect.DeepEqual(got, i) {
		t.Errorf("got %+v, %v, want %+v", got, err, i)
	}
	for n := range len(b) {
		if _, err := DecodeIntent(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
	i.Entries[1].K = 1
	if _, err := i.Encode(); err == nil {
		t.Error("an intent with k = 1 was encoded")
	}

	ts := &Tombstone{Deleted: Version{1, 2, 3}, Writer: Writer{4, 5}, Time: time.Unix(6, 7).UTC()}
	if got, err := DecodeTombstone(ts.Encode()); err != nil || *got != *ts {
		t.Errorf("got %+v, %v, want %+v", got, err, ts)
	}
	if _, err := DecodeTombstone(ts.Encode()[:20]); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut tombstone: %v", err)
	}
}

func TestCutRoundTrip(t *testing.T) {
	s := newSealer(t, 1)
	c := sampleCut(t)
	b, err := s.EncodeCut(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.DecodeCut(1, b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, c) {
		t.Errorf("got  %+v\nwant %+v", got, c)
	}
	if got.ID().MAC == [32]byte{} {
		t.Error("no MAC")
	}
	for bit := range len(b) * 8 {
		d := bytes.Clone(b)
		d[bit/8] ^= 1 << (bit % 8)
		if _, err := s.DecodeCut(1, d); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
	for n := range len(b) {
		if _, err := s.DecodeCut(1, b[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
	if _, err := s.DecodeCut(9, b); !errors.Is(err, ErrKeyEpoch) {
		t.Errorf("unknown key epoch: %v", err)
	}
}

func TestHeldCutRoundTrip(t *testing.T) {
	s := newSealer(t, 1)
	c := heldCut(t)
	b, err := s.EncodeCut(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.DecodeCut(1, b)
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("got %+v, %v, want %+v", got, err, c)
	}
}

func TestCutRefuses(t *testing.T) {
	s := newSealer(t, 1)
	for what, spoil := range map[string]func(*Cut){
		"namespaces out of order": func(c *Cut) { slices.Reverse(c.Namespaces) },
		"unknown namespace":       func(c *Cut) { c.Changes[0].Namespace = "other" },
		"changes out of order":    func(c *Cut) { slices.Reverse(c.Changes) },
		"removed from no base":    func(c *Cut) { c.Base = nil },
		"negative offset":         func(c *Cut) { c.Meta.Offset = -1 },
		"bad base":                func(c *Cut) { c.Base.Manifest.K = 0 },
		"tail of nowhere":         func(c *Cut) { c.Tails[0].Namespace = "other" },
		"piece of other session":  func(c *Cut) { c.Tails[0].Pieces[1].Session++ },
		"empty namespace":         func(c *Cut) { c.Namespaces[0].Name = "" },
		"tails out of order":      func(c *Cut) { slices.Reverse(c.Tails) },
		"two tails of a segment":  func(c *Cut) { c.Tails = append(c.Tails[:1:1], c.Tails...); c.Tails[0].Sealed = true },
		"open tail before another": func(c *Cut) {
			next := c.Tails[0]
			next.Segment, next.Whole, next.Pieces = next.Segment+1, nil, nil
			c.Tails = slices.Insert(c.Tails, 1, next)
		},
		"too many tails": func(c *Cut) { c.Tails = slices.Repeat(c.Tails[1:], maxTails+1) },
	} {
		c := sampleCut(t)
		spoil(c)
		if _, err := s.EncodeCut(c); err == nil {
			t.Errorf("%s: encoded", what)
		}
	}
}

// A tail is one unbroken line: every other order or content of pieces is refused.
func TestTailChain(t *testing.T) {
	tail := sampleTail(t)
	if err := tail.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := tail.Append(tail.End()+1, tail.End()+2, sampleManifest("gap")); err == nil {
		t.Error("a gap was appended")
	}
	if err := tail.Append(tail.End(), tail.End(), sampleManifest("empty")); err == nil {
		t.Error("an empty piece was appended")
	}
	for what, spoil := range map[string]func(*Tail){
		"piece missing":     func(t *Tail) { t.Pieces = slices.Delete(t.Pieces, 1, 2) },
		"first missing":     func(t *Tail) { t.Pieces = t.Pieces[1:] },
		"other content":     func(t *Tail) { t.Pieces[1].Manifest.Checksum[0] ^= 1 },
		"other generation":  func(t *Tail) { t.Pieces[2].Manifest.Generation[0] ^= 1 },
		"other incarnation": func(t *Tail) { t.Incarnation[0] ^= 1 },
		"swapped":           func(t *Tail) { t.Pieces[0], t.Pieces[1] = t.Pieces[1], t.Pieces[0] },
		"moved":             func(t *Tail) { t.Pieces[2].To++ },
		"chain":             func(t *Tail) { t.Pieces[2].Prev[0] ^= 1 },
		"whole shrank":      func(t *Tail) { t.Whole = nil },
	} {
		bad := sampleTail(t)
		spoil(&bad)
		if err := bad.Validate(); err == nil {
			t.Errorf("%s: valid", what)
		}
	}
	// Whole stripes take over: pieces below their end go, the one across it stays, and the line goes on.
	tail.Whole.DataLen += 1500
	if out := tail.Superseded(); len(out) != 1 || len(tail.Pieces) != 2 {
		t.Errorf("superseded %d, left %d, want 1, 2", len(out), len(tail.Pieces))
	}
	if err := tail.Append(tail.End(), tail.End()+10, sampleManifest("next")); err != nil {
		t.Error(err)
	}
	tail.Whole.DataLen = 4 << 20
	if out := tail.Superseded(); len(out) != 3 || tail.End() != 4<<20 {
		t.Errorf("superseded %d, end %d", len(out), tail.End())
	}
	if err := tail.Append(4<<20, 4<<20+1, sampleManifest("new line")); err != nil {
		t.Error(err)
	}
}

// Random changes against a plain map, with bases made when they are due: a cut always expands to the exact live set,
// and its size stays bounded.
func TestLedgerAgainstModel(t *testing.T) {
	s := newSealer(t, 1)
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := NewLedger()
		model := map[SegmentKey]SegmentRef{}
		var base, pendingBase *Base
		var pendingRef BaseRef
		bases := 0
		for step := range 12000 {
			k := SegmentKey{[]string{"zdbfs-data", "zdbfs-meta"}[rng.IntN(2)], uint32(rng.IntN(1 + step))}
			if rng.IntN(4) == 0 {
				_, had := model[k]
				if l.Remove(k) != had {
					t.Fatalf("Remove(%v) did not say %v", k, had)
				}
				delete(model, k)
			} else {
				ref := SegmentRef{k, Generation{byte(rng.IntN(3)), byte(step >> 8), byte(step)}, int64(rng.IntN(1 << 26)), 5}
				l.Add(ref)
				model[k] = ref
			}
			switch {
			case pendingBase != nil && rng.IntN(20) == 0: // the base has reached the floor
				if err := l.Rebase(pendingBase, pendingRef); err != nil {
					t.Fatal(err)
				}
				base, pendingBase = pendingBase, nil
				bases++
			case pendingBase == nil && l.Due():
				pendingBase = l.Snapshot(1, uint64(step))
				enc, err := pendingBase.Encode()
				if err != nil {
					t.Fatal(err)
				}
				pendingRef = s.NewBaseRef(pendingBase, enc, sampleManifest("base"))
				if pendingBase, err = s.OpenBase(&pendingRef, enc); err != nil {
					t.Fatal(err)
				}
			}
			if step%500 != 0 {
				continue
			}
			c := &Cut{Epoch: 1, Number: uint64(step)}
			l.Fill(c)
			b, err := s.EncodeCut(c)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > 160<<10 {
				t.Errorf("step %d: cut of %d bytes", step, len(b))
			}
			d, err := s.DecodeCut(1, b)
			if err != nil {
				t.Fatal(err)
			}
			live, err := Expand(d, base)
			if err != nil {
				t.Fatal(err)
			}
			if len(live) != len(model) || l.Len() != len(model) {
				t.Fatalf("step %d: %d live, ledger says %d, want %d", step, len(live), l.Len(), len(model))
			}
			for _, ref := range live {
				if model[ref.SegmentKey] != ref {
					t.Fatalf("step %d: %v is live, want %v", step, ref, model[ref.SegmentKey])
				}
			}
			if l, err = LoadLedger(d, base); err != nil { // as after a restart
				t.Fatal(err)
			}
			for _, ns := range d.Namespaces {
				for k := range model {
					if k.Namespace == ns.Name && k.Segment > ns.High {
						t.Fatalf("%s: high is %d, but %d is live", ns.Name, ns.High, k.Segment)
					}
				}
			}
		}
		if bases == 0 {
			t.Error("no base was ever due")
		}
	}
}

func TestLedgerRefusesTheWrongBase(t *testing.T) {
	c := sampleCut(t)
	if _, err := Expand(c, nil); err == nil {
		t.Error("expanded without its base")
	}
	if _, err := Expand(c, &Base{Epoch: 1, Number: 2}); err == nil {
		t.Error("expanded with another base")
	}
	s := newSealer(t, 1)
	b := &Base{Epoch: 1, Number: 1, Segments: []SegmentRef{{SegmentKey: SegmentKey{"a", 1}}}}
	enc, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	ref := s.NewBaseRef(b, enc, sampleManifest("base"))
	enc[len(enc)-1] ^= 1
	if _, err := s.OpenBase(&ref, enc); !errors.Is(err, ErrDamaged) {
		t.Errorf("flipped base: %v", err)
	}
	if err := NewLedger().Rebase(b, BaseRef{Epoch: 9}); err == nil {
		t.Error("rebased to another base")
	}
	b.Segments = append(b.Segments, b.Segments[0])
	if _, err := b.Encode(); err == nil {
		t.Error("a base with a segment twice was encoded")
	}
}

func TestStrings(t *testing.T) {
	for _, s := range []string{
		KindManifest.String(), KindCut.String(), KindIntent.String(), KindBase.String(), Kind(9).String(),
		Offered.String(), Stored.String(), Confirmed.String(), GivenUp.String(), HoldState(9).String(),
		Owner{Epoch: 1, Host: "h"}.String(), CutID{1, 2, [32]byte{}}.String(), RoundID{}.String(), Name{}.String(),
	} {
		if strings.TrimSpace(s) == "" {
			t.Error("something prints as nothing")
		}
	}
}
