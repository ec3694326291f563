package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"qsfs/zdb/segfile"
)

// Reader walks the batches of one data segment.
type Reader struct {
	r    io.ReaderAt
	id   segfile.ID
	inc  segfile.Incarnation
	off  int64 // of the next batch
	end  int64 // nothing is read at or behind it
	buf  []byte
	base int64 // offset of buf
	b    Batch
}

const readAhead = 1 << 20

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
	p, err := r.peek(HeaderSize)
	if err != nil {
		return nil, err
	}
	h, err := ParseHeader(p, r.id, r.inc, r.off)
	if err != nil {
		return nil, err
	}
	p, err = r.peek(int(h.Size()))
	if err != nil {
		return nil, err
	}
	if err := r.b.Parse(p, r.id, r.inc, r.off); err != nil {
		return nil, err
	}
	r.off += h.Size()
	return &r.b, nil
}

// peek gives up to n bytes at r.off, fewer only where the range or the file ends.
func (r *Reader) peek(n int) ([]byte, error) {
	n = int(min(int64(n), r.end-r.off))
	if at := r.off - r.base; at >= 0 && at+int64(n) <= int64(len(r.buf)) {
		return r.buf[at : at+int64(n)], nil
	}
	want := int(min(int64(max(n, readAhead)), r.end-r.off))
	if cap(r.buf) < want {
		r.buf = make([]byte, want)
	}
	r.buf, r.base = r.buf[:want], r.off
	got, err := r.r.ReadAt(r.buf, r.off)
	r.buf = r.buf[:got]
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read batch at %d: %w", r.off, err)
	}
	return r.buf[:min(n, got)], nil
}

// Find looks in [from, end) for the first valid batch of the segment at any
// offset. It returns -1 when there is none.
func Find(r io.ReaderAt, id segfile.ID, inc segfile.Incarnation, from, end int64) (int64, error) {
	buf := make([]byte, readAhead)
	for base := from; base < end; {
		p := buf[:min(int64(len(buf)), end-base)]
		got, err := r.ReadAt(p, base)
		if err != nil && !errors.Is(err, io.EOF) {
			return -1, fmt.Errorf("scan at %d: %w", base, err)
		}
		p = p[:got]
		for at := 0; ; at++ {
			next := bytes.Index(p[at:], []byte(magic))
			if next < 0 {
				break
			}
			at += next
			if ok, err := valid(r, id, inc, base+int64(at), end); err != nil {
				return -1, err
			} else if ok {
				return base + int64(at), nil
			}
		}
		if int64(got) < int64(len(magic)) || err != nil {
			return -1, nil
		}
		base += int64(got) - int64(len(magic)) + 1
	}
	return -1, nil
}

func valid(r io.ReaderAt, id segfile.ID, inc segfile.Incarnation, off, end int64) (bool, error) {
	head := make([]byte, HeaderSize)
	if got, err := r.ReadAt(head, off); err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("scan at %d: %w", off, err)
	} else if _, err := ParseHeader(head[:got], id, inc, off); err != nil {
		return false, nil
	}
	// The header checks: worth reading the whole batch.
	one := NewReader(r, id, inc, off, end)
	_, err := one.Next()
	if err != nil && !errors.Is(err, ErrBad) {
		return false, err
	}
	return err == nil, nil
}
