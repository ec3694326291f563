package wal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// skipAfterCrash is added to the sequence counter after an unclean stop, so that
// a sequence that was lost with the tail never comes back.
const skipAfterCrash = 1 << 20

// files that are there when the log opens.
type files struct {
	data  map[segfile.ID]int64 // length
	index []segfile.ID
	aside []string // left over from an interrupted step
}

// recover finds out what the log is and makes it ready to append.
func (l *Log) recover(ctx context.Context) error {
	have, err := l.list()
	if err != nil {
		return err
	}
	if err := l.loadGaps(&have); err != nil {
		return err
	}
	if err := l.loadSealed(have); err != nil {
		return err
	}
	var open []segfile.ID // without a good i<N>
	for id := range have.data {
		if s := l.segments[id]; s == nil {
			open = append(open, id)
		}
	}
	slices.Sort(open)
	l.found.Created = len(l.order) == 0 && len(open) == 0
	l.found.Clean = true
	tail, err := l.closeOpen(ctx, have, open)
	if err != nil {
		return err
	}
	l.sumUp()
	if err := l.checkEpoch(tail); err != nil {
		return err
	}
	if l.o.NeedsHead != nil {
		if head := l.o.NeedsHead(); l.needs > head {
			return fmt.Errorf("sealed segments of %s need %v of a log that ends at %v", l.o.Namespace, l.needs, head)
		}
	}
	if err := l.resume(ctx, tail); err != nil {
		return err
	}
	if err := l.loadSessions(); err != nil {
		return err
	}
	return l.adopt()
}

// list reads both directories and removes what an interrupted step left aside.
func (l *Log) list() (files, error) {
	have, err := l.present()
	if err != nil {
		return have, err
	}
	for _, path := range have.aside {
		if err := l.o.FS.Remove(path); err != nil {
			return have, err
		}
	}
	return have, nil
}

// present reads both directories.
func (l *Log) present() (files, error) {
	have := files{data: make(map[segfile.ID]int64)}
	for _, dir := range slices.Compact([]string{l.o.DataDir, l.o.IndexDir}) {
		names, err := l.o.FS.List(dir)
		if err != nil {
			return have, err
		}
		for _, name := range names {
			path := filepath.Join(dir, name)
			if base, ok := strings.CutSuffix(name, ".tmp"); ok {
				if kind, _, ok := segfile.ParseName(base); ok && kind != 'r' || base == gapsName || base == sessionsName {
					have.aside = append(have.aside, path)
				}
				continue
			}
			kind, id, ok := segfile.ParseName(name)
			switch {
			case ok && kind == 'd' && dir == l.o.DataDir:
				info, err := l.o.FS.Stat(path)
				if err != nil {
					return have, err
				}
				have.data[id] = info.Size
			case ok && kind == 'i' && dir == l.o.IndexDir:
				have.index = append(have.index, id)
			}
		}
	}
	slices.Sort(have.index)
	return have, nil
}

