// Package batch is the codec of the batches that a data segment is made of.
//
// A batch is a header with a checksum of its own, entries, and a checksum over
// all of it: after a crash it is there as a whole or not at all. FORMAT.md of the engine
// has the bytes.
package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"qsfs/zdb/segfile"
)

const (
	// HeaderSize and TrailerSize frame the entries.
	HeaderSize  = 96
	TrailerSize = 4
	// MaxBytes is the longest batch: 8 MiB of value, and room for keys, sums and framing.
	MaxBytes = 8<<20 + 64<<10
	// MaxEntries of a batch.
	MaxEntries = 8192
	// MaxValue is the longest value.
	MaxValue = 8 << 20
	// BlockSize is what one checksum of a value covers.
	BlockSize = 16 << 10

	magic = "QzBt"
)

// Flags of a batch.
const (
	// Marker: no entries; a witness for what had been synced before.
	Marker = 1 << iota
	// CleanStop: the writer ended here in order; all before this batch is durable.
	CleanStop
	// Rewritten: found unconfirmed behind the end of the segment before, and written again.
	Rewritten
	// Given: Time was given by the writer's user and need not be when it was written.
	Given

	knownFlags = Marker | CleanStop | Rewritten | Given
)

// ErrBad says that bytes are no batch of this segment at this place.
var ErrBad = errors.New("no valid batch")

// Header of a batch.
type Header struct {
	Flags uint16
	Count uint32
	// Body is the length of the entries.
	Body uint32
	// Seq of the first entry. Of a batch without entries: what the next one will get.
	Seq     segfile.Seq
	Session uint64
	Needs   segfile.Seq
	Segment segfile.ID
	// DurableSegment and DurableOffset: all of the log before this place was durable when the batch was written.
	DurableSegment segfile.ID
	DurableOffset  int64
	Incarnation    segfile.Incarnation
	Time           int64 // ns since 1970
	// Offset of the batch in its file.
	Offset int64
}

// Size of the whole batch.
func (h Header) Size() int64 { return HeaderSize + int64(h.Body) + TrailerSize }

// End is the offset behind the batch.
func (h Header) End() int64 { return h.Offset + h.Size() }

func (h Header) put(p []byte) {
	le := binary.LittleEndian
	copy(p, magic)
	le.PutUint16(p[4:], segfile.Version)
	le.PutUint16(p[6:], h.Flags)
	le.PutUint32(p[8:], h.Count)
	le.PutUint32(p[12:], h.Body)
	le.PutUint64(p[16:], uint64(h.Seq))
	le.PutUint64(p[24:], h.Session)
	le.PutUint64(p[32:], uint64(h.Needs))
	le.PutUint32(p[40:], uint32(h.Segment))
	le.PutUint32(p[44:], uint32(h.DurableSegment))
	le.PutUint64(p[48:], uint64(h.DurableOffset))
	copy(p[56:72], h.Incarnation[:])
	le.PutUint64(p[72:], uint64(h.Time))
	le.PutUint64(p[80:], uint64(h.Offset))
	le.PutUint32(p[88:], 0)
	le.PutUint32(p[92:], crc32.Checksum(p[:92], segfile.Castagnoli))
}

// ParseHeader reads the header of the batch at offset off of the segment.
func ParseHeader(p []byte, id segfile.ID, inc segfile.Incarnation, off int64) (Header, error) {
	if len(p) < HeaderSize {
		return Header{}, fmt.Errorf("%w: cut header", ErrBad)
	}
	p = p[:HeaderSize]
	le := binary.LittleEndian
	if string(p[:4]) != magic || le.Uint32(p[92:]) != crc32.Checksum(p[:92], segfile.Castagnoli) {
		return Header{}, fmt.Errorf("%w: header magic or checksum", ErrBad)
	}
	h := Header{
		Flags:          le.Uint16(p[6:]),
		Count:          le.Uint32(p[8:]),
		Body:           le.Uint32(p[12:]),
		Seq:            segfile.Seq(le.Uint64(p[16:])),
		Session:        le.Uint64(p[24:]),
		Needs:          segfile.Seq(le.Uint64(p[32:])),
		Segment:        segfile.ID(le.Uint32(p[40:])),
		DurableSegment: segfile.ID(le.Uint32(p[44:])),
		DurableOffset:  int64(le.Uint64(p[48:])),
		Incarnation:    segfile.Incarnation(p[56:72]),
		Time:           int64(le.Uint64(p[72:])),
		Offset:         int64(le.Uint64(p[80:])),
	}
	switch {
	case le.Uint16(p[4:]) != segfile.Version:
		return Header{}, fmt.Errorf("%w: version %d", ErrBad, le.Uint16(p[4:]))
	case h.Segment != id || h.Incarnation != inc || h.Offset != off:
		return Header{}, fmt.Errorf("%w: batch of another file or place", ErrBad)
	case h.Flags&^knownFlags != 0 || h.Count > MaxEntries || h.Size() > MaxBytes || h.DurableOffset < 0:
		return Header{}, fmt.Errorf("%w: header fields", ErrBad)
	case (h.Flags&Marker != 0) != (h.Count == 0) || (h.Count == 0) != (h.Body == 0):
		return Header{}, fmt.Errorf("%w: entries of a marker", ErrBad)
	}
	return h, nil
}

// checksum over entries and then header, so that the longer part is summed
// before the commit lock is taken.
func checksum(entries uint32, header []byte) uint32 {
	return crc32.Update(entries, segfile.Castagnoli, header)
}
