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

// tail is a data segment without i<N>, read to its end.
type tail struct {
	seg   *segment // with what lies before bound
	bound int64    // all before it is known to have been durable
	end   int64    // where the log ends
	clean bool     // the last batch is a clean-stop marker
	cut   bool     // it ends before a batch whose needs are not met
	rest  []info   // the batches in [bound, end)
	next  segfile.Seq
	needs segfile.Seq
}

// info is what is remembered of a batch.
type info struct {
	batch.Header
	next        segfile.Seq
	first, last segfile.Seq
}

// fold takes the batches that begin before bound over into seg.
func (t *tail) fold() {
	n := 0
	for n < len(t.rest) && t.rest[n].Offset < t.bound {
		b := &t.rest[n]
		t.seg.noteHeader(b.Header, b.next)
		if b.Count > 0 {
			t.seg.noteSeq(b.first)
			t.seg.noteSeq(b.last)
		}
		t.bound = max(t.bound, b.End())
		n++
	}
	t.rest = t.rest[n:]
}

// readTail reads a data segment that has no i<N>. length is its final length, or
// -1 for the end of the log, where the end is found: a batch that does not check ends
// the log at or above the bound, and is damage below it.
func (l *Log) readTail(ctx context.Context, id segfile.ID, length int64) (_ *tail, err error) {
	f, err := l.o.FS.Open(l.dataPath(id), false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for before := int64(-1); ; {
		t, err := l.scan(f, id, length)
		var bad *segfile.CorruptionError
		if err == nil || !errors.As(err, &bad) {
			return t, err
		}
		// Each round must get further, else the copy is no better.
		if bad.Offset <= before {
			return nil, err
		}
		before = bad.Offset
		l.o.Log.Warn("damage below what had been durable, asking for the copy", "namespace", l.o.Namespace,
			"segment", id, "offset", bad.Offset, "bound", t.bound)
		if rerr := l.restore(ctx, f, t, bad.Offset); rerr != nil {
			return nil, fmt.Errorf("%w (its copy: %w)", err, rerr)
		}
	}
}

// scan reads one data segment. With a CorruptionError the tail still says what the bound is.
func (l *Log) scan(f vfs.File, id segfile.ID, length int64) (*tail, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	t := &tail{seg: &segment{id: id, local: true}, bound: l.o.KnownDurable[id]}
	if length >= 0 {
		size, t.bound = length, length
	}
	h, err := segfile.ReadHeader(f)
	if err == nil && h.ID != id {
		err = fmt.Errorf("%w: header of segment %d", segfile.ErrFormat, h.ID)
	}
	if errors.Is(err, segfile.ErrFormat) || errors.Is(err, io.EOF) {
		// The file got its name after its header was durable.
		t.bound = max(t.bound, segfile.HeaderSize)
		return t, &segfile.CorruptionError{File: l.dataPath(id), Err: err}
	}
	if err != nil {
		return nil, err
	}
	t.seg.inc, t.seg.session = h.Incarnation, h.Session
	t.seg.next, t.seg.needs = h.NextSeq, h.Needs
	t.next, t.needs = h.NextSeq, h.Needs
	if length < 0 {
		t.bound = max(t.bound, h.Initial)
	}
	if err := l.scanBatches(f, t, size, length < 0); err != nil {
		return t, err
	}
	t.fold()
	return t, nil
}

// scanBatches walks the valid batches and judges what comes after them.
func (l *Log) scanBatches(f vfs.File, t *tail, size int64, last bool) error {
	needsHead := ^segfile.Seq(0)
	if last && l.o.NeedsHead != nil {
		needsHead = l.o.NeedsHead()
	}
	r := batch.NewReader(f, t.seg.id, t.seg.inc, segfile.HeaderSize, size)
	var stop error
	for {
		b, err := r.Next()
		if err != nil {
			stop = err
			break
		}
		if b.Needs > needsHead {
			t.cut, t.end = true, b.Offset
			break
		}
		t.add(b)
		t.clean = b.Flags&batch.CleanStop != 0
	}
	if t.cut {
		t.clean = false
		if _, err := l.witnesses(f, t, size); err != nil {
			return err
		}
		if t.end < t.bound {
			// What is durable here was written after what it needs was durable there.
			return l.damage(t, fmt.Errorf("%w: it needs more than %v, where the other log ends", batch.ErrBad, needsHead))
		}
		return nil
	}
	t.end = r.Offset()
	if stop != nil && !errors.Is(stop, io.EOF) && !errors.Is(stop, batch.ErrBad) {
		return stop
	}
	if !last {
		if t.end < t.bound {
			return l.damage(t, stop)
		}
		return nil
	}
	// Valid batches behind a bad one are lost with it, but they witness what was durable.
	behind, err := l.witnesses(f, t, size)
	if err != nil {
		return err
	}
	if behind || errors.Is(stop, batch.ErrBad) && !blank(f, t.end, size) {
		t.clean = false
	}
	if t.end < t.bound {
		return l.damage(t, stop)
	}
	return nil
}

func (l *Log) damage(t *tail, why error) error {
	if why == nil || errors.Is(why, io.EOF) {
		why = fmt.Errorf("%w: the file ends, %d bytes had been durable", batch.ErrBad, t.bound)
	}
	return &segfile.CorruptionError{File: l.dataPath(t.seg.id), Offset: t.end, Err: why}
}

func (t *tail) add(b *batch.Batch) {
	i := info{Header: b.Header, next: b.NextSeq()}
	for k := range b.Entries {
		seq := b.Entries[k].Seq
		if i.first == 0 || seq < i.first {
			i.first = seq
		}
		i.last = max(i.last, seq)
	}
	t.rest = append(t.rest, i)
	t.next, t.needs = max(t.next, i.next), max(t.needs, b.Needs)
	t.witness(b.Header)
	if len(t.rest) > 4096 {
		t.fold()
	}
}

func (t *tail) witness(h batch.Header) {
	if h.DurableSegment == t.seg.id {
		t.bound = max(t.bound, h.DurableOffset)
	}
}

// witnesses looks at the valid batches behind the end.
func (l *Log) witnesses(f vfs.File, t *tail, size int64) (found bool, err error) {
	for at := t.end; ; {
		at, err = batch.Find(f, t.seg.id, t.seg.inc, at, size)
		if err != nil || at < 0 {
			return found, err
		}
		found = true
		r := batch.NewReader(f, t.seg.id, t.seg.inc, at, size)
		for {
			b, err := r.Next()
			if errors.Is(err, io.EOF) || errors.Is(err, batch.ErrBad) {
				break
			}
			if err != nil {
				return found, err
			}
			t.witness(b.Header)
		}
		at = r.Offset()
	}
}

// blank says whether there are only zeros, or nothing, where the next header would be.
func blank(f vfs.File, off, size int64) bool {
	p := make([]byte, min(batch.HeaderSize, size-off))
	if _, err := f.ReadAt(p, off); err != nil {
		return false
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// rewrite copies the unconfirmed batches behind the header of a new segment.
func (l *Log) rewrite(t *tail, f vfs.File, s *segment) (_ int64, err error) {
	old, err := l.o.FS.Open(l.dataPath(t.seg.id), false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	off := int64(segfile.HeaderSize)
	r := batch.NewReader(old, t.seg.id, t.seg.inc, t.bound, t.end)
	var buf []byte
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return off, nil
		}
		if err != nil {
			return 0, err
		}
		if b.Count == 0 {
			continue
		}
		h := b.Header
		h.Flags, h.Session = batch.Rewritten|h.Flags&batch.Given, l.o.Session
		h.Segment, h.Incarnation, h.Offset = s.id, s.inc, off
		h.DurableSegment, h.DurableOffset = t.seg.id, t.bound
		buf = batch.Rewrite(buf[:0], b, h)
		if _, err := f.WriteAt(buf, off); err != nil {
			return 0, err
		}
		s.note(&batch.Batch{Header: h, Entries: b.Entries})
		off += h.Size()
		l.found.Moved++
	}
}
