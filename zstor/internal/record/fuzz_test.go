package record

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"
)

// The decoders see only authenticated bytes in life; they are fuzzed below the authentication all the same, for an
// older program's records, or a master in wrong hands, must not crash anything either.

// faults gives good cut short in many places, with a byte too many, and with single bits wrong at the given places.
func faults(good []byte, at ...int) [][]byte {
	all := [][]byte{{}, good[:len(good)-1], append(bytes.Clone(good), 0)}
	for n := 1; n < len(good); n += 1 + len(good)/32 {
		all = append(all, good[:n])
	}
	for _, i := range append(at, 0) {
		bad := bytes.Clone(good)
		bad[i] ^= 0x80
		all = append(all, bad)
	}
	return all
}

// badManifests are well-formed and contradict themselves.
func badManifests() []Manifest {
	bad := func(change func(m *Manifest)) Manifest {
		m := sampleManifest("o")
		change(&m)
		return m
	}
	return []Manifest{
		bad(func(m *Manifest) { m.Object = "" }), bad(func(m *Manifest) { m.K = 1 }), bad(func(m *Manifest) { m.N = m.K }),
		bad(func(m *Manifest) { m.StripeSize = 0 }), bad(func(m *Manifest) { m.DataLen = -1 }),
		bad(func(m *Manifest) { m.Nodes[0].Index = 6 }), bad(func(m *Manifest) { m.Nodes[0].State = 9 }), bad(func(m *Manifest) { m.Nodes[0].Node = "" }),
	}
}

func FuzzManifest(f *testing.F) {
	m := sampleManifest("zdbfs-data/17")
	b, err := m.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, bad := range faults(b, 1, 33, len(b)-40) {
		f.Add(bad)
	}
	for _, m := range badManifests() {
		w := &writer{}
		m.write(w)
		f.Add(w.b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("decoded, but does not encode: %v", err)
		}
		m2, err := DecodeManifest(again)
		if err != nil || !reflect.DeepEqual(m, m2) {
			t.Fatalf("got %+v, %v, want %+v", m2, err, m)
		}
	})
}

func FuzzIntent(f *testing.F) {
	i := &Intent{Round: RoundID{1}, Entries: []IntentEntry{{Object: "a", K: 4, N: 6, Nodes: []Holding{{0, "n0", Offered}}}, {Object: "b", K: 2, N: 3}}}
	b, err := i.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	// Count of entries, length of the first name, k, n, index, state, and length of the node's name.
	const entry = 1 + 16 + 1 + 1 + 8 + 1
	for _, bad := range faults(b, entry-1, entry, entry+19, entry+20, entry+31, entry+33, entry+34) {
		f.Add(bad)
	}
	long := bytes.Clone(b) // n below k
	long[entry+21] = 0
	f.Add(long)
	f.Add(append(append(bytes.Clone(b[:entry]), 0), b[entry+2:]...)) // an entry of no object
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := DecodeIntent(b)
		if err != nil {
			return
		}
		again, err := i.Encode()
		if err != nil {
			t.Fatalf("decoded, but does not encode: %v", err)
		}
		i2, err := DecodeIntent(again)
		if err != nil || !reflect.DeepEqual(i, i2) {
			t.Fatalf("got %+v, %v, want %+v", i2, err, i)
		}
	})
}

func FuzzTombstone(f *testing.F) {
	good := (&Tombstone{Deleted: Version{1, 2, 3}, Writer: Writer{4, 5}}).Encode()
	f.Add(good)
	for _, bad := range faults(good) {
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ts, err := DecodeTombstone(b)
		if err != nil {
			return
		}
		if ts2, err := DecodeTombstone(ts.Encode()); err != nil || *ts != *ts2 {
			t.Fatalf("got %+v, %v, want %+v", ts2, err, ts)
		}
	})
}

// badCuts are well-formed and contradict themselves.
func badCuts(t testing.TB) []*Cut {
	bad := func(change func(c *Cut)) *Cut {
		c := sampleCut(t)
		change(c)
		return c
	}
	piece := func(change func(p *Piece)) *Cut {
		return bad(func(c *Cut) { change(&c.Tails[0].Pieces[1]) })
	}
	return []*Cut{
		bad(func(c *Cut) { c.Meta.Offset = -1 }),
		bad(func(c *Cut) { c.Namespaces[0].Name = "" }),
		bad(func(c *Cut) { c.Namespaces[1].Name = c.Namespaces[0].Name }),
		bad(func(c *Cut) { c.Namespaces = nil }), // then all numbers of namespaces are too high
		bad(func(c *Cut) { c.Namespaces, c.Changes = nil, nil }),
		bad(func(c *Cut) { c.Changes[0], c.Changes[1] = c.Changes[1], c.Changes[0] }),
		bad(func(c *Cut) { c.Changes[1] = c.Changes[0] }),
		bad(func(c *Cut) { c.Base = nil }), // and a change that removes
		bad(func(c *Cut) { c.Base.Manifest.K = 0 }),
		bad(func(c *Cut) { c.Tails[0].Whole.N = 0 }),
		bad(func(c *Cut) { c.Tails[0].Pieces = c.Tails[0].Pieces[1:] }),
		bad(func(c *Cut) { c.Tails[0].Whole = nil }),
		bad(func(c *Cut) { slices.Reverse(c.Tails) }),
		bad(func(c *Cut) { *c = *heldCut(t); c.Tails[0].Sealed = false }),
		bad(func(c *Cut) { *c = *heldCut(t); c.Tails[1].Segment-- }),
		piece(func(p *Piece) { p.To = p.From }),
		piece(func(p *Piece) { p.From-- }),
		piece(func(p *Piece) { p.Session++ }),
		piece(func(p *Piece) { p.Prev[0]++ }),
		piece(func(p *Piece) { p.Chain[0]++ }),
		piece(func(p *Piece) { p.Manifest.StripeSize = 0 }),
	}
}

