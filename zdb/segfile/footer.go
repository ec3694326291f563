package segfile

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

const (
	// PieceSize is the length of the pieces of d<N> that the footer has sums of.
	PieceSize = 1 << 20

	footerMagic = "QZDBFOOT"
	tailMagic   = "QZDBTAIL"
	footerFixed = 176
	tailSize    = 16
	// maxFooter bounds what a reader allocates for a footer.
	maxFooter = 64 << 20
)

// Footer ends an index segment and says what d<N> is.
type Footer struct {
	// Version is that of the footer; 0 writes FooterVersion.
	Version     uint16
	Namespace   string
	ID          ID
	Incarnation Incarnation
	Session     uint64 // the last one that wrote into d<N>
	DataLength  int64
	// FirstSeq and LastSeq bound the entries; both 0 when there is none.
	FirstSeq, LastSeq Seq
	// NextSeq is the lowest sequence that may follow.
	NextSeq Seq
	// Needs of the last batch.
	Needs Seq
	// Records is the number of records in i<N>, RecordBytes their length.
	Records     int64
	RecordBytes int64
	Sessions    []SessionStart
	// PieceSums are the BLAKE3 sums of the pieces of d<N>, each PieceSize long but the last.
	PieceSums [][32]byte
	// Sum is the sum over PieceSums, in version 1 the BLAKE3 sum of d<N>. IndexSum is that of i<N> before the footer.
	Sum      [32]byte
	IndexSum [32]byte
}

// AppendFooter appends f and the tail that leads to it.
func AppendFooter(b []byte, f Footer) []byte {
	start := len(b)
	if f.Version == 0 {
		f.Version = FooterVersion
	}
	b = append(b, make([]byte, footerFixed)...)
	p := b[start:]
	le := binary.LittleEndian
	copy(p, footerMagic)
	le.PutUint16(p[8:], f.Version)
	le.PutUint16(p[10:], uint16(len(f.Namespace)))
	le.PutUint32(p[12:], uint32(f.ID))
	copy(p[16:], f.Incarnation[:])
	le.PutUint64(p[32:], f.Session)
	le.PutUint64(p[40:], uint64(f.DataLength))
	le.PutUint64(p[48:], uint64(f.FirstSeq))
	le.PutUint64(p[56:], uint64(f.LastSeq))
	le.PutUint64(p[64:], uint64(f.Needs))
	le.PutUint64(p[72:], uint64(f.NextSeq))
	le.PutUint64(p[80:], uint64(f.Records))
	le.PutUint64(p[88:], uint64(f.RecordBytes))
	le.PutUint32(p[96:], PieceSize)
	le.PutUint32(p[100:], uint32(len(f.PieceSums)))
	le.PutUint32(p[104:], uint32(len(f.Sessions)))
	copy(p[112:], f.Sum[:])
	copy(p[144:], f.IndexSum[:])
	b = append(b, f.Namespace...)
	for _, s := range f.Sessions {
		b = le.AppendUint64(b, uint64(s.First))
		b = le.AppendUint64(b, s.Session)
	}
	for i := range f.PieceSums {
		b = append(b, f.PieceSums[i][:]...)
	}
	b = le.AppendUint32(b, crc32.Checksum(b[start:], Castagnoli))
	length := uint32(len(b) - start)
	b = le.AppendUint32(b, length)
	b = le.AppendUint32(b, ^length)
	return append(b, tailMagic...)
}

