package record

import (
	"cmp"
	"fmt"
	"slices"
)

// A Base is the whole live set at the moment of one cut. It can be large (10 TiB are 160 k segments), so it is stored
// as a dispersed object and only its changes stand in cuts.
type Base struct {
	Epoch    uint64 // with Number: the cut that it was taken at
	Number   uint64
	Segments []SegmentRef // sorted, each once
}

const (
	baseMagic   = "QSFSBAS1"
	maxBaseRefs = 64 << 20
)

// Encode gives the bytes of the object that holds the base.
func (b *Base) Encode() ([]byte, error) {
	if err := b.validate(); err != nil {
		return nil, err
	}
	var names []string
	for _, s := range b.Segments {
		if len(names) == 0 || names[len(names)-1] != s.Namespace {
			names = append(names, s.Namespace)
		}
	}
	w := &writer{b: make([]byte, 0, 64+40*len(b.Segments))}
	w.bytes([]byte(baseMagic))
	w.u64(b.Epoch)
	w.u64(b.Number)
	w.uvarint(uint64(len(names)))
	for _, n := range names {
		w.str(n)
	}
	w.uvarint(uint64(len(b.Segments)))
	i := 0
	for _, s := range b.Segments {
		for names[i] != s.Namespace {
			i++
		}
		w.u8(uint8(i))
		writeRef(w, s)
	}
	return w.b, nil
}

// DecodeBase parses a base.
func DecodeBase(p []byte) (*Base, error) {
	r := &reader{b: p}
	if string(r.take(len(baseMagic))) != baseMagic {
		r.fail("not a base")
	}
	b := &Base{Epoch: r.u64(), Number: r.u64()}
	var names []string
	for range r.count(maxNamespaces, 1) {
		names = append(names, r.str(maxNamespace))
	}
	n := r.count(maxBaseRefs, smallestChange-1)
	b.Segments = make([]SegmentRef, 0, n)
	for range n {
		i := int(r.u8())
		if i >= len(names) {
			r.fail("namespace %d of %d", i, len(names))
			break
		}
		s := readRef(r, names[i])
		if r.err != nil {
			break
		}
		b.Segments = append(b.Segments, s)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	if err := b.validate(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return b, nil
}

func (b *Base) validate() error {
	names := 0
	for i, s := range b.Segments {
		if len(s.Namespace) == 0 || len(s.Namespace) > maxNamespace || s.DataLen < 0 || s.IndexLen < 0 {
			return fmt.Errorf("base: bad segment %s/%d", s.Namespace, s.Segment)
		}
		if i > 0 && b.Segments[i-1].Compare(s.SegmentKey) >= 0 {
			return fmt.Errorf("base: segments are not in order at %s/%d", s.Namespace, s.Segment)
		}
		if i == 0 || b.Segments[i-1].Namespace != s.Namespace {
			names++
		}
	}
	if names > maxNamespaces || len(b.Segments) > maxBaseRefs {
		return fmt.Errorf("base: %d namespaces, %d segments are too many", names, len(b.Segments))
	}
	return nil
}

// BaseSum identifies a base inside a cut: a MAC over its encoding under the record key in use. The record keys never
// leave the machine, so nobody else can check a guess against it.
func (s *Sealer) BaseSum(keyEpoch uint32, encoded []byte) [32]byte {
	return mac(s.keys[keyEpoch].mac, "base", encoded)
}

// NewBaseRef makes the reference that a cut carries to a base whose object is described by m.
func (s *Sealer) NewBaseRef(b *Base, encoded []byte, m Manifest) BaseRef {
	return BaseRef{Epoch: b.Epoch, Number: b.Number, Count: uint32(len(b.Segments)), Sum: s.BaseSum(s.KeyEpoch(), encoded), Manifest: m}
}

// OpenBase decodes the retrieved bytes of the base of a cut and checks that they are the very ones it means.
func (s *Sealer) OpenBase(ref *BaseRef, encoded []byte) (*Base, error) {
	known := false
	for _, e := range s.epochs {
		known = known || s.BaseSum(e, encoded) == ref.Sum
	}
	if !known {
		return nil, fmt.Errorf("base e%d.%d: %w: not the one that the cut names", ref.Epoch, ref.Number, ErrDamaged)
	}
	b, err := DecodeBase(encoded)
	if err != nil {
		return nil, err
	}
	if b.Epoch != ref.Epoch || b.Number != ref.Number || uint64(len(b.Segments)) != uint64(ref.Count) {
		return nil, fmt.Errorf("base e%d.%d: %w: it says e%d.%d", ref.Epoch, ref.Number, ErrDamaged, b.Epoch, b.Number)
	}
	return b, nil
}

func (b *Base) find(k SegmentKey) (SegmentRef, bool) {
	if b == nil {
		return SegmentRef{}, false
	}
	i, ok := slices.BinarySearchFunc(b.Segments, k, func(s SegmentRef, k SegmentKey) int { return s.Compare(k) })
	if !ok {
		return SegmentRef{}, false
	}
	return b.Segments[i], true
}

func sortChanges(c []Change) {
	slices.SortFunc(c, func(a, b Change) int { return a.Compare(b.SegmentKey) })
}

func sortRefs(s []SegmentRef) {
	slices.SortFunc(s, func(a, b SegmentRef) int { return cmp.Or(a.Compare(b.SegmentKey)) })
}