// FuzzSealedCut goes through the MAC; with sign it is made right first.
func FuzzSealedCut(f *testing.F) {
	s := newSealer(f, 1, 2)
	good, err := s.EncodeCut(sampleCut(f))
	if err != nil {
		f.Fatal(err)
	}
	front := good[:len(good)-cutMACSize]
	held, err := s.EncodeCut(heldCut(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(2), held, false)
	f.Add(uint32(2), good, false)
	f.Add(uint32(1), good, false)
	f.Add(uint32(3), good, false)
	f.Add(uint32(1), front, true)
	f.Add(uint32(2), good[:cutMACSize-1], false)
	for _, bad := range faults(front, 1) {
		f.Add(uint32(2), bad, true)
		f.Add(uint32(2), bad, false)
	}
	f.Fuzz(func(t *testing.T, e uint32, b []byte, sign bool) {
		if d, ok := s.keys[e]; ok && sign {
			m := mac(d.mac, "cut", b)
			b = append(bytes.Clone(b), m[:]...)
		}
		c, err := s.DecodeCut(e, b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrKeyEpoch) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if c.MAC != [32]byte(b[len(b)-cutMACSize:]) {
			t.Fatal("the MAC of the cut is not the one behind it")
		}
	})
}

func FuzzCut(f *testing.F) {
	s := newSealer(f, 1)
	for _, c := range []*Cut{sampleCut(f), {Epoch: 1}} {
		b, err := s.EncodeCut(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-cutMACSize])
		for _, bad := range faults(b[:len(b)-cutMACSize], 100) {
			f.Add(bad)
		}
	}
	for _, c := range badCuts(f) {
		w := &writer{}
		c.write(w)
		f.Add(w.b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCut(b)
		if err != nil {
			return
		}
		w := &writer{}
		c.write(w)
		c2, err := parseCut(w.b)
		if err != nil || !reflect.DeepEqual(c, c2) {
			t.Fatalf("got %+v, %v, want %+v", c2, err, c)
		}
		if c.Base == nil {
			if _, err := Expand(c, nil); err != nil {
				t.Fatalf("valid, but does not expand: %v", err)
			}
		}
	})
}

func FuzzBase(f *testing.F) {
	s := newSealer(f, 1)
	b := &Base{Epoch: 1, Number: 2, Segments: []SegmentRef{{SegmentKey: SegmentKey{"a", 1}}, {SegmentKey: SegmentKey{"b", 1}, DataLen: 5}}}
	enc, err := b.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(enc)
	f.Add([]byte(baseMagic))
	const names = len(baseMagic) + 8 + 8
	const first = names + 1 + 2 + 2 + 1
	for _, bad := range faults(enc, names, names+1, first-1, first) {
		f.Add(bad)
	}
	twice := bytes.Clone(enc) // both of namespace b, the second number below the first
	twice[first] = 1
	f.Add(twice)
	noName := append(append(bytes.Clone(enc[:names+1]), 0), enc[names+3:]...)
	f.Add(noName)
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := DecodeBase(p)
		if err != nil {
			if _, oerr := s.OpenBase(&BaseRef{Sum: s.BaseSum(1, p)}, p); oerr == nil {
				t.Fatalf("opens, but does not decode: %v", err)
			}
			return
		}
		enc, err := b.Encode()
		if err != nil {
			t.Fatalf("decoded, but does not encode: %v", err)
		}
		b2, err := DecodeBase(enc)
		if err != nil || !reflect.DeepEqual(b, b2) {
			t.Fatalf("got %+v, %v, want %+v", b2, err, b)
		}
		// Through its reference, which names it and nothing else.
		ref := s.NewBaseRef(b, p, Manifest{})
		if b2, err := s.OpenBase(&ref, p); err != nil || !reflect.DeepEqual(b, b2) {
			t.Fatalf("opened as %+v, %v, want %+v", b2, err, b)
		}
		ref.Number++
		if _, err := s.OpenBase(&ref, p); !errors.Is(err, ErrDamaged) {
			t.Fatalf("a base opens as that of another cut: %v", err)
		}
		ref.Sum[0]++
		if _, err := s.OpenBase(&ref, p); !errors.Is(err, ErrDamaged) {
			t.Fatalf("another base opens: %v", err)
		}
	})
}

