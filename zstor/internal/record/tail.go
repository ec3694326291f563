package record

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/blake3"
)

// A Tail is what has been shipped of a segment that still grows, or that is sealed but whose object is not at the
// floor yet: whole stripes of its generation, then delta pieces that continue one another.
type Tail struct {
	SegmentKey
	Incarnation [16]byte // of the segment's file
	Session     uint64
	Sealed      bool      // d<N> is complete at the end of the last piece
	Whole       *Manifest // the growing generation; nil before the first whole stripe
	Pieces      []Piece   // in order
}

// A Piece is a delta of a tail: an object of its own, with its manifest inside the cut.
type Piece struct {
	From, To    int64 // bytes of d<N>
	Session     uint64
	Incarnation [16]byte
	Prev        [32]byte // chain value before this piece
	Chain       [32]byte // chain value with it: see ChainPiece
	Manifest    Manifest
}

// WholeEnd is the end of what the whole stripes cover.
func (t *Tail) WholeEnd() int64 {
	if t.Whole == nil {
		return 0
	}
	return t.Whole.DataLen
}

// End is the end of what the tail covers.
func (t *Tail) End() int64 {
	if n := len(t.Pieces); n > 0 {
		return max(t.Pieces[n-1].To, t.WholeEnd())
	}
	return t.WholeEnd()
}

// Generations gives every generation that the tail stands on.
func (t *Tail) Generations(f func(Generation)) {
	if t.Whole != nil {
		f(t.Whole.Generation)
	}
	for i := range t.Pieces {
		f(t.Pieces[i].Manifest.Generation)
	}
}

// ChainStart is the chain value before the first piece of a tail.
func ChainStart(k SegmentKey, incarnation [16]byte, session uint64) [32]byte {
	h := blake3.NewDeriveKey("qsfs tail chain 1")
	var b []byte
	b = binary.BigEndian.AppendUint32(b, uint32(len(k.Namespace)))
	b = append(b, k.Namespace...)
	b = binary.BigEndian.AppendUint32(b, k.Segment)
	b = append(b, incarnation[:]...)
	b = binary.BigEndian.AppendUint64(b, session)
	h.Write(b)
	return [32]byte(h.Sum(nil))
}

// ChainPiece computes the chain value that includes p. It runs over the checksum of the piece's shard MACs, never
// over plaintext or payloads.
func ChainPiece(prev [32]byte, p *Piece) [32]byte {
	h := blake3.NewDeriveKey("qsfs tail piece 1")
	var b []byte
	b = append(b, prev[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.From))
	b = binary.BigEndian.AppendUint64(b, uint64(p.To))
	b = binary.BigEndian.AppendUint64(b, p.Session)
	b = append(b, p.Incarnation[:]...)
	b = append(b, p.Manifest.Generation[:]...)
	b = append(b, p.Manifest.Checksum[:]...)
	h.Write(b)
	return [32]byte(h.Sum(nil))
}

// Append adds a piece that covers [from, to) and fills in its chain. It refuses what does not continue the tail:
// such a tail starts again in a new generation.
func (t *Tail) Append(from, to int64, m Manifest) error {
	if from != t.End() || to <= from {
		return fmt.Errorf("piece [%d, %d) does not continue tail %s/%d, which ends at %d", from, to, t.Namespace, t.Segment, t.End())
	}
	p := Piece{From: from, To: to, Session: t.Session, Incarnation: t.Incarnation, Manifest: m}
	p.Prev = ChainStart(t.SegmentKey, t.Incarnation, t.Session)
	if n := len(t.Pieces); n > 0 {
		p.Prev = t.Pieces[n-1].Chain
	}
	p.Chain = ChainPiece(p.Prev, &p)
	t.Pieces = append(t.Pieces, p)
	return t.Validate()
}

// Superseded moves the pieces that the whole stripes now cover out of the tail and returns them: their shards may be
// deleted once a cut without them is acknowledged. A piece that straddles the end stays.
func (t *Tail) Superseded() []Piece {
	n := 0
	for n < len(t.Pieces) && t.Pieces[n].To <= t.WholeEnd() {
		n++
	}
	out := t.Pieces[:n:n]
	t.Pieces = t.Pieces[n:]
	return out
}

// Validate checks that the pieces continue one another and the whole stripes, without a gap.
func (t *Tail) Validate() error {
	if len(t.Pieces) > maxPieces {
		return fmt.Errorf("tail %s/%d: %d pieces (at most %d)", t.Namespace, t.Segment, len(t.Pieces), maxPieces)
	}
	if t.Whole != nil {
		if err := t.Whole.Validate(); err != nil {
			return fmt.Errorf("tail %s/%d: %w", t.Namespace, t.Segment, err)
		}
	}
	for i := range t.Pieces {
		p := &t.Pieces[i]
		if err := p.Manifest.Validate(); err != nil {
			return fmt.Errorf("tail %s/%d, piece %d: %w", t.Namespace, t.Segment, i, err)
		}
		switch {
		case p.From < 0 || p.To <= p.From:
			return fmt.Errorf("tail %s/%d, piece %d: range [%d, %d)", t.Namespace, t.Segment, i, p.From, p.To)
		case p.Session != t.Session || p.Incarnation != t.Incarnation:
			return fmt.Errorf("tail %s/%d, piece %d: another session or incarnation", t.Namespace, t.Segment, i)
		case i == 0 && p.From > t.WholeEnd():
			return fmt.Errorf("tail %s/%d: gap between %d and %d", t.Namespace, t.Segment, t.WholeEnd(), p.From)
		case i > 0 && p.From != t.Pieces[i-1].To:
			return fmt.Errorf("tail %s/%d: gap before piece %d", t.Namespace, t.Segment, i)
		case i > 0 && p.Prev != t.Pieces[i-1].Chain:
			return fmt.Errorf("tail %s/%d: piece %d does not continue the chain", t.Namespace, t.Segment, i)
		case p.Chain != ChainPiece(p.Prev, p):
			return fmt.Errorf("tail %s/%d: piece %d is not what was chained", t.Namespace, t.Segment, i)
		}
	}
	return nil
}

func (t *Tail) write(w *writer) {
	w.u32(t.Segment)
	w.bytes(t.Incarnation[:])
	w.u64(t.Session)
	w.bool(t.Sealed)
	w.bool(t.Whole != nil)
	if t.Whole != nil {
		t.Whole.write(w)
	}
	w.uvarint(uint64(len(t.Pieces)))
	for i := range t.Pieces {
		p := &t.Pieces[i]
		w.uvarint(uint64(p.From))
		w.uvarint(uint64(p.To))
		w.u64(p.Session)
		w.bytes(p.Incarnation[:])
		w.bytes(p.Prev[:])
		w.bytes(p.Chain[:])
		p.Manifest.write(w)
	}
}

func readTail(r *reader, namespace string) Tail {
	t := Tail{
		SegmentKey:  SegmentKey{Namespace: namespace, Segment: r.u32()},
		Incarnation: r.id16(),
		Session:     r.u64(),
		Sealed:      r.bool(),
	}
	if r.bool() {
		m := readManifest(r)
		t.Whole = &m
	}
	for range r.count(maxPieces, 150) {
		p := Piece{From: r.size(), To: r.size(), Session: r.u64(), Incarnation: r.id16(), Prev: r.id32(), Chain: r.id32(), Manifest: readManifest(r)}
		if r.err != nil {
			break
		}
		t.Pieces = append(t.Pieces, p)
	}
	return t
}
