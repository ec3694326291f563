package wal

import (
	"context"
	"errors"
	"fmt"
	"io"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// data reads d<N> from its header to its end and gives the parts that do not check.
func (a *segmentAudit) data(ctx context.Context, f vfs.File) (holes []hole, err error) {
	a.batches, a.entries, a.seen = 0, 0, nil
	if err := a.take(ctx, segfile.HeaderSize); err != nil {
		return nil, err
	}
	h, err := segfile.ReadHeader(f)
	switch {
	case err == nil && h.ID != a.s.id:
		err = fmt.Errorf("%w: header of segment %d", segfile.ErrFormat, h.ID)
		fallthrough
	case err != nil:
		if !damaged(err) {
			return nil, err
		}
		holes = append(holes, hole{0, segfile.HeaderSize, err})
		a.header = segfile.Header{}
	default:
		// What the file says of itself counts; an i<N> of another file is made again.
		a.header, a.s.inc = h, h.Incarnation
	}
	order := ordering{next: a.header.NextSeq, needs: a.header.Needs}
	for off := int64(segfile.HeaderSize); off < a.s.length; {
		r := batch.NewReader(f, a.s.id, a.s.inc, off, a.s.length)
		bad, err := a.read(ctx, r, &order)
		off = r.Offset()
		if err != nil {
			return holes, err
		}
		if bad == nil {
			break
		}
		end, err := batch.Find(f, a.s.id, a.s.inc, off+1, a.s.length)
		if err != nil {
			return holes, err
		}
		if end < 0 {
			end = a.s.length
		}
		holes = append(holes, hole{off, end, bad})
		off = end
	}
	if a.header.NextSeq != 0 && len(holes) == 0 {
		a.chain()
		a.order(order)
	}
	return holes, nil
}

// read goes up to the first that does not check, which is returned as bad.
func (a *segmentAudit) read(ctx context.Context, r *batch.Reader, o *ordering) (bad, err error) {
	for {
		b, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case errors.Is(err, batch.ErrBad):
			return err, nil
		case err != nil:
			return nil, err
		}
		if err := a.take(ctx, b.Size()); err != nil {
			return nil, err
		}
		a.batches++
		a.entries += int64(b.Count)
		o.note(b)
		a.values(b)
	}
}

// values compares the blocks of each value with their sums: the sum over the batch does not say that those are right.
func (a *segmentAudit) values(b *batch.Batch) {
	for i := range b.Entries {
		e := &b.Entries[i]
		head := batch.Head(uint32(len(e.Value)))
		at := e.Offset - b.Offset
		if bad := batch.Check(b.Raw[at-int64(head):at], e.Value); bad >= 0 {
			a.seen = append(a.seen, Finding{
				File: a.l.dataPath(a.s.id), Offset: e.Offset + int64(bad), Length: int64(len(e.Value) - bad),
				What: errors.New("a block's sum differs, and the batch was written so"), Keys: [][]byte{append([]byte(nil), e.Key...)}, Entries: 1,
			})
		}
	}
}

// ordering checks what rises from batch to batch.
type ordering struct {
	next, needs segfile.Seq
	at          int64
	err         error
}

func (o *ordering) note(b *batch.Batch) {
	switch {
	case o.err != nil:
	case b.Seq < o.next:
		o.at, o.err = b.Offset, fmt.Errorf("the batch begins with sequence %v, %v had been reached", b.Seq, o.next)
	case b.Needs < o.needs:
		o.at, o.err = b.Offset, fmt.Errorf("needs falls from %v to %v", o.needs, b.Needs)
	case b.DurableSegment == b.Segment && b.DurableOffset > b.Offset:
		o.at, o.err = b.Offset, fmt.Errorf("the batch calls durable what is behind it, up to %d", b.DurableOffset)
	}
	o.next, o.needs = b.NextSeq(), b.Needs
}

// note keeps a finding until the reading counts.
func (a *segmentAudit) note(file string, off, n int64, what error) {
	a.seen = append(a.seen, Finding{File: file, Offset: off, Length: n, What: what})
}

func (a *segmentAudit) order(o ordering) {
	if o.err != nil {
		a.note(a.l.dataPath(a.s.id), o.at, 0, o.err)
	}
}

// chain compares the header with the segment before.
func (a *segmentAudit) chain() {
	h, p, path := a.header, a.prev, a.l.dataPath(a.s.id)
	if h.Namespace != a.l.o.Namespace {
		a.note(path, 0, segfile.HeaderSize, fmt.Errorf("the header names the namespace %q", h.Namespace))
	}
	if p == nil || h.Prev != p.id {
		return
	}
	switch {
	case h.PrevLength != p.length:
		a.note(path, 0, segfile.HeaderSize, fmt.Errorf("the header says that d%d has %d bytes, it has %d", p.id, h.PrevLength, p.length))
	case h.NextSeq < p.next:
		a.note(path, 0, segfile.HeaderSize, fmt.Errorf("the header begins with %v, d%d ends at %v", h.NextSeq, p.id, p.next))
	case h.Needs < p.needs:
		a.note(path, 0, segfile.HeaderSize, fmt.Errorf("needs falls from %v in d%d to %v", p.needs, p.id, h.Needs))
	}
}

// compare makes i<N> again from d<N>, which checks, and compares byte by byte.
func (a *segmentAudit) compare(ctx context.Context, data vfs.File) error {
	if !a.s.sealed {
		return nil
	}
	if size, err := data.Size(); err != nil {
		return err
	} else if size > a.s.length {
		a.found(a.l.dataPath(a.s.id), a.s.length, size-a.s.length, errors.New("bytes behind the end"), "")
	}
	path := a.l.indexPath(a.s.id)
	if a.footErr == nil {
		at, err := a.differs(data)
		if err != nil || at < 0 {
			return err
		}
		if a.footer.Incarnation == a.s.inc && a.footer.DataLength == a.s.length {
			same, err := a.pieces(ctx, data)
			if err != nil || !same {
				return err
			}
		}
		a.footAt, a.footErr = at, fmt.Errorf("%w: it is not what d%d gives", segfile.ErrFormat, a.s.id)
	}
	if !a.Repair {
		a.found(path, a.footAt, 0, a.footErr, "")
		return nil
	}
	if _, err := a.l.remake(a.s, data); err != nil {
		a.found(path, a.footAt, 0, errors.Join(a.footErr, err), "")
		return nil
	}
	a.found(path, a.footAt, 0, a.footErr, "written again from "+a.s.id.DataName())
	return nil
}

// differs gives the first offset at which i<N> is not what d<N> gives, or -1.
func (a *segmentAudit) differs(data vfs.File) (_ int64, err error) {
	f, err := a.l.o.FS.Open(a.l.indexPath(a.s.id), false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	w := &comparer{r: f}
	n, err := a.l.describe(a.s, data, w, a.footer.Version)
	if errors.Is(err, errDiffers) {
		return w.at, nil
	}
	if err == nil && n != size {
		return min(n, size), nil
	}
	return -1, err
}

var errDiffers = errors.New("differs")

// comparer takes what is written and compares it with a file.
type comparer struct {
	r   io.ReaderAt
	buf []byte
	at  int64 // of the first difference
}

func (c *comparer) WriteAt(p []byte, off int64) (int, error) {
	c.buf = append(c.buf[:0], p...)
	n, err := c.r.ReadAt(c.buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	for i := range p {
		if i >= n || p[i] != c.buf[i] {
			c.at = off + int64(i)
			return 0, errDiffers
		}
	}
	return len(p), nil
}
