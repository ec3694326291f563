package record

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	cutFormat      = 1
	maxNamespaces  = 16
	maxNamespace   = 255
	maxChanges     = 16384
	maxPieces      = 4096
	maxTails       = 64
	smallestChange = 21
	cutMACSize     = 32
)

// A Head is a position in a namespace's log that is durable and at a batch boundary.
type Head struct {
	Seq         uint64 // epoch ‖ counter of the last batch
	Needs       uint64 // the zdbfs-data seq that zdbfs-meta refers to up to here
	Segment     uint32
	Offset      int64
	Incarnation [16]byte // of the segment's file
	Session     uint64   // of the open that wrote the batch
}

// A SegmentKey names a segment.
type SegmentKey struct {
	Namespace string
	Segment   uint32
}

// Compare orders by namespace, then number.
func (k SegmentKey) Compare(o SegmentKey) int {
	if c := cmp.Compare(k.Namespace, o.Namespace); c != 0 {
		return c
	}
	return cmp.Compare(k.Segment, o.Segment)
}

// A SegmentRef is a live sealed segment: which generation of it counts, and the lengths of d<N> and i<N>.
type SegmentRef struct {
	SegmentKey
	Generation Generation
	DataLen    int64
	IndexLen   int64
}

// A Change adds a segment to the live set (or moves it to another generation), or removes it.
type Change struct {
	Remove bool
	SegmentRef
}

// A BaseRef points at the dispersed base that a cut's changes are relative to. Its manifest is in the cut, so that a
// reader of the cut needs no further record.
type BaseRef struct {
	Epoch    uint64 // with Number: the cut that the base was taken at
	Number   uint64
	Count    uint32   // segments in it
	Sum      [32]byte // MAC over its encoding, under the record key of the cut
	Manifest Manifest
}

// NamespaceInfo is what a cut says about a whole namespace.
type NamespaceInfo struct {
	Name string
	High uint32 // highest segment number ever used; a takeover continues above it
}

// A CutID identifies a cut: MAC covers all of its content.
type CutID struct {
	Epoch  uint64
	Number uint64
	MAC    [32]byte
}

// IsZero reports whether id names no cut.
func (id CutID) IsZero() bool { return id == CutID{} }

// Compare orders cuts by epoch and number.
func (id CutID) Compare(o CutID) int {
	if c := cmp.Compare(id.Epoch, o.Epoch); c != 0 {
		return c
	}
	return cmp.Compare(id.Number, o.Number)
}

func (id CutID) String() string { return fmt.Sprintf("e%d.%d", id.Epoch, id.Number) }

// A Cut names exactly what the filesystem consists of at one moment. Whether an object may stand in it was judged
// once, by the writer, when it first entered; a reader never judges that again.
type Cut struct {
	Epoch      uint64
	Number     uint64 // counts up in an epoch; 0 is a takeover's repetition of the cut it found
	Origin     CutID  // for Number 0: the cut that it repeats
	Time       time.Time
	Session    uint64
	Meta       Head
	Data       Head
	Namespaces []NamespaceInfo
	Base       *BaseRef // nil: all live segments stand in Changes
	Changes    []Change // sorted by segment, each at most once
	Tails      []Tail
	MAC        [32]byte // filled by Sealer.EncodeCut, checked by Sealer.DecodeCut
}

// ID identifies the cut; its MAC is set once the cut was encoded or decoded.
func (c *Cut) ID() CutID { return CutID{c.Epoch, c.Number, c.MAC} }

