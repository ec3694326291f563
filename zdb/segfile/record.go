package segfile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	// IndexHeaderSize is the length of the header of i<N>.
	IndexHeaderSize = 64
	// MaxKey is the longest key in bytes.
	MaxKey = 4096

	indexMagic  = "QZDBINDX"
	recordFixed = 40
)

// Record tells of one entry of d<N>.
type Record struct {
	Key    []byte
	Seq    Seq
	Time   int64 // ns since 1970
	Delete bool
	// Moved: compaction brought the entry here; it kept its sequence.
	Moved bool
	// Given: Time was given by a user and need not be when the entry was written.
	Given bool
	// Offset and Length are those of the value in d<N>.
	Offset int64
	Length uint32
	// Sum is the CRC32C of the value's block sums.
	Sum uint32
}

// AppendIndexHeader appends the header of i<N>.
func AppendIndexHeader(b []byte, id ID, inc Incarnation) []byte {
	start := len(b)
	b = append(b, make([]byte, IndexHeaderSize)...)
	p := b[start:]
	le := binary.LittleEndian
	copy(p, indexMagic)
	le.PutUint16(p[8:], Version)
	le.PutUint16(p[10:], IndexHeaderSize)
	le.PutUint32(p[12:], uint32(id))
	copy(p[16:], inc[:])
	le.PutUint32(p[60:], crc32.Checksum(p[:60], Castagnoli))
	return b
}

// ParseIndexHeader checks the header of i<N>.
func ParseIndexHeader(p []byte) (ID, Incarnation, error) {
	le := binary.LittleEndian
	if len(p) < IndexHeaderSize || string(p[:8]) != indexMagic || le.Uint16(p[8:]) != Version ||
		le.Uint16(p[10:]) != IndexHeaderSize || le.Uint32(p[60:]) != crc32.Checksum(p[:60], Castagnoli) {
		return 0, Incarnation{}, fmt.Errorf("%w: index segment header", ErrFormat)
	}
	return ID(le.Uint32(p[12:])), Incarnation(p[16:32]), nil
}

const (
	recordDelete = 1 << iota
	recordMoved
	recordGiven
	recordKnown = recordDelete | recordMoved | recordGiven
)

// AppendRecord appends r.
func AppendRecord(b []byte, r Record) []byte {
	start := len(b)
	b = append(b, make([]byte, recordFixed)...)
	p := b[start:]
	le := binary.LittleEndian
	if r.Delete {
		p[0] |= recordDelete
	}
	if r.Moved {
		p[0] |= recordMoved
	}
	if r.Given {
		p[0] |= recordGiven
	}
	le.PutUint16(p[2:], uint16(len(r.Key)))
	le.PutUint32(p[4:], r.Length)
	le.PutUint64(p[8:], uint64(r.Offset))
	le.PutUint64(p[16:], uint64(r.Seq))
	le.PutUint64(p[24:], uint64(r.Time))
	le.PutUint32(p[32:], r.Sum)
	sum := crc32.Update(crc32.Checksum(p[:36], Castagnoli), Castagnoli, r.Key)
	le.PutUint32(p[36:], sum)
	return append(b, r.Key...)
}

// parseRecord reads the record at the start of p and says how long it is.
// need > len(p) asks for more bytes.
func parseRecord(p []byte) (r Record, need int, err error) {
	if len(p) < recordFixed {
		return r, recordFixed, nil
	}
	le := binary.LittleEndian
	key := int(le.Uint16(p[2:]))
	if p[0]&^recordKnown != 0 || p[1] != 0 || key == 0 || key > MaxKey {
		return r, 0, fmt.Errorf("%w: record fields", ErrFormat)
	}
	need = recordFixed + key
	if len(p) < need {
		return r, need, nil
	}
	sum := crc32.Update(crc32.Checksum(p[:36], Castagnoli), Castagnoli, p[recordFixed:need])
	if sum != le.Uint32(p[36:]) {
		return r, 0, fmt.Errorf("%w: record checksum", ErrFormat)
	}
	return Record{
		Key:    p[recordFixed:need],
		Seq:    Seq(le.Uint64(p[16:])),
		Time:   int64(le.Uint64(p[24:])),
		Delete: p[0]&recordDelete != 0,
		Moved:  p[0]&recordMoved != 0,
		Given:  p[0]&recordGiven != 0,
		Offset: int64(le.Uint64(p[8:])),
		Length: le.Uint32(p[4:]),
		Sum:    le.Uint32(p[32:]),
	}, need, nil
}

// RecordReader walks the records of an index segment.
type RecordReader struct {
	r    *bufio.Reader
	left int64 // bytes
	n    int64 // records
	f    Footer
	buf  []byte
}

// NewRecordReader reads the records of the index segment in r, whose footer is f.
func NewRecordReader(r io.ReaderAt, f Footer) (*RecordReader, error) {
	head := make([]byte, IndexHeaderSize)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("read index segment header: %w", err)
	}
	id, inc, err := ParseIndexHeader(head)
	if err != nil {
		return nil, err
	}
	if id != f.ID || inc != f.Incarnation {
		return nil, fmt.Errorf("%w: header and footer of different segments", ErrFormat)
	}
	section := io.NewSectionReader(r, IndexHeaderSize, f.RecordBytes)
	return &RecordReader{r: bufio.NewReaderSize(section, 256<<10), left: f.RecordBytes, f: f}, nil
}

// Next gives the next record, valid until the call after it, and io.EOF behind the last.
func (rr *RecordReader) Next() (Record, error) {
	if rr.left == 0 {
		if rr.n != rr.f.Records {
			return Record{}, fmt.Errorf("%w: %d records, footer counts %d", ErrFormat, rr.n, rr.f.Records)
		}
		return Record{}, io.EOF
	}
	head, err := rr.r.Peek(recordFixed)
	if err != nil {
		return Record{}, fmt.Errorf("%w: records end early: %w", ErrFormat, err)
	}
	_, need, err := parseRecord(head)
	if err != nil {
		return Record{}, err
	}
	rr.buf = append(rr.buf[:0], make([]byte, need)...)
	if _, err := io.ReadFull(rr.r, rr.buf); err != nil {
		return Record{}, fmt.Errorf("%w: records end early: %w", ErrFormat, err)
	}
	rec, _, err := parseRecord(rr.buf)
	if err != nil {
		return Record{}, err
	}
	if rec.Offset < 0 || rec.Offset+int64(rec.Length) > rr.f.DataLength {
		return Record{}, fmt.Errorf("%w: record outside of d%d", ErrFormat, rr.f.ID)
	}
	rr.left -= int64(need)
	rr.n++
	return rec, nil
}

// RecordSize is what the record of a key takes up in i<N>.
func RecordSize(key int) int64 { return recordFixed + int64(key) }
