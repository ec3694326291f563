package segfile

import (
	"fmt"
	"io"

	"github.com/zeebo/blake3"
)

// PieceRange is the part of d<N> that piece i covers.
func (f Footer) PieceRange(i int) (off, n int64) {
	off = int64(i) * PieceSize
	return off, min(PieceSize, f.DataLength-off)
}

// VerifyPiece checks piece i of d<N>.
func (f Footer) VerifyPiece(i int, piece []byte) error {
	if i < 0 || i >= len(f.PieceSums) {
		return fmt.Errorf("%w: piece %d of %d", ErrFormat, i, len(f.PieceSums))
	}
	off, n := f.PieceRange(i)
	if int64(len(piece)) != n {
		return fmt.Errorf("piece %d has %d bytes, not %d", i, len(piece), n)
	}
	if blake3.Sum256(piece) != f.PieceSums[i] {
		return &CorruptionError{File: f.ID.DataName(), Offset: off, Err: fmt.Errorf("%w: piece sum", ErrFormat)}
	}
	return nil
}

// Verify reads all of d<N> and checks it against the footer.
func (f Footer) Verify(data io.ReaderAt) error {
	buf := make([]byte, PieceSize)
	all := newTotal(f.Version)
	for i := range f.PieceSums {
		off, n := f.PieceRange(i)
		if _, err := data.ReadAt(buf[:n], off); err != nil {
			return fmt.Errorf("read %s at %d: %w", f.ID.DataName(), off, err)
		}
		if err := f.VerifyPiece(i, buf[:n]); err != nil {
			return err
		}
		all.bytes(buf[:n])
		all.piece(f.PieceSums[i])
	}
	if all.sum() != f.Sum {
		return &CorruptionError{File: f.ID.IndexName(), Err: fmt.Errorf("%w: sum over all pieces", ErrFormat)}
	}
	return nil
}

// VerifyIndex checks the index segment itself: header and records against the footer.
func (f Footer) VerifyIndex(index io.ReaderAt) error {
	h := blake3.New()
	if _, err := io.Copy(h, io.NewSectionReader(index, 0, IndexHeaderSize+f.RecordBytes)); err != nil {
		return fmt.Errorf("read %s: %w", f.ID.IndexName(), err)
	}
	if [32]byte(h.Sum(nil)) != f.IndexSum {
		return &CorruptionError{File: f.ID.IndexName(), Err: fmt.Errorf("%w: index sum", ErrFormat)}
	}
	return nil
}

// Summer computes the sums of d<N> while it streams by.
type Summer struct {
	piece *blake3.Hasher
	all   total
	n     int64
	sums  [][32]byte
}

// NewSummer computes what a footer of the given version holds; 0 is the newest.
func NewSummer(version uint16) *Summer {
	return &Summer{piece: blake3.New(), all: newTotal(version)}
}

// Write takes the next bytes of d<N>; it never fails.
func (s *Summer) Write(p []byte) (int, error) {
	total := len(p)
	s.all.bytes(p)
	for len(p) > 0 {
		room := PieceSize - s.n%PieceSize
		part := p[:min(int64(len(p)), room)]
		_, _ = s.piece.Write(part)
		s.n += int64(len(part))
		p = p[len(part):]
		if s.n%PieceSize == 0 {
			s.endPiece()
		}
	}
	return total, nil
}

func (s *Summer) endPiece() {
	sum := [32]byte(s.piece.Sum(nil))
	s.piece.Reset()
	s.all.piece(sum)
	s.sums = append(s.sums, sum)
}

// Len is the number of bytes so far.
func (s *Summer) Len() int64 { return s.n }

// Sums ends the stream and gives what the footer holds.
func (s *Summer) Sums() (pieces [][32]byte, all [32]byte) {
	if s.n%PieceSize != 0 {
		s.endPiece()
	}
	return s.sums, s.all.sum()
}

// piecesContext keeps the sum over piece sums apart from every other use of BLAKE3.
const piecesContext = "qsfs zdb pieces 1"

// total is the sum over all of d<N>: over the sums of its pieces, so that each byte is hashed once;
// in a footer of version 1 over the bytes themselves.
type total struct {
	h       *blake3.Hasher
	ofBytes bool
}

func newTotal(version uint16) total {
	if version == 1 {
		return total{blake3.New(), true}
	}
	return total{blake3.NewDeriveKey(piecesContext), false}
}

func (t total) bytes(p []byte) {
	if t.ofBytes {
		_, _ = t.h.Write(p)
	}
}

func (t total) piece(sum [32]byte) {
	if !t.ofBytes {
		_, _ = t.h.Write(sum[:])
	}
}

func (t total) sum() [32]byte { return [32]byte(t.h.Sum(nil)) }
