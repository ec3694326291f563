package record

import (
	"bytes"
	"reflect"
	"testing"
)

// The decoders see only authenticated bytes in life; they are fuzzed below the authentication all the same, for an
// older program's records, or a master in wrong hands, must not crash anything either.

func FuzzManifest(f *testing.F) {
	m := sampleManifest("zdbfs-data/17")
	b, err := m.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:40])
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
	f.Add((&Tombstone{Deleted: Version{1, 2, 3}, Writer: Writer{4, 5}}).Encode())
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

func FuzzCut(f *testing.F) {
	s := newSealer(f, 1)
	for _, c := range []*Cut{sampleCut(f), {Epoch: 1}} {
		b, err := s.EncodeCut(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-cutMACSize])
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
	b := &Base{Epoch: 1, Number: 2, Segments: []SegmentRef{{SegmentKey: SegmentKey{"a", 1}}, {SegmentKey: SegmentKey{"b", 1}, DataLen: 5}}}
	enc, err := b.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(enc)
	f.Add([]byte(baseMagic))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := DecodeBase(p)
		if err != nil {
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
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOwner(b)
		if err == nil && len(o.Host) > maxHost {
			t.Fatalf("host of %d bytes", len(o.Host))
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
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parsePlain(b)
		if err == nil && (len(r.Object) == 0 || len(r.Body) > MaxBody) {
			t.Fatalf("%+v", r)
		}
	})
}
