package record

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

type testKeys map[uint32][32]byte

func (k testKeys) KeyEpochs() []uint32 {
	var out []uint32
	for e := range k {
		out = append(out, e)
	}
	return out
}

func (k testKeys) RecordKey(e uint32) ([32]byte, bool) { v, ok := k[e]; return v, ok }

func newSealer(t testing.TB, epochs ...uint32) *Sealer {
	t.Helper()
	k := testKeys{}
	for _, e := range epochs {
		k[e] = [32]byte{0: byte(e), 31: 42}
	}
	s, err := NewSealer(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sample() Record {
	return Record{Kind: KindManifest, Object: "zdbfs-data/17@00", Version: Version{3, 9, 77}, Body: []byte("body")}
}

func TestSealOpen(t *testing.T) {
	s := newSealer(t, 1)
	for _, r := range []Record{
		sample(),
		{Kind: KindCut, Object: CutObject, Version: Version{1, 2, 3}, Body: bytes.Repeat([]byte("x"), MaxBody)},
		{Kind: KindIntent, Object: "r", Tombstone: true, Version: Version{1<<64 - 1, 1<<64 - 1, 1<<64 - 1}},
		{Kind: KindBase, Object: strings.Repeat("o", MaxObject), Body: []byte{0}},
	} {
		name, sealed, err := s.Seal(r)
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) > MaxSealed {
			t.Errorf("sealed to %d bytes, more than MaxSealed %d", len(sealed), MaxSealed)
		}
		again, same, err := s.Seal(r)
		if err != nil || again != name || !bytes.Equal(same, sealed) {
			t.Errorf("sealing %v again gave other bytes (err %v)", r.Kind, err)
		}
		got, err := s.Open(name, sealed)
		if err != nil {
			t.Fatal(err)
		}
		if got.Kind != r.Kind || got.Object != r.Object || got.Version != r.Version || got.Tombstone != r.Tombstone || !bytes.Equal(got.Body, r.Body) || got.KeyEpoch != 1 {
			t.Errorf("got %+v, want %+v", got, r)
		}
		if !bytes.HasPrefix(name[:], AllPrefix()) || !bytes.HasPrefix(name[:], s.KindPrefix(1, r.Kind)) || name.Family() != s.Family(1, r.Kind, r.Object) {
			t.Errorf("name %v does not start as it should", name)
		}
		if parsed, err := ParseName(name[:]); err != nil || parsed != name || parsed.Version() != r.Version {
			t.Errorf("parsed name %v (err %v), want %v", parsed, err, name)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	s := newSealer(t, 1)
	for what, r := range map[string]Record{
		"unknown kind":    {Kind: 9, Object: "o"},
		"no object":       {Kind: KindCut},
		"long object":     {Kind: KindCut, Object: strings.Repeat("o", MaxObject+1)},
		"body over limit": {Kind: KindCut, Object: "o", Body: make([]byte, MaxBody+1)},
	} {
		if _, _, err := s.Seal(r); err == nil {
			t.Errorf("%s: sealed", what)
		}
	}
	if _, err := NewSealer(testKeys{}); err == nil {
		t.Error("a sealer without keys was made")
	}
}

// A record that was flipped, cut, swapped or renamed in any way does not open.
func TestEveryChangeIsKnown(t *testing.T) {
	s := newSealer(t, 1)
	name, sealed, err := s.Seal(sample())
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(sealed) * 8 {
		b := bytes.Clone(sealed)
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := s.Open(name, b); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrKeyEpoch) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
	for n := range len(sealed) {
		if _, err := s.Open(name, sealed[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := s.Open(name, append(bytes.Clone(sealed), 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte more: %v", err)
	}
	for bit := range len(name) * 8 {
		n := name
		n[bit/8] ^= 1 << (bit % 8)
		if _, err := s.Open(n, sealed); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d of the name flipped: %v", bit, err)
		}
	}
	// Of the same family, another version: swapped.
	r := sample()
	r.Version.Counter++
	other, swapped, err := s.Seal(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(name, swapped); !errors.Is(err, ErrDamaged) {
		t.Errorf("swapped: %v", err)
	}
	if _, err := s.Open(other, sealed); !errors.Is(err, ErrDamaged) {
		t.Errorf("swapped: %v", err)
	}
}

func TestKeyEpochs(t *testing.T) {
	old, both := newSealer(t, 1), newSealer(t, 1, 2)
	name, sealed, err := old.Seal(sample())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := both.Open(name, sealed); err != nil || r.KeyEpoch != 1 {
		t.Errorf("old record under both keys: %+v, %v", r, err)
	}
	name2, sealed2, err := both.Seal(sample())
	if err != nil {
		t.Fatal(err)
	}
	if name2.Family() == name.Family() {
		t.Error("two key epochs share a name")
	}
	if _, err := old.Open(name2, sealed2); !errors.Is(err, ErrKeyEpoch) {
		t.Errorf("new record under the old key: %v", err)
	}
	if both.KeyEpoch() != 2 || len(both.KeyEpochs()) != 2 || both.KeyEpochs()[0] != 2 {
		t.Errorf("key epochs %v, in use %d", both.KeyEpochs(), both.KeyEpoch())
	}
	if !Newer(2, Version{1, 1, 1}, 1, Version{9, 9, 9}) || Newer(1, Version{9, 9, 9}, 2, Version{}) {
		t.Error("an old master forges a newer version")
	}
}

func TestPaddingHidesLengths(t *testing.T) {
	s := newSealer(t, 1)
	sizes := map[int]bool{}
	for n := range 4096 {
		r := sample()
		r.Body = make([]byte, n)
		_, sealed, err := s.Seal(r)
		if err != nil {
			t.Fatal(err)
		}
		sizes[len(sealed)] = true
	}
	if len(sizes) > 18 {
		t.Errorf("%d sealed sizes for bodies of 0 to 4095 bytes", len(sizes))
	}
	for _, n := range []int{1 << 12, 1 << 16, MaxBody} {
		if p := padded(n); p < n || p > n+n/8+256 {
			t.Errorf("padded(%d) = %d", n, p)
		}
	}
}

func TestVersionsCompareAsAWhole(t *testing.T) {
	order := []Version{{}, {0, 0, 1}, {0, 1, 0}, {1, 0, 0}, {1, 0, 5}, {1, 2, 0}, {2, 0, 0}}
	for i, a := range order {
		for j, b := range order {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%v.Compare(%v) = %d, want %d", a, b, got, want)
			}
			na, nb := Family{'r'}.With(a), Family{'r'}.With(b)
			if got := bytes.Compare(na[:], nb[:]); got != want {
				t.Errorf("names of %v and %v sort as %d, want %d", a, b, got, want)
			}
		}
		if p, err := ParseVersion(a.String()); err != nil || p != a {
			t.Errorf("ParseVersion(%v) = %v, %v", a, p, err)
		}
	}
	for _, s := range []string{"", "e1", "e1.2", "e1.2-zz", "e1.2-0000000000000001x", "1.2-0000000000000001"} {
		if _, err := ParseVersion(s); err == nil {
			t.Errorf("ParseVersion(%q) took it", s)
		}
	}
}

func TestOwnerMarkHead(t *testing.T) {
	s := newSealer(t, 1)
	o := Owner{Epoch: 7, ID: OwnerID{1, 2}, Time: time.Unix(5, 6).UTC(), Host: strings.Repeat("h", 80)}
	b, err := s.SealOwner(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Host = o.Host[:64]
	if got, err := s.OpenOwner(b); err != nil || got != o {
		t.Errorf("got %+v, %v, want %+v", got, err, o)
	}
	m, err := s.SealMark(Incarnation{9})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.OpenMark(m); err != nil || got != (Incarnation{9}) {
		t.Errorf("got %x, %v", got, err)
	}
	head := CutHead{ID: CutID{3, 4, [32]byte{5}}, Time: time.Unix(9, 0).UTC()}
	hb, err := s.SealHead(head)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.OpenHead(hb); err != nil || got != head {
		t.Errorf("got %+v, %v, want %+v", got, err, head)
	}
	if len(s.HeadName(1)) != HeadNameSize {
		t.Errorf("head name of %d bytes", len(s.HeadName(1)))
	}
	// One is never taken for another, and none survives a flip.
	for what, open := range map[string]func([]byte) error{
		"owner": func(b []byte) error { _, err := s.OpenOwner(b); return err },
		"mark":  func(b []byte) error { _, err := s.OpenMark(b); return err },
		"head":  func(b []byte) error { _, err := s.OpenHead(b); return err },
	} {
		for is, value := range map[string][]byte{"owner": b, "mark": m, "head": hb} {
			if err := open(value); (err == nil) != (is == what) {
				t.Errorf("%s opened as %s: %v", is, what, err)
			}
			if is != what {
				continue
			}
			for bit := range len(value) * 8 {
				v := bytes.Clone(value)
				v[bit/8] ^= 1 << (bit % 8)
				if open(v) == nil {
					t.Fatalf("%s with bit %d flipped opened", what, bit)
				}
			}
		}
	}
}

func TestCheckHeads(t *testing.T) {
	newest := CutID{2, 5, [32]byte{1}}
	for _, c := range []struct {
		head CutID
		ok   bool
	}{
		{CutID{2, 5, [32]byte{1}}, true},
		{CutID{2, 4, [32]byte{9}}, true},
		{CutID{1, 99, [32]byte{9}}, true},
		{CutID{2, 5, [32]byte{2}}, false},
		{CutID{2, 6, [32]byte{1}}, false},
		{CutID{3, 0, [32]byte{1}}, false},
	} {
		if err := CheckHeads(newest, []CutHead{{ID: newest}, {ID: c.head}}); (err == nil) != c.ok {
			t.Errorf("head %v against %v: %v", c.head, newest, err)
		}
	}
}
