package wal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// segment is what the log knows of one d<N>. Its fields are guarded by Log.mu,
// those of a sealed one no longer change but local and indexSize.
type segment struct {
	id       segfile.ID
	inc      segfile.Incarnation
	sealed   bool
	local    bool
	length   int64 // final, once it is not active any more
	first    segfile.Seq
	last     segfile.Seq
	next     segfile.Seq
	needs    segfile.Seq
	session  uint64
	sessions []segfile.SessionStart
	entries  int64
	// indexSize is the length of i<N>.
	indexSize int64
	handle    *Handle // of the active segment, for writing
	path      string  // of d<N>, set when it is added to the log
}

// note takes a batch into account.
func (s *segment) note(b *batch.Batch) {
	s.noteHeader(b.Header, b.NextSeq())
	for i := range b.Entries {
		s.noteSeq(b.Entries[i].Seq)
	}
}

func (s *segment) noteHeader(h batch.Header, next segfile.Seq) {
	s.entries += int64(h.Count)
	s.next = max(s.next, next)
	s.needs = max(s.needs, h.Needs)
	if h.Count > 0 {
		s.session = h.Session
		if n := len(s.sessions); n == 0 || s.sessions[n-1].Session != h.Session {
			s.sessions = append(s.sessions, segfile.SessionStart{First: h.Seq, Session: h.Session})
		}
	}
}

func (s *segment) noteSeq(seq segfile.Seq) {
	if s.first == 0 || seq < s.first {
		s.first = seq
	}
	s.last = max(s.last, seq)
}

func fromFooter(f segfile.Footer) *segment {
	return &segment{
		id: f.ID, inc: f.Incarnation, sealed: true, length: f.DataLength,
		first: f.FirstSeq, last: f.LastSeq, next: f.NextSeq, needs: f.Needs,
		session: f.Session, sessions: f.Sessions, entries: f.Records,
	}
}

// addLocked puts a segment into the set.
func (l *Log) addLocked(s *segment) {
	if l.segments[s.id] == nil {
		at, _ := slices.BinarySearch(l.order, s.id)
		l.order = slices.Insert(l.order, at, s.id)
	}
	s.path = l.dataPath(s.id)
	l.segments[s.id] = s
}

// plan of a new segment file.
type plan struct {
	prev       *segment
	prevLength int64
	next       segfile.Seq // of the first batch
	// fill writes what the file begins with behind the header, and says where it ends.
	fill func(f vfs.File, s *segment) (int64, error)
}

// create makes the next segment file. It gets its name only after everything in
// it is durable, so a d<N> always has a whole header.
func (l *Log) create(p plan) (*segment, error) {
	id := l.o.MinSegment
	h := segfile.Header{
		Namespace: l.o.Namespace,
		Session:   l.o.Session,
		Epoch:     l.o.Epoch,
		Created:   time.Now(),
		NextSeq:   p.next,
		Needs:     l.needs,
		Prev:      segfile.NoID,
		Initial:   segfile.HeaderSize,
	}
	if p.prev != nil {
		h.Prev, h.PrevLength = p.prev.id, p.prevLength
	}
	l.mu.Lock()
	if n := len(l.order); n > 0 {
		id = max(id, l.order[n-1]+1)
	}
	id = max(id, l.gaps.end())
	l.mu.Unlock()
	if id == segfile.NoID {
		return nil, errors.New("segment numbers are used up")
	}
	h.ID = id
	if _, err := rand.Read(h.Incarnation[:]); err != nil {
		return nil, err
	}
	if err := l.noteSkipped(id); err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	s := &segment{
		id: id, inc: h.Incarnation, local: true, next: p.next, needs: l.needs, session: l.o.Session,
	}
	path, tmp := l.dataPath(id), l.dataPath(id)+".tmp"
	f, err := l.o.FS.Create(tmp)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	if err := l.fill(f, s, h, p, tmp, path); err != nil {
		return nil, fmt.Errorf("create segment: %w", errors.Join(err, f.Close(), ignoreMissing(l.o.FS.Remove(tmp))))
	}
	s.handle = l.o.Handles.Own(f)
	return s, nil
}

func (l *Log) fill(f vfs.File, s *segment, h segfile.Header, p plan, tmp, path string) error {
	s.length = segfile.HeaderSize
	if p.fill != nil {
		end, err := p.fill(f, s)
		if err != nil {
			return err
		}
		s.length, h.Initial = end, end
	}
	if _, err := f.WriteAt(segfile.AppendHeader(nil, h), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := l.o.FS.Rename(tmp, path); err != nil {
		return err
	}
	if err := l.o.FS.SyncDir(l.o.DataDir); err != nil {
		// The name may or may not last; take it back, nothing refers to it yet.
		return errors.Join(err, ignoreMissing(l.o.FS.Remove(path)))
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, vfs.ErrNotExist) {
		return nil
	}
	return err
}
