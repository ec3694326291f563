package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/segfile"
)

// Removable says whether sealed segments may be removed: all before them is sealed too, so that no
// header of a removed segment is needed any more to know where another one ends.
func (l *Log) Removable(id segfile.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.segments[id]
	return s != nil && s.sealed && s != l.active && (len(l.unsealed) == 0 || l.unsealed[0] > id)
}

// Remove takes sealed segments out of the log for good. It is recorded before the first file goes, so a crash in
// between is finished at the next opening. Nothing may refer to them any more; who is reading them goes on.
func (l *Log) Remove(ids []segfile.ID) (freed int64, err error) {
	l.removeMu.Lock()
	defer l.removeMu.Unlock()
	if err := l.Err(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	g := l.gaps
	l.mu.Unlock()
	for _, id := range ids {
		if !l.Removable(id) {
			return 0, fmt.Errorf("%w: %d", ErrSegment, id)
		}
		g = g.with(id, id+1)
	}
	if err := l.keepSessions(ids); err != nil {
		return 0, err
	}
	if err := l.writeGaps(g); err != nil {
		return 0, err
	}
	crashpoint.Hit("zdb.compact.recorded")
	l.mu.Lock()
	for _, id := range ids {
		s := l.segments[id]
		freed += s.indexSize
		if s.local {
			freed += s.length
		}
		delete(l.segments, id)
		l.order = slices.DeleteFunc(l.order, func(o segfile.ID) bool { return o == id })
	}
	l.mu.Unlock()
	l.orphans = append(l.orphans, ids...)
	l.unlinkOrphans()
	return freed, nil
}

// unlinkOrphans removes the files of segments that are recorded as removed. What fails is tried again with the next
// ones, and at the next opening: nothing depends on it but room. removeMu is held.
func (l *Log) unlinkOrphans() {
	var left []segfile.ID
	var all error
	for _, id := range l.orphans {
		err := errors.Join(l.unlink(id), l.o.Handles.Forget(l.dataPath(id)))
		if err != nil {
			left = append(left, id)
		}
		all = errors.Join(all, err)
		crashpoint.Hit("zdb.compact.unlinked")
	}
	l.orphans = left
	if all = errors.Join(all, l.syncDirs()); all != nil {
		l.o.Log.Warn("removed segments leave files behind", "namespace", l.o.Namespace, "error", all)
	}
}

// RemovedBetween says whether a number behind first and before end is that of no segment, by right.
func (l *Log) RemovedBetween(first, end segfile.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.gaps.ranges {
		if r.end > first+1 && r.first < end {
			return true
		}
	}
	return false
}

// Entries walks what a segment says of its entries, without values: from i<N>, or from d<N> while there is none. Items are
// those of Replay.
func (l *Log) Entries(id segfile.ID, item func(Item) error) error {
	l.mu.Lock()
	s := l.segments[id]
	if s == nil {
		l.mu.Unlock()
		return fmt.Errorf("%w: %d", ErrSegment, id)
	}
	run := *s
	if s == l.active {
		run.length = l.head.Offset
	}
	l.mu.Unlock()
	return l.replaySegment(context.Background(), &run, segfile.HeaderSize, false, item, func(Pos, segfile.Incarnation) error { return nil })
}