// loadSealed reads the footers. An i<N> that does not check is made again from
// its d<N>, of which it is a function; without d<N> it is damage.
func (l *Log) loadSealed(have files) error {
	footers := make([]*segment, len(have.index))
	var g errgroup.Group
	g.SetLimit(8)
	for i, id := range have.index {
		g.Go(func() error {
			f, size, err := l.readFooter(id)
			if err == nil {
				footers[i] = fromFooter(f)
				footers[i].indexSize = size
				return nil
			}
			if _, local := have.data[id]; local && errors.Is(err, segfile.ErrFormat) {
				l.o.Log.Warn("index segment is damaged and is made again", "namespace", l.o.Namespace, "segment", id, "error", err)
				return nil
			}
			if errors.Is(err, segfile.ErrFormat) {
				return &segfile.CorruptionError{File: l.indexPath(id), Err: err}
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, s := range footers {
		if s == nil {
			continue
		}
		_, s.local = have.data[s.id]
		l.addLocked(s)
	}
	return nil
}

func (l *Log) readFooter(id segfile.ID) (f segfile.Footer, size int64, err error) {
	file, err := l.o.FS.Open(l.indexPath(id), false)
	if err != nil {
		return f, 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if size, err = file.Size(); err != nil {
		return f, 0, err
	}
	if f, err = segfile.ReadFooterAt(file, size); err != nil {
		return f, size, err
	}
	if f.ID != id {
		return f, size, fmt.Errorf("%w: footer of segment %d", segfile.ErrFormat, f.ID)
	}
	return f, size, nil
}

// closeOpen seals all data segments without i<N> but the highest one, which is
// returned if it is the end of the log.
func (l *Log) closeOpen(ctx context.Context, have files, open []segfile.ID) (*tail, error) {
	// An i<N> that does not check still says that d<N> was sealed.
	var maxSealed int64 = -1
	if n := len(have.index); n > 0 {
		maxSealed = int64(have.index[n-1])
	}
	for _, id := range open {
		if id == open[len(open)-1] && int64(id) > maxSealed {
			return l.readTail(ctx, id, -1)
		}
		length, err := l.lengthFromNext(have, id)
		if err != nil {
			return nil, err
		}
		t, err := l.readTail(ctx, id, length)
		if err != nil {
			return nil, err
		}
		t.seg.length = t.end
		l.addLocked(t.seg)
		if err := l.sealNow(t.seg); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// sealNow seals while the log opens. On a full disk it is left to the sealer: the log is whole without i<N>.
func (l *Log) sealNow(s *segment) error {
	err := l.sealSegment(s)
	if IsNoSpace(err) {
		l.o.Log.Warn("no room to seal now", "namespace", l.o.Namespace, "segment", s.id, "error", err)
		l.unsealed = append(l.unsealed, s.id)
		l.signal(l.sealWake)
		return nil
	}
	return err
}

// lengthFromNext asks the segment after id, which knows the final length of the
// one before. When it cannot be asked, d<id> was trimmed long ago: it is as long as its file.
func (l *Log) lengthFromNext(have files, id segfile.ID) (_ int64, err error) {
	next := segfile.NoID
	for other := range have.data {
		if other > id && other < next {
			next = other
		}
	}
	if next == segfile.NoID {
		return have.data[id], nil
	}
	f, err := l.o.FS.Open(l.dataPath(next), false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h, err := segfile.ReadHeader(f)
	if err != nil {
		return 0, &segfile.CorruptionError{File: l.dataPath(next), Err: err}
	}
	if h.Prev != id {
		return have.data[id], nil
	}
	return h.PrevLength, nil
}

// sumUp takes over sequences, needs and sessions of the segments before the tail.
func (l *Log) sumUp() {
	for _, id := range l.order {
		s := l.segments[id]
		l.next = max(l.next, s.next)
		l.needs = max(l.needs, s.needs)
		l.head.Seq = max(l.head.Seq, s.last)
		l.addSessions(s.sessions)
	}
}

func (l *Log) addSessions(list []segfile.SessionStart) {
	for _, s := range list {
		if n := len(l.sessions); n == 0 || l.sessions[n-1].Session != s.Session {
			l.sessions = append(l.sessions, s)
		}
	}
}

func (l *Log) checkEpoch(t *tail) error {
	last := max(l.head.Seq, l.next)
	if t != nil {
		last = max(last, t.seg.last, t.next)
	}
	if last.Epoch() > l.o.Epoch {
		return fmt.Errorf("%w: %d, opened with %d", ErrEpoch, last.Epoch(), l.o.Epoch)
	}
	return nil
}

// resume makes the active segment: the tail itself after a clean stop, else a
// new one that begins with what of the tail was never confirmed.
func (l *Log) resume(ctx context.Context, t *tail) error {
	if t == nil {
		l.raise(0)
		fresh, err := l.create(plan{prev: l.lastSegment(), prevLength: l.lastLength(), next: l.next})
		if err != nil {
			return err
		}
		l.found.Last = l.head.Seq
		l.activateLocked(fresh)
		return nil
	}
	l.next = max(l.next, t.next)
	l.found.Clean, l.found.Cut = t.clean, t.cut
	l.head.Seq = max(l.head.Seq, t.seg.last)
	l.addSessions(t.seg.sessions)
	if t.clean {
		return l.reopen(t)
	}
	return l.restart(ctx, t)
}

// raise moves the next sequence into the present epoch, and on by skip.
func (l *Log) raise(skip uint64) {
	counter := max(l.next.Counter(), l.head.Seq.Counter()+1, 1)
	l.next = segfile.MakeSeq(l.o.Epoch, counter+skip)
}

func (l *Log) lastSegment() *segment {
	if len(l.order) == 0 {
		return nil
	}
	return l.segments[l.order[len(l.order)-1]]
}

func (l *Log) lastLength() int64 {
	if s := l.lastSegment(); s != nil {
		return s.length
	}
	return 0
}

// reopen goes on in the segment that a clean stop left.
func (l *Log) reopen(t *tail) error {
	f, err := l.o.FS.Open(l.dataPath(t.seg.id), true)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil {
		// The marker may have been read from the page cache of a process that was killed before its fsync.
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	t.seg.handle = l.o.Handles.Own(f)
	t.seg.length, t.bound = t.end, t.end
	t.fold()
	l.head.Seq, l.needs = max(l.head.Seq, t.seg.last), max(l.needs, t.needs)
	l.raise(0)
	l.found.Last = l.head.Seq
	l.activateLocked(t.seg)
	l.zero.limit = max(size, t.end)
	return nil
}

// restart writes the unconfirmed batches as the first of a new segment, and only
// then gives the old one its end: its header says where that is, so a crash in between changes nothing.
func (l *Log) restart(ctx context.Context, t *tail) error {
	old := t.seg
	old.length = t.bound
	l.addLocked(old)
	l.needs = max(l.needs, old.needs)
	l.raise(skipAfterCrash)
	first := l.next
	if len(t.rest) > 0 {
		first = t.rest[0].Seq
	}
	fresh, err := l.create(plan{prev: old, prevLength: t.bound, next: first, fill: func(f vfs.File, s *segment) (int64, error) {
		return l.rewrite(t, f, s)
	}})
	if err != nil {
		return err
	}
	l.head.Seq, l.needs = max(l.head.Seq, fresh.last), max(l.needs, t.needs)
	l.found.Last = l.head.Seq
	l.addSessions(fresh.sessions)
	l.activateLocked(fresh)
	if l.found.Moved > 0 || t.end != t.bound {
		l.o.Log.Info("unclean stop: unconfirmed batches were written again", "namespace", l.o.Namespace,
			"segment", old.id, "bound", t.bound, "end", t.end, "batches", l.found.Moved)
	}
	return l.sealNow(old)
}
