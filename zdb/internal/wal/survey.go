package wal

import (
	"context"
	"errors"
	"io"
	"slices"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// Survey looks at a log that nobody has open, and changes nothing. What it gives can be audited, walked and mended, and
// must not be appended to. Damage is for the audit to find: Survey only fails when it cannot read.
func Survey(ctx context.Context, o Options) (*Log, error) {
	l := &Log{o: o, segments: make(map[segfile.ID]*segment), sealDone: make(chan struct{}), stop: make(chan struct{})}
	have, err := l.present()
	if err != nil {
		return nil, err
	}
	if err := l.surveyGaps(&have); err != nil {
		return nil, err
	}
	for _, id := range have.ids() {
		s, err := l.surveySegment(have, id)
		if err != nil {
			return nil, err
		}
		l.addLocked(s)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if n := len(l.order); n > 0 {
		last := l.segments[l.order[n-1]]
		l.head.Pos, l.head.Incarnation = Pos{last.id, last.length}, last.inc
		l.durable = l.head
	}
	return l, nil
}

// surveyGaps leaves out the segments that are recorded as removed, and finds those that are lost.
func (l *Log) surveyGaps(have *files) error {
	p, err := vfs.ReadFile(l.o.FS, l.gapsPath(), gapsFixed+maxGaps*gapsRange+4)
	if errors.Is(err, vfs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	g, err := parseGaps(p)
	if err != nil {
		l.gapsErr = err // the audit tells
		return nil
	}
	l.gaps = g
	next := segfile.ID(0)
	for _, id := range have.ids() {
		if g.has(id) {
			delete(have.data, id)
			have.index = slices.DeleteFunc(have.index, func(o segfile.ID) bool { return o == id })
			continue
		}
		for ; next < id; next++ {
			if !g.has(next) {
				l.lost = append(l.lost, next)
			}
		}
		next = id + 1
	}
	return nil
}

// surveySegment finds out what a segment should be: from i<N>, else from the segment after it, else from itself.
func (l *Log) surveySegment(have files, id segfile.ID) (*segment, error) {
	size, local := have.data[id]
	_, sealed := slices.BinarySearch(have.index, id)
	if sealed {
		f, n, err := l.readFooter(id)
		if err == nil {
			s := fromFooter(f)
			s.indexSize, s.local = n, local
			return s, nil
		}
		if !errors.Is(err, segfile.ErrFormat) && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	s := &segment{id: id, sealed: sealed, local: local, length: size}
	var bad *segfile.CorruptionError
	after, err := l.lengthFromNext(have, id)
	switch {
	case errors.As(err, &bad): // of the header after this one, where it will be found
	case err != nil:
		return nil, err
	case after > 0:
		s.length = after
	}
	if !local {
		return s, nil
	}
	if err := l.surveyData(s, sealed || l.followed(have, id)); err != nil {
		return nil, err
	}
	return s, nil
}

func (l *Log) followed(have files, id segfile.ID) bool {
	for other := range have.data {
		if other > id {
			return true
		}
	}
	n := len(have.index)
	return n > 0 && have.index[n-1] > id
}

// surveyData takes the incarnation from d<N> and, at the end of the log, finds where that is.
func (l *Log) surveyData(s *segment, ended bool) (err error) {
	f, err := l.o.FS.Open(l.dataPath(s.id), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h, err := segfile.ReadHeader(f)
	if err == nil {
		s.inc, s.session, s.next, s.needs = h.Incarnation, h.Session, h.NextSeq, h.Needs
	} else if !errors.Is(err, segfile.ErrFormat) && !errors.Is(err, io.EOF) {
		return err
	}
	if ended {
		return nil
	}
	return l.surveyTail(f, s)
}

func (l *Log) surveyTail(f vfs.File, s *segment) error {
	t, err := l.scan(f, s.id, -1)
	var bad *segfile.CorruptionError
	if err != nil && !errors.As(err, &bad) {
		return err
	}
	// Damage below the bound is inside of what the audit reads; all behind the end is a torn tail.
	s.length = max(t.end, t.bound)
	if err == nil {
		t.bound = t.end
		t.fold()
		s.first, s.last, s.next, s.needs = t.seg.first, t.seg.last, t.next, t.needs
	}
	return nil
}
