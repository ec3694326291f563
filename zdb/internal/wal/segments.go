package wal

import (
	"fmt"
	"slices"

	"qsfs/zdb/segfile"
)

// Info describes one segment.
type Info struct {
	ID          segfile.ID
	Sealed      bool
	Local       bool
	Length      int64
	IndexSize   int64
	First, Last segfile.Seq
	Entries     int64
}

// Segments lists what the log consists of, in order.
func (l *Log) Segments() []Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Info, 0, len(l.order))
	for _, id := range l.order {
		s := l.segments[id]
		i := Info{ID: id, Sealed: s.sealed, Local: s.local, Length: s.length, IndexSize: s.indexSize, First: s.first, Last: s.last, Entries: s.entries}
		if s == l.active {
			i.Length = l.head.Offset
		}
		list = append(list, i)
	}
	return list
}

// Sessions lists who wrote, in order.
func (l *Log) Sessions() []segfile.SessionStart {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]segfile.SessionStart(nil), l.sessions...)
}

// WriterOf says which session wrote a sequence, as far as that is known; else 0.
func (l *Log) WriterOf(seq segfile.Seq) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range slices.Backward(l.sessions) {
		if s.First <= seq {
			return s.Session
		}
	}
	return 0
}

// Locate says what is known of a segment: its incarnation and length.
func (l *Log) Locate(id segfile.ID) (inc segfile.Incarnation, length int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.segments[id]
	if s == nil {
		return inc, 0, false
	}
	if s == l.active {
		return s.inc, l.head.Offset, true
	}
	return s.inc, s.length, true
}

// First is the place where the log begins.
func (l *Log) First() Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Pos{l.order[0], 0}
}

// Evict removes d<id> of a sealed segment; who reads it goes on.
func (l *Log) Evict(id segfile.ID) error {
	l.mu.Lock()
	s := l.segments[id]
	if s == nil || !s.sealed {
		l.mu.Unlock()
		return fmt.Errorf("%w: %d", ErrSegment, id)
	}
	was := s.local
	s.local = false
	l.mu.Unlock()
	if !was {
		return nil
	}
	path := l.dataPath(id)
	if err := ignoreMissing(l.o.FS.Remove(path)); err != nil {
		l.mu.Lock()
		s.local = true
		l.mu.Unlock()
		return err
	}
	return l.o.Handles.Forget(path)
}

// EntryCount is the number of entries of all segments, superseded ones too.
func (l *Log) EntryCount() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum int64
	for _, s := range l.segments {
		sum += s.entries
	}
	return sum
}
