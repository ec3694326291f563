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
	for i := range f.PieceSums {
		off, n := f.PieceRange(i)
		if _, err := data.ReadAt(buf[:n], off); err != nil {
			return fmt.Errorf("read %s at %d: %w", f.ID.DataName(), off, err)
		}
		if err := f.VerifyPiece(i, buf[:n]); err != nil {
			return err
		}
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
	whole, piece *blake3.Hasher
	n            int64
	sums         [][32]byte
}

// NewSummer returns an empty Summer.
func NewSummer() *Summer {
	return &Summer{whole: blake3.New(), piece: blake3.New()}
}

// Write takes the next bytes of d<N>; it never fails.
func (s *Summer) Write(p []byte) (int, error) {
	total := len(p)
	_, _ = s.whole.Write(p)
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
	s.sums = append(s.sums, [32]byte(s.piece.Sum(nil)))
	s.piece.Reset()
}

// Sums ends the stream and gives what the footer holds.
func (s *Summer) Sums() (pieces [][32]byte, whole [32]byte) {
	if s.n%PieceSize != 0 {
		s.endPiece()
	}
	return s.sums, [32]byte(s.whole.Sum(nil))
}
