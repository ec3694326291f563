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

// Step is one entry of the log as it lies in its file, or a part of the file that is no entry any more.
type Step struct {
	Item
	// Batch is the offset of the batch and Session who wrote it, 0 where only i<N> was read.
	Batch   int64
	Session uint64
	// Bad says why the bytes are not served: damaged, or not here. Without a key nothing is known but the
	// range, which Location gives.
	Bad error
}

// Walk gives every entry below a place, in the order of the log. What is damaged or missing is given too, from
// i<N> where that tells. records says that i<N> is enough, where it checks. The slices are valid during the call.
func (l *Log) Walk(ctx context.Context, to Pos, records bool, fn func(*Step) error) error {
	for _, s := range l.durableSegments() {
		if s.id > to.Segment {
			return nil
		}
		if s.id == to.Segment {
			s.length = min(s.length, to.Offset)
		}
		w := walker{l: l, s: s, fn: fn}
		if err := w.run(ctx, records); err != nil && !l.vanished(err, s.id) {
			return fmt.Errorf("walk segment %d: %w", s.id, err)
		}
	}
	return nil
}

// vanished says of a file that is not there that compaction has removed its segment meanwhile: what counts of its entries
// stands further on.
func (l *Log) vanished(err error, id segfile.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Is(err, vfs.ErrNotExist) && l.segments[id] == nil
}

type walker struct {
	l     *Log
	s     *segment
	fn    func(*Step) error
	sound bool // i<N> checks
}

func (w *walker) run(ctx context.Context, records bool) error {
	if w.s.sealed {
		var err error
		if w.sound, err = w.l.soundIndex(w.s); err != nil {
			return err
		}
	}
	if w.sound && records {
		return w.index(ctx, 0, w.s.length, nil)
	}
	f, err := w.l.o.FS.Open(w.l.dataPath(w.s.id), false)
	if errors.Is(err, vfs.ErrNotExist) {
		return w.absent(ctx)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if h, err := segfile.ReadHeader(f); err == nil {
		w.s.inc = h.Incarnation
	} else if !damaged(err) {
		return err
	}
	return w.data(ctx, f)
}

// soundIndex says whether i<N> checks against itself.
func (l *Log) soundIndex(s *segment) (_ bool, err error) {
	f, err := l.o.FS.Open(l.indexPath(s.id), false)
	if errors.Is(err, vfs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return false, err
	}
	foot, err := segfile.ReadFooterAt(f, size)
	if err == nil {
		err = foot.VerifyIndex(f)
	}
	if err != nil && !damaged(err) {
		return false, err
	}
	return err == nil && foot.ID == s.id && (s.inc == segfile.Incarnation{} || foot.Incarnation == s.inc), nil
}

// absent gives what i<N> tells of a d<N> that is not here.
func (w *walker) absent(ctx context.Context) error {
	if w.l.vanished(vfs.ErrNotExist, w.s.id) {
		return nil
	}
	return w.instead(ctx, 0, w.s.length, &segfile.MissingError{
		Namespace: w.l.o.Namespace, Segment: w.s.id, Err: errors.New("not on this machine"),
	})
}

// instead gives what is known of a range that cannot be read.
func (w *walker) instead(ctx context.Context, from, to int64, why error) error {
	if w.sound {
		return w.index(ctx, from, to, why)
	}
	st := Step{Bad: why}
	st.Location = segfile.Location{Segment: w.s.id, Offset: from, Length: uint32(min(to-from, 1<<32-1))}
	return w.fn(&st)
}

func (w *walker) data(ctx context.Context, f vfs.File) error {
	for off := int64(segfile.HeaderSize); off < w.s.length; {
		r := batch.NewReader(f, w.s.id, w.s.inc, off, w.s.length)
		bad, err := w.batches(ctx, r)
		if err != nil || bad == nil {
			return err
		}
		off = r.Offset()
		end, err := batch.Find(f, w.s.id, w.s.inc, off+1, w.s.length)
		if err != nil {
			return err
		}
		if end < 0 {
			end = w.s.length
		}
		err = w.instead(ctx, off, end, &segfile.CorruptionError{File: w.l.dataPath(w.s.id), Offset: off, Err: bad})
		if err != nil {
			return err
		}
		off = end
	}
	return nil
}

func (w *walker) batches(ctx context.Context, r *batch.Reader) (bad, err error) {
	for {
		b, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case errors.Is(err, batch.ErrBad):
			return err, nil
		case err != nil:
			return nil, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		for i := range b.Entries {
			e := &b.Entries[i]
			st := Step{Batch: b.Offset, Session: b.Session}
			st.Item = Item{
				Key: e.Key, Value: e.Value, Seq: e.Seq, Time: e.Time, Delete: e.Delete, Moved: e.Moved, Given: e.Given, HasValue: true,
				Location: segfile.Location{Segment: w.s.id, Offset: e.Offset, Length: uint32(len(e.Value))},
			}
			if err := w.fn(&st); err != nil {
				return nil, err
			}
		}
	}
}

// index gives what i<N> says of [from, to).
func (w *walker) index(ctx context.Context, from, to int64, why error) error {
	n := 0
	return w.l.records(w.s, func(r segfile.Record) error {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if start, end := extent(r); end <= from || start >= to {
			return nil
		}
		st := Step{Bad: why}
		st.Item = Item{
			Key: r.Key, Seq: r.Seq, Time: r.Time, Delete: r.Delete, Moved: r.Moved, Given: r.Given,
			Location: segfile.Location{Segment: w.s.id, Offset: r.Offset, Length: r.Length},
		}
		return w.fn(&st)
	})
}