// ReadFooter reads the footer of the index segment at path.
func ReadFooter(path string) (Footer, error) {
	f, err := os.Open(path)
	if err != nil {
		return Footer{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Footer{}, err
	}
	footer, err := ReadFooterAt(f, info.Size())
	if err != nil {
		return Footer{}, fmt.Errorf("%s: %w", path, err)
	}
	return footer, nil
}

// ReadFooterAt reads the footer of an index segment of the given size.
func ReadFooterAt(r io.ReaderAt, size int64) (Footer, error) {
	if size < IndexHeaderSize+footerFixed+4+tailSize {
		return Footer{}, fmt.Errorf("%w: index segment of %d bytes", ErrFormat, size)
	}
	// Most footers fit into one read of the last 4 KiB.
	p := make([]byte, min(size, 4096))
	if _, err := r.ReadAt(p, size-int64(len(p))); err != nil {
		return Footer{}, fmt.Errorf("read footer: %w", err)
	}
	le := binary.LittleEndian
	tail := p[len(p)-tailSize:]
	length := le.Uint32(tail)
	if string(tail[8:]) != tailMagic || le.Uint32(tail[4:]) != ^length {
		return Footer{}, fmt.Errorf("%w: no footer", ErrFormat)
	}
	whole := int64(length) + tailSize
	if length < footerFixed+4 || length > maxFooter || whole > size-IndexHeaderSize {
		return Footer{}, fmt.Errorf("%w: footer of %d bytes", ErrFormat, length)
	}
	if whole > int64(len(p)) {
		p = make([]byte, whole)
		if _, err := r.ReadAt(p, size-whole); err != nil {
			return Footer{}, fmt.Errorf("read footer: %w", err)
		}
	}
	f, err := parseFooter(p[int64(len(p))-whole : len(p)-tailSize])
	if err != nil {
		return Footer{}, err
	}
	if IndexHeaderSize+f.RecordBytes+whole != size {
		return Footer{}, fmt.Errorf("%w: index segment of %d bytes, footer counts %d", ErrFormat, size, IndexHeaderSize+f.RecordBytes+whole)
	}
	return f, nil
}

func parseFooter(p []byte) (Footer, error) {
	le := binary.LittleEndian
	body := p[:len(p)-4]
	version := le.Uint16(p[8:])
	if string(p[:8]) != footerMagic {
		return Footer{}, fmt.Errorf("%w: footer magic", ErrFormat)
	}
	if version == 0 || version > FooterVersion {
		return Footer{}, fmt.Errorf("%w: footer of version %d, this program knows up to %d", ErrFormat, version, FooterVersion)
	}
	if le.Uint32(p[len(body):]) != crc32.Checksum(body, Castagnoli) {
		return Footer{}, fmt.Errorf("%w: footer checksum", ErrFormat)
	}
	name, pieces, sessions := int(le.Uint16(p[10:])), int64(le.Uint32(p[100:])), int64(le.Uint32(p[104:]))
	if int64(len(body)) != footerFixed+int64(name)+16*sessions+32*pieces || le.Uint32(p[96:]) != PieceSize {
		return Footer{}, fmt.Errorf("%w: footer fields", ErrFormat)
	}
	f := Footer{
		Version:     version,
		ID:          ID(le.Uint32(p[12:])),
		Incarnation: Incarnation(p[16:32]),
		Session:     le.Uint64(p[32:]),
		DataLength:  int64(le.Uint64(p[40:])),
		FirstSeq:    Seq(le.Uint64(p[48:])),
		LastSeq:     Seq(le.Uint64(p[56:])),
		Needs:       Seq(le.Uint64(p[64:])),
		NextSeq:     Seq(le.Uint64(p[72:])),
		Records:     int64(le.Uint64(p[80:])),
		RecordBytes: int64(le.Uint64(p[88:])),
		Sum:         [32]byte(p[112:144]),
		IndexSum:    [32]byte(p[144:176]),
	}
	if f.DataLength < HeaderSize || f.Records < 0 || f.RecordBytes < 0 || f.RecordBytes > 1<<40 ||
		pieces != (f.DataLength+PieceSize-1)/PieceSize {
		return Footer{}, fmt.Errorf("%w: footer lengths", ErrFormat)
	}
	rest := body[footerFixed:]
	f.Namespace, rest = string(rest[:name]), rest[name:]
	for range sessions {
		f.Sessions = append(f.Sessions, SessionStart{Seq(le.Uint64(rest)), le.Uint64(rest[8:])})
		rest = rest[16:]
	}
	f.PieceSums = make([][32]byte, pieces)
	for i := range f.PieceSums {
		copy(f.PieceSums[i][:], rest[32*i:])
	}
	return f, nil
}
