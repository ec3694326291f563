package batch

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"qsfs/zdb/segfile"
)

const (
	// readStep is what one call reads: enough to make the call cheap, and little enough that the sums over it
	// find it in a core's own cache. Reads end at multiples of it.
	readStep = 256 << 10
	// readAhead is the room for several steps, so that the begun batch behind a step is seldom moved.
	readAhead = 1 << 20
)

// Reader walks the batches of one data segment. Every byte is asked for once, in the order of the file; a
// batch is checked and split where it was read to.
type Reader struct {
	r   io.ReaderAt
	id  segfile.ID
	inc segfile.Incarnation
	off int64 // of the next batch
	end int64 // nothing is read at or behind it
	// buf is what was read from off on; it lies in room, and grows towards its end.
	buf, room []byte
	b         Batch
}

// NewReader reads the batches of a segment in [off, end).
func NewReader(r io.ReaderAt, id segfile.ID, inc segfile.Incarnation, off, end int64) *Reader {
	return &Reader{r: r, id: id, inc: inc, off: off, end: end}
}

// Offset is where the next batch begins, or the bad one after ErrBad.
func (r *Reader) Offset() int64 { return r.off }

// Next gives the next batch, valid until the call after it. io.EOF says that
// the range ended at a batch's boundary, ErrBad that there is no valid batch at Offset;
// any other error is one of reading.
func (r *Reader) Next() (*Batch, error) {
	if r.off >= r.end {
		return nil, io.EOF
	}
	if err := r.fill(HeaderSize); err != nil {
		return nil, err
	}
	h, err := ParseHeader(r.buf, r.id, r.inc, r.off)
	if err != nil {
		return nil, err
	}
	sum, err := r.body(h)
	if err != nil {
		return nil, err
	}
	if err := r.b.set(h, r.buf, sum); err != nil {
		return nil, err
	}
	r.skip(int(h.Size()))
	return &r.b, nil
}

// Skip gives the next n bytes, which are no batch, and goes on behind them.
func (r *Reader) Skip(n int) ([]byte, error) {
	if err := r.fill(n); err != nil {
		return nil, err
	}
	if len(r.buf) < n {
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, r.off, io.ErrUnexpectedEOF)
	}
	p := r.buf[:n:n]
	r.skip(n)
	return p, nil
}

func (r *Reader) skip(n int) {
	r.buf, r.off = r.buf[n:], r.off+int64(n)
}

// body reads the rest of a batch and sums its entries, step by step while they are in the cache.
func (r *Reader) body(h Header) (sum uint32, err error) {
	size, done := int(h.Size()), HeaderSize
	if r.off+h.Size() > r.end {
		return 0, fmt.Errorf("%w: cut after %d of %d bytes", ErrBad, r.end-r.off, size)
	}
	for {
		upTo := min(len(r.buf), size-TrailerSize)
		if upTo > done {
			sum, done = crc32.Update(sum, segfile.Castagnoli, r.buf[done:upTo]), upTo
		}
		if len(r.buf) >= size {
			return sum, nil
		}
		if more, err := r.more(size); err != nil {
			return 0, err
		} else if !more {
			return 0, fmt.Errorf("%w: cut after %d of %d bytes", ErrBad, len(r.buf), size)
		}
	}
}

// fill reads until n bytes are there, fewer only where the range or the file ends.
func (r *Reader) fill(n int) error {
	for len(r.buf) < n {
		if more, err := r.more(n); err != nil || !more {
			return err
		}
	}
	return nil
}

// more reads the next step; n bytes are to be there in the end. It reports whether there was anything.
func (r *Reader) more(n int) (bool, error) {
	at := r.off + int64(len(r.buf))
	step := int(min(at/readStep*readStep+readStep, r.end) - at)
	if step <= 0 {
		return false, nil
	}
	if cap(r.buf)-len(r.buf) < step {
		r.move(n)
	}
	have := len(r.buf)
	got, err := r.r.ReadAt(r.buf[have:have+step], at)
	r.buf = r.buf[:have+got]
	// What could be read before a bad place counts; the next step meets the place again.
	if got == 0 && err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read batch at %d: %w", r.off, err)
	}
	return got > 0, nil
}

// move makes room for n bytes and a step, with what was read in front.
func (r *Reader) move(n int) {
	need := int(min(int64(max(n+readStep, readAhead)), r.end-r.off))
	if len(r.room) < need {
		r.room = make([]byte, need)
	}
	r.buf = r.room[:copy(r.room, r.buf)]
}
