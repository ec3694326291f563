package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/internal/batch"
	"qsfs/zdb/segfile"
)

// Appended says what became of a batch.
type Appended struct {
	Segment segfile.ID
	Offset  int64 // of the batch; values lie behind it as the builder says
	First   segfile.Seq
	Last    segfile.Seq
	Time    int64
}

// Append writes a batch at the end of the log. It is visible to readers of the
// log on return, and durable after a Sync. needs 0 repeats the last one; at 0 is now.
//
// A failed write leaves the log as it was, or poisons it: what it may have left behind the end never parses.
func (l *Log) Append(ctx context.Context, b *batch.Builder, needs segfile.Seq, at int64) (Appended, error) {
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	if needs == 0 {
		needs = l.needs
	}
	if needs < l.needs {
		return Appended{}, fmt.Errorf("%w: %v after %v", ErrNeeds, needs, l.needs)
	}
	l.mu.Lock()
	err, off, entries := l.stateLocked(), l.head.Offset, l.active.entries
	l.mu.Unlock()
	if err != nil {
		return Appended{}, err
	}
	if off+int64(b.Size()) > l.segmentSize.Load() && entries > 0 {
		// A segment that cannot be followed for want of room grows on: deletes must work on a full disk.
		if _, err := l.rotateLocked(ctx); err != nil && !IsNoSpace(err) {
			return Appended{}, err
		}
	}
	flags := uint16(0)
	if at != 0 {
		flags = batch.Given
	}
	return l.writeLocked(b, needs, flags, at)
}

// IsNoSpace says whether an error is one of a full disk or quota.
func IsNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// writeLocked writes one batch at the end of the active segment. appendMu is held. at 0 is now.
func (l *Log) writeLocked(b *batch.Builder, needs segfile.Seq, flags uint16, at int64) (Appended, error) {
	l.mu.Lock()
	if err := l.stateLocked(); err != nil {
		l.mu.Unlock()
		return Appended{}, err
	}
	s, off, durable := l.active, l.head.Offset, l.durable.Pos
	l.mu.Unlock()
	now := time.Now()
	if at == 0 {
		at = now.UnixNano()
	}
	h := batch.Header{
		Flags: flags, Seq: l.next, Session: l.o.Session, Needs: needs,
		Segment: s.id, Incarnation: s.inc, Offset: off,
		DurableSegment: durable.Segment, DurableOffset: durable.Offset,
		Time: at,
	}
	p := b.Finish(h)
	if err := l.zero.write(s.handle, p, off); err != nil {
		err = fmt.Errorf("append to d%d at %d: %w", s.id, off, err)
		if !IsNoSpace(err) {
			return Appended{}, l.Poison(err)
		}
		return Appended{}, err
	}
	crashpoint.Hit("zdb.commit.written")
	a := Appended{Segment: s.id, Offset: off, First: l.next, Time: h.Time}
	h.Count = uint32(b.Len())
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range b.Items() {
		seq := it.Seq
		if !it.Moved {
			seq = l.next
			l.next++
			l.head.Seq = seq // what is moved was here before, and behind a crash numbers are left out
		}
		s.noteSeq(seq)
	}
	a.Last = l.next - 1
	l.needs = needs
	s.noteHeader(h, l.next)
	if h.Count > 0 {
		l.noteSession(h.Seq)
	}
	l.head.Offset = off + int64(len(p))
	if h.Count > 0 {
		l.entryEnd = l.head.Pos
	}
	l.head.Needs = needs
	l.witnessed = durable
	l.tellWriteBehindLocked()
	if l.unsynced.IsZero() {
		l.unsynced = now
		l.tellKeeperLocked()
	}
	return a, nil
}

func (l *Log) noteSession(first segfile.Seq) {
	if n := len(l.sessions); n == 0 || l.sessions[n-1].Session != l.o.Session {
		l.sessions = append(l.sessions, segfile.SessionStart{First: first, Session: l.o.Session})
	}
}

// signal wakes the reader of a channel of one.
func (l *Log) signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// rotateLocked makes the active segment durable, begins the next one and hands
// the old one to the sealer. appendMu is held.
func (l *Log) rotateLocked(ctx context.Context) (segfile.ID, error) {
	if err := l.waitSealer(ctx); err != nil {
		return 0, err
	}
	if err := l.syncAll(ctx); err != nil {
		return 0, err
	}
	l.mu.Lock()
	old, length := l.active, l.head.Offset
	l.mu.Unlock()
	fresh, err := l.create(plan{prev: old, prevLength: length, next: l.next})
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	old.length = length
	l.activateLocked(fresh)
	l.unsealed = append(l.unsealed, old.id)
	handle := old.handle
	old.handle = nil
	l.mu.Unlock()
	l.signal(l.sealWake)
	l.notify()
	return old.id, handle.Release()
}

// activateLocked makes s, all of which is durable, the end of the log.
func (l *Log) activateLocked(s *segment) {
	// Together with the change of the active segment, or zeros meant for one file would go into the other.
	l.zero.reset(s.length)
	l.addLocked(s)
	l.active = s
	l.head.Pos, l.head.Incarnation, l.head.Needs = Pos{s.id, s.length}, s.inc, l.needs
	l.durable, l.witnessed = l.head, l.head.Pos
	l.unsynced, l.entryEnd = time.Time{}, Pos{}
	l.begun = l.head.Pos
}
