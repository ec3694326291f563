package segfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

const (
	// Version is the format version of data segments and of the header and records of index segments.
	Version = 1
	// FooterVersion is that of the footers that are written; those since 1 are read.
	FooterVersion = 2
)

const (
	// HeaderSize is the length of the header of d<N>; the first batch begins there.
	HeaderSize = 256
	// MaxNamespace is the longest namespace name in bytes.
	MaxNamespace = 128

	dataMagic = "QZDBDATA"

	headerNameAt = 96
	headerCRCAt  = HeaderSize - 4
)

// Castagnoli is the polynomial of every CRC in both files.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrFormat says that bytes are not what the format asks for.
var ErrFormat = errors.New("not in the segment format")

// Header opens a data segment.
type Header struct {
	Namespace   string
	ID          ID
	Incarnation Incarnation
	// Session and Epoch are those of the writer that made the file.
	Session uint64
	Epoch   uint16
	Created time.Time
	// NextSeq is the lowest sequence that the first batch may have.
	NextSeq Seq
	// Needs is the needs of the log up to here.
	Needs Seq
	// Prev is the segment before this one (NoID: none) and PrevLength its final
	// length, all of which was durable before this file got its name.
	Prev       ID
	PrevLength int64
	// Initial bytes of this file were durable before it got its name.
	Initial int64
}

// AppendHeader appends the HeaderSize bytes of h to b.
func AppendHeader(b []byte, h Header) []byte {
	start := len(b)
	b = append(b, make([]byte, HeaderSize)...)
	p := b[start:]
	le := binary.LittleEndian
	copy(p, dataMagic)
	le.PutUint16(p[8:], Version)
	le.PutUint16(p[10:], HeaderSize)
	le.PutUint32(p[12:], uint32(h.ID))
	copy(p[16:], h.Incarnation[:])
	le.PutUint64(p[32:], h.Session)
	le.PutUint64(p[40:], uint64(h.Created.UnixNano()))
	le.PutUint64(p[48:], uint64(h.NextSeq))
	le.PutUint64(p[56:], uint64(h.Needs))
	le.PutUint32(p[64:], uint32(h.Prev))
	le.PutUint16(p[68:], h.Epoch)
	p[70] = byte(min(len(h.Namespace), MaxNamespace))
	le.PutUint64(p[72:], uint64(h.PrevLength))
	le.PutUint64(p[80:], uint64(h.Initial))
	copy(p[headerNameAt:headerNameAt+MaxNamespace], h.Namespace)
	le.PutUint32(p[headerCRCAt:], crc32.Checksum(p[:headerCRCAt], Castagnoli))
	return b
}

// ParseHeader reads the header from the first HeaderSize bytes of p.
func ParseHeader(p []byte) (Header, error) {
	var h Header
	if len(p) < HeaderSize {
		return h, fmt.Errorf("%w: header of %d bytes", ErrFormat, len(p))
	}
	p = p[:HeaderSize]
	le := binary.LittleEndian
	if string(p[:8]) != dataMagic {
		return h, fmt.Errorf("%w: no data segment", ErrFormat)
	}
	if v := le.Uint16(p[8:]); v != Version {
		return h, fmt.Errorf("%w: version %d, this program knows %d", ErrFormat, v, Version)
	}
	if le.Uint32(p[headerCRCAt:]) != crc32.Checksum(p[:headerCRCAt], Castagnoli) {
		return h, fmt.Errorf("%w: header checksum", ErrFormat)
	}
	name := int(p[70])
	if le.Uint16(p[10:]) != HeaderSize || name > MaxNamespace {
		return h, fmt.Errorf("%w: header fields", ErrFormat)
	}
	h = Header{
		Namespace:  string(p[headerNameAt : headerNameAt+name]),
		ID:         ID(le.Uint32(p[12:])),
		Session:    le.Uint64(p[32:]),
		Epoch:      le.Uint16(p[68:]),
		Created:    time.Unix(0, int64(le.Uint64(p[40:]))),
		NextSeq:    Seq(le.Uint64(p[48:])),
		Needs:      Seq(le.Uint64(p[56:])),
		Prev:       ID(le.Uint32(p[64:])),
		PrevLength: int64(le.Uint64(p[72:])),
		Initial:    int64(le.Uint64(p[80:])),
	}
	copy(h.Incarnation[:], p[16:32])
	if h.PrevLength < 0 || h.Initial < 0 {
		return Header{}, fmt.Errorf("%w: negative length", ErrFormat)
	}
	return h, nil
}

// ReadHeader reads the header of an open data segment.
func ReadHeader(r io.ReaderAt) (Header, error) {
	p := make([]byte, HeaderSize)
	if _, err := r.ReadAt(p, 0); err != nil {
		return Header{}, fmt.Errorf("read segment header: %w", err)
	}
	return ParseHeader(p)
}