// Validate checks what a cut says against itself.
func (c *Cut) Validate() error {
	if len(c.Namespaces) > maxNamespaces || len(c.Changes) > maxChanges || len(c.Tails) > maxTails {
		return fmt.Errorf("cut %v: %d namespaces, %d changes, %d tails are too many", c.ID(), len(c.Namespaces), len(c.Changes), len(c.Tails))
	}
	for _, h := range []Head{c.Meta, c.Data} {
		if h.Offset < 0 {
			return fmt.Errorf("cut %v: negative offset", c.ID())
		}
	}
	for i, ns := range c.Namespaces {
		if len(ns.Name) == 0 || len(ns.Name) > maxNamespace {
			return fmt.Errorf("cut %v: namespace name of %d bytes", c.ID(), len(ns.Name))
		}
		if i > 0 && c.Namespaces[i-1].Name >= ns.Name {
			return fmt.Errorf("cut %v: namespaces are not in order", c.ID())
		}
	}
	for i, ch := range c.Changes {
		if c.namespace(ch.Namespace) < 0 || ch.DataLen < 0 || ch.IndexLen < 0 {
			return fmt.Errorf("cut %v: bad change of %s/%d", c.ID(), ch.Namespace, ch.Segment)
		}
		if i > 0 && c.Changes[i-1].Compare(ch.SegmentKey) >= 0 {
			return fmt.Errorf("cut %v: changes are not in order", c.ID())
		}
		if ch.Remove && c.Base == nil {
			return fmt.Errorf("cut %v: %s/%d is removed from no base", c.ID(), ch.Namespace, ch.Segment)
		}
	}
	if c.Base != nil {
		if err := c.Base.Manifest.Validate(); err != nil {
			return fmt.Errorf("cut %v: base: %w", c.ID(), err)
		}
	}
	for i := range c.Tails {
		t := &c.Tails[i]
		if c.namespace(t.Namespace) < 0 {
			return fmt.Errorf("cut %v: tail of unknown namespace %q", c.ID(), t.Namespace)
		}
		if err := t.Validate(); err != nil {
			return fmt.Errorf("cut %v: %w", c.ID(), err)
		}
		if i == 0 {
			continue
		}
		prev := &c.Tails[i-1]
		if prev.SegmentKey.Compare(t.SegmentKey) >= 0 {
			return fmt.Errorf("cut %v: tails are not in order", c.ID())
		}
		if prev.Namespace == t.Namespace && !prev.Sealed {
			return fmt.Errorf("cut %v: tail %s/%d is not the last of its namespace, and not sealed", c.ID(), prev.Namespace, prev.Segment)
		}
	}
	return nil
}

func (c *Cut) namespace(name string) int {
	i, ok := slices.BinarySearchFunc(c.Namespaces, name, func(n NamespaceInfo, s string) int { return cmp.Compare(n.Name, s) })
	if !ok {
		return -1
	}
	return i
}

// EncodeCut gives the payload of a cut record and fills c.MAC.
func (s *Sealer) EncodeCut(c *Cut) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	w := &writer{}
	c.write(w)
	c.MAC = mac(s.keys[s.KeyEpoch()].mac, "cut", w.b)
	w.bytes(c.MAC[:])
	if len(w.b) > MaxBody {
		return nil, fmt.Errorf("cut %v: %d bytes (at most %d): a new base is due", c.ID(), len(w.b), MaxBody)
	}
	return w.b, nil
}

// DecodeCut parses the payload of a cut record of the given key epoch and checks its MAC.
func (s *Sealer) DecodeCut(keyEpoch uint32, b []byte) (*Cut, error) {
	d, ok := s.keys[keyEpoch]
	if !ok {
		return nil, fmt.Errorf("cut: %w %d", ErrKeyEpoch, keyEpoch)
	}
	if len(b) < cutMACSize {
		return nil, fmt.Errorf("cut: %w: cut short", ErrDamaged)
	}
	front := b[:len(b)-cutMACSize]
	c, err := parseCut(front)
	if err != nil {
		return nil, err
	}
	c.MAC = mac(d.mac, "cut", front)
	if !bytes.Equal(c.MAC[:], b[len(front):]) {
		return nil, fmt.Errorf("cut: %w: wrong MAC", ErrDamaged)
	}
	return c, nil
}

