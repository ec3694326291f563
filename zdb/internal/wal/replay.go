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

// Item is one entry of the log, as the index wants it. Its slices are valid during the call only.
type Item struct {
	Key    []byte
	Value  []byte // nil unless HasValue
	Seq    segfile.Seq
	Time   int64
	Delete bool
	Moved  bool
	Given  bool
	// HasValue: the value was at hand; of an evicted segment only its location is.
	HasValue bool
	Location segfile.Location
}

// Replay walks the entries in [from, to). With values it reads d<N>, where it
// is here; else what i<N> says is enough. end is called behind each batch, or segment.
func (l *Log) Replay(ctx context.Context, from, to Pos, values bool, item func(Item) error, end func(Pos, segfile.Incarnation) error) error {
	if err := l.missing(from.Segment, to.Segment); err != nil {
		return err
	}
	l.mu.Lock()
	var run []segment
	for _, id := range l.order {
		if id >= from.Segment && id <= to.Segment {
			s := *l.segments[id]
			if s.id == to.Segment {
				s.length = to.Offset
			}
			run = append(run, s)
		}
	}
	l.mu.Unlock()
	for i := range run {
		s := &run[i]
		start := int64(segfile.HeaderSize)
		if s.id == from.Segment {
			start = max(start, from.Offset)
		}
		if err := l.replaySegment(ctx, s, start, values, item, end); err != nil {
			return fmt.Errorf("replay segment %d: %w", s.id, err)
		}
	}
	return nil
}

func (l *Log) replaySegment(ctx context.Context, s *segment, start int64, values bool, item func(Item) error, end func(Pos, segfile.Incarnation) error) error {
	if start < s.length {
		var err error
		switch {
		case !s.sealed:
			err = l.replayData(ctx, s, start, item, end)
		case s.local && values:
			err = l.replayData(ctx, s, start, item, end)
			var bad *segfile.CorruptionError
			if errors.As(err, &bad) {
				l.o.Log.Warn("index is rebuilt without values", "namespace", l.o.Namespace, "error", err)
				err = l.replayIndex(ctx, s, start, item)
			}
		default:
			err = l.replayIndex(ctx, s, start, item)
		}
		if errors.Is(err, vfs.ErrNotExist) && l.evicted(s.id) {
			err = l.replayIndex(ctx, s, start, item) // just now
		}
		if err != nil {
			return err
		}
	}
	return end(Pos{s.id, s.length}, s.inc)
}

// evicted says whether only i<id> is here.
func (l *Log) evicted(id segfile.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.segments[id]
	return s != nil && s.sealed && !s.local
}

func (l *Log) replayData(ctx context.Context, s *segment, start int64, item func(Item) error, end func(Pos, segfile.Incarnation) error) (err error) {
	handle, err := l.acquire(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, handle.Release()) }()
	r := batch.NewReader(handle, s.id, s.inc, start, s.length)
	for {
		b, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, batch.ErrBad):
			return &segfile.CorruptionError{File: l.dataPath(s.id), Offset: r.Offset(), Err: err}
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		for i := range b.Entries {
			e := &b.Entries[i]
			if err := item(Item{
				Key: e.Key, Value: e.Value, Seq: e.Seq, Time: e.Time, Delete: e.Delete, Moved: e.Moved, Given: e.Given, HasValue: true,
				Location: segfile.Location{Segment: s.id, Offset: e.Offset, Length: uint32(len(e.Value))},
			}); err != nil {
				return err
			}
		}
		if err := end(Pos{s.id, r.Offset()}, s.inc); err != nil {
			return err
		}
	}
}

// replayIndex takes the entries from i<N>. Those before start are left out.
func (l *Log) replayIndex(ctx context.Context, s *segment, start int64, item func(Item) error) (err error) {
	path := l.indexPath(s.id)
	f, err := l.o.FS.Open(path, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return err
	}
	damage := func(err error) error {
		if errors.Is(err, segfile.ErrFormat) {
			return &segfile.CorruptionError{File: path, Err: err}
		}
		return err
	}
	footer, err := segfile.ReadFooterAt(f, size)
	if err != nil {
		return damage(err)
	}
	rr, err := segfile.NewRecordReader(f, footer)
	if err != nil {
		return damage(err)
	}
	for n := 0; ; n++ {
		rec, err := rr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return damage(err)
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if rec.Offset < start {
			continue
		}
		if err := item(Item{
			Key: rec.Key, Seq: rec.Seq, Time: rec.Time, Delete: rec.Delete, Moved: rec.Moved, Given: rec.Given,
			Location: segfile.Location{Segment: s.id, Offset: rec.Offset, Length: rec.Length},
		}); err != nil {
			return err
		}
	}
}