// FuzzFixed covers what lies under fixed names, below its authentication.
func FuzzFixed(f *testing.F) {
	w := &writer{}
	w.u64(7)
	w.bytes(make([]byte, 16))
	w.u64(0)
	w.u8(3)
	w.bytes(append([]byte("abc"), make([]byte, maxHost-3)...))
	f.Add(w.b)
	for _, bad := range faults(w.b, 8+16+8) {
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOwner(b)
		if err == nil && len(o.Host) > maxHost {
			t.Fatalf("host of %d bytes", len(o.Host))
		}
	})
}

// FuzzSealedFixed gives what a node sends for fixed names: as it is, or sealed first.
func FuzzSealedFixed(f *testing.F) {
	s := newSealer(f, 1)
	at := time.Unix(1700000000, 5).UTC()
	owner, err1 := s.SealOwner(Owner{Epoch: 7, ID: OwnerID{1}, Time: at, Host: "front"})
	mark, err2 := s.SealMark(Incarnation{3})
	head, err3 := s.SealHead(CutHead{ID: CutID{1, 2, [32]byte{3}}, Time: at})
	if err := errors.Join(err1, err2, err3); err != nil {
		f.Fatal(err)
	}
	for _, good := range [][]byte{owner, mark, head} {
		f.Add(good, false)
		for _, bad := range faults(good, 1, 4, headerSize, headerSize+12, len(good)-1) { // format, key epoch, nonce, text, tag
			f.Add(bad, false)
		}
	}
	for _, n := range []int{0, markPlain, headPlain, ownerPlain - 1, ownerPlain} {
		f.Add(make([]byte, n), true)
		f.Add(bytes.Repeat([]byte{0xff}, n), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		as := func(label string) []byte {
			if !seal {
				return b
			}
			out, err := s.sealFixed(label, b)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		_, err1 := s.OpenOwner(as("qsfs epoch key"))
		_, err2 := s.OpenMark(as("qsfs complete mark"))
		_, err3 := s.OpenHead(as("qsfs cut head"))
		opened := 0
		for _, err := range []error{err1, err2, err3} {
			if err == nil {
				opened++
			} else if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrKeyEpoch) {
				t.Fatalf("error of another kind: %v", err)
			}
		}
		if opened > 1 {
			t.Fatal("one value opens under two names")
		}
	})
}

// FuzzVersion reads versions as people pass them on.
func FuzzVersion(f *testing.F) {
	for _, v := range []string{Version{1, 2, 3}.String(), Version{}.String(), "", "e1.2", "e1.2-3", "e01.2-0000000000000003", "x", "e1.2-0000000000000003 "} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if v, err := ParseVersion(in); err == nil && v.String() != in {
			t.Fatalf("%q was read as %v", in, v)
		}
	})
}

// FuzzOpen gives sealed records to Open: whatever a node sends.
func FuzzOpen(f *testing.F) {
	s := newSealer(f, 1)
	name, sealed, err := s.Seal(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(name[:], sealed)
	for _, bad := range faults(sealed, 1, headerSize, headerSize+12, len(sealed)-1) { // key epoch, nonce, text, tag
		f.Add(name[:], bad)
	}
	for _, bad := range faults(name[:], 1, 5, NameSize-1) {
		f.Add(bad, sealed)
	}
	// Sealed with the right key, and not a record, or one of another name.
	for _, plain := range [][]byte{{}, make([]byte, 300), {1, 0, 0, 1, 0, 0, 0, 0, 'o'}} {
		a, err := aead(s.keys[1].seal, name[:])
		if err != nil {
			f.Fatal(err)
		}
		out := append([]byte{formatByte, 0, 0, 0, 1}, make([]byte, 12)...)
		f.Add(name[:], a.Seal(out, out[headerSize:], plain, out[:headerSize]))
	}
	f.Fuzz(func(t *testing.T, n, b []byte) {
		name2, err := ParseName(n)
		if err != nil {
			return
		}
		if _, err := s.Open(name2, b); err == nil && (name2 != name || !bytes.Equal(b, sealed)) {
			t.Fatal("something else opened")
		}
	})
}

// FuzzPlain covers the front of a record, below its authentication.
func FuzzPlain(f *testing.F) {
	f.Add([]byte{1, 0, 0, 1, 0, 0, 0, 1, 'o', 'b', 0, 0})
	f.Add([]byte{2, 1, 0, 3, 0, 0, 0, 0, 'c', 'u', 't'})
	for _, bad := range faults([]byte{1, 0, 0, 1, 0, 0, 0, 1, 'o', 'b'}, 2, 3, 4, 7) { // kind, and both lengths
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parsePlain(b)
		if err == nil && (len(r.Object) == 0 || len(r.Body) > MaxBody) {
			t.Fatalf("%+v", r)
		}
	})
}