func parseCut(b []byte) (*Cut, error) {
	r := &reader{b: b}
	c := readCut(r)
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("cut: %w", err)
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return c, nil
}

func (c *Cut) write(w *writer) {
	w.u8(cutFormat)
	w.u64(c.Epoch)
	w.u64(c.Number)
	w.u64(c.Origin.Epoch)
	w.u64(c.Origin.Number)
	w.bytes(c.Origin.MAC[:])
	writeTime(w, c.Time)
	w.u64(c.Session)
	c.Meta.write(w)
	c.Data.write(w)
	w.uvarint(uint64(len(c.Namespaces)))
	for _, ns := range c.Namespaces {
		w.str(ns.Name)
		w.uvarint(uint64(ns.High))
	}
	w.bool(c.Base != nil)
	if c.Base != nil {
		w.u64(c.Base.Epoch)
		w.u64(c.Base.Number)
		w.u32(c.Base.Count)
		w.bytes(c.Base.Sum[:])
		c.Base.Manifest.write(w)
	}
	w.uvarint(uint64(len(c.Changes)))
	for _, ch := range c.Changes {
		w.bool(ch.Remove)
		w.u8(uint8(c.namespace(ch.Namespace)))
		writeRef(w, ch.SegmentRef)
	}
	w.uvarint(uint64(len(c.Tails)))
	for i := range c.Tails {
		w.u8(uint8(c.namespace(c.Tails[i].Namespace)))
		c.Tails[i].write(w)
	}
}

func readCut(r *reader) *Cut {
	r.format("cut", cutFormat)
	c := &Cut{Epoch: r.u64(), Number: r.u64(), Origin: CutID{r.u64(), r.u64(), r.id32()}, Time: readTime(r), Session: r.u64()}
	c.Meta, c.Data = readHead(r), readHead(r)
	for range r.count(maxNamespaces, 2) {
		c.Namespaces = append(c.Namespaces, NamespaceInfo{Name: r.str(maxNamespace), High: r.small()})
	}
	if r.bool() {
		c.Base = &BaseRef{Epoch: r.u64(), Number: r.u64(), Count: r.u32(), Sum: r.id32(), Manifest: readManifest(r)}
	}
	names := func() string {
		i := int(r.u8())
		if i >= len(c.Namespaces) {
			r.fail("namespace %d of %d", i, len(c.Namespaces))
			return ""
		}
		return c.Namespaces[i].Name
	}
	n := r.count(maxChanges, smallestChange)
	for range n {
		ch := Change{Remove: r.bool()}
		ns := names()
		ch.SegmentRef = readRef(r, ns)
		if r.err != nil {
			return c
		}
		c.Changes = append(c.Changes, ch)
	}
	for range r.count(maxTails, 64) {
		ns := names()
		t := readTail(r, ns)
		if r.err != nil {
			return c
		}
		c.Tails = append(c.Tails, t)
	}
	return c
}

func (h Head) write(w *writer) {
	w.u64(h.Seq)
	w.u64(h.Needs)
	w.u32(h.Segment)
	w.uvarint(uint64(h.Offset))
	w.bytes(h.Incarnation[:])
	w.u64(h.Session)
}

func readHead(r *reader) Head {
	return Head{Seq: r.u64(), Needs: r.u64(), Segment: r.u32(), Offset: r.size(), Incarnation: r.id16(), Session: r.u64()}
}

// writeRef leaves out the namespace, which its callers write as a small number.
func writeRef(w *writer, s SegmentRef) {
	w.uvarint(uint64(s.Segment))
	w.bytes(s.Generation[:])
	w.uvarint(uint64(s.DataLen))
	w.uvarint(uint64(s.IndexLen))
}

func readRef(r *reader, namespace string) SegmentRef {
	return SegmentRef{
		SegmentKey: SegmentKey{Namespace: namespace, Segment: r.small()},
		Generation: r.id16(),
		DataLen:    r.size(),
		IndexLen:   r.size(),
	}
}
