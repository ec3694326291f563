package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// Finding is a place in the files of the log that is not as it should be.
type Finding struct {
	File           string
	Offset, Length int64 // Length 0: up to the end, or not known
	What           error
	// Done is what was done about it; empty: it is as it was.
	Done string
	// Keys of the entries that lie there, as far as i<N> tells, the first of Entries.
	Keys    [][]byte
	Entries int64
}

// findingKeys bounds the keys that a finding names.
const findingKeys = 100

// Audit reads the files of a log again. The counters are what was read.
type Audit struct {
	Repair bool
	// Take is asked before n bytes of a segment are read; it may wait.
	Take  func(ctx context.Context, id segfile.ID, n int64) error
	Found func(Finding)

	Segments, Missing, Batches, Entries, Bytes int64
}

// hole is a part of d<N> that does not check.
type hole struct {
	from, to int64
	err      error
}

// Run reads every d<N> and i<N> up to what is durable: header and chain of headers, batches and blocks of values, i<N>
// against itself and against d<N>. With Repair it writes i<N> again and brings damaged ranges back from their copy. It
// returns an error only when it cannot go on; what it finds goes to Found.
func (a *Audit) Run(ctx context.Context, l *Log) error {
	if err := a.gaps(l); err != nil {
		return err
	}
	var prev *segment
	for _, s := range l.durableSegments() {
		r := segmentAudit{Audit: a, l: l, s: s, prev: prev}
		if err := r.run(ctx); err != nil && !l.vanished(err, s.id) {
			return fmt.Errorf("audit segment %d: %w", s.id, err)
		}
		prev = s
	}
	return nil
}

// gaps looks for lost segments, and at the record that tells them from removed ones.
func (a *Audit) gaps(l *Log) error {
	l.removeMu.Lock()
	defer l.removeMu.Unlock()
	l.mu.Lock()
	want, err, open := l.gaps, l.gapsErr, l.active != nil
	l.mu.Unlock()
	if open {
		p, rerr := vfs.ReadFile(l.o.FS, l.gapsPath(), gapsFixed+maxGaps*gapsRange+4)
		if rerr != nil && !errors.Is(rerr, vfs.ErrNotExist) {
			return rerr
		}
		if !bytes.Equal(p, want.append(nil)) {
			err = fmt.Errorf("%w: it is not what is in force", segfile.ErrFormat)
		}
	}
	if err != nil {
		f := Finding{File: l.gapsPath(), What: err}
		if a.Repair && open {
			if err := l.writeGaps(want); err != nil {
				return err
			}
			f.Done = "written again"
		}
		a.Found(f)
	}
	for _, id := range l.Lost() {
		a.Found(Finding{File: l.dataPath(id), What: errLost})
	}
	return nil
}

// durableSegments copies what is known of each segment, the active one up to its durable end.
func (l *Log) durableSegments() []*segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*segment
	for _, id := range l.order {
		s := *l.segments[id]
		if l.segments[id] == l.active {
			s.length = l.head.Offset
			if l.durable.Segment == id {
				s.length = l.durable.Offset
			}
		}
		list = append(list, &s)
	}
	return list
}

// maxMends bounds how often a segment is read again after something of it was brought back.
const maxMends = 4

// segmentAudit is the audit of one segment.
type segmentAudit struct {
	*Audit
	l       *Log
	s, prev *segment
	header  segfile.Header // when it checks
	footer  segfile.Footer // when footErr is nil
	footErr error          // why i<N> cannot be used
	footAt  int64          // where in i<N> that was seen

	// What the latest reading of d<N> gave.
	batches, entries int64
	seen             []Finding
}

func (a *segmentAudit) run(ctx context.Context) error {
	a.Segments++
	if a.s.sealed {
		if err := a.index(ctx); err != nil {
			return err
		}
	}
	f, err := a.l.o.FS.Open(a.l.dataPath(a.s.id), false)
	if errors.Is(err, vfs.ErrNotExist) {
		return a.absent(ctx)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for try := 1; ; try++ {
		holes, err := a.data(ctx, f)
		if err != nil {
			return err
		}
		// Each round must bring something back, else the copies are no better.
		again, err := a.holes(ctx, f, holes, a.Repair && try < maxMends)
		if err != nil {
			return err
		}
		if again {
			continue
		}
		a.settle()
		if len(holes) > 0 {
			return a.unreadable()
		}
		break
	}
	return a.compare(ctx, f)
}

// absent judges a segment without d<N>.
func (a *segmentAudit) absent(ctx context.Context) error {
	if a.l.vanished(vfs.ErrNotExist, a.s.id) {
		return nil
	}
	if !a.s.sealed {
		a.found(a.l.dataPath(a.s.id), 0, 0, errors.New("the file is missing"), "")
		return nil
	}
	a.Missing++
	if a.footErr == nil {
		return nil
	}
	what := fmt.Errorf("%w, and d%d is not here", a.footErr, a.s.id)
	done := ""
	if a.Repair {
		if err := a.remoteIndex(ctx); err != nil {
			what = fmt.Errorf("%w; its copy: %w", what, err)
		} else {
			done = "written again from the copy of " + a.s.id.DataName()
		}
	}
	a.found(a.l.indexPath(a.s.id), a.footAt, 0, what, done)
	return ctx.Err()
}

// settle takes over what the latest reading of d<N> gave.
func (a *segmentAudit) settle() {
	a.Batches += a.batches
	a.Entries += a.entries
	for _, f := range a.seen {
		a.Found(f)
	}
}

func (a *segmentAudit) found(file string, off, n int64, what error, done string) {
	a.Found(Finding{File: file, Offset: off, Length: n, What: what, Done: done})
}

// unreadable ends the audit of a segment whose d<N> stays damaged: i<N> cannot be made from it.
func (a *segmentAudit) unreadable() error {
	if a.footErr != nil {
		a.found(a.l.indexPath(a.s.id), a.footAt, 0, a.footErr, "")
	}
	return nil
}

// index reads i<N> and checks it against itself. Only errors of reading are returned.
func (a *segmentAudit) index(ctx context.Context) (err error) {
	path := a.l.indexPath(a.s.id)
	f, err := a.l.o.FS.Open(path, false)
	if errors.Is(err, vfs.ErrNotExist) {
		if !a.l.vanished(vfs.ErrNotExist, a.s.id) {
			a.footErr = errors.New("the file is missing")
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return err
	}
	if err := a.take(ctx, size); err != nil {
		return err
	}
	a.footErr = a.indexFile(f, size)
	if a.footErr != nil && !damaged(a.footErr) {
		return a.footErr
	}
	return nil
}

// damaged tells bytes that do not check, or are not there, from a file that cannot be read.
func damaged(err error) bool {
	return errors.Is(err, segfile.ErrFormat) || errors.Is(err, batch.ErrBad) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func (a *segmentAudit) indexFile(f vfs.File, size int64) error {
	foot, err := segfile.ReadFooterAt(f, size)
	if err != nil {
		a.footAt = max(0, size-16)
		return err
	}
	if foot.ID != a.s.id || foot.Namespace != a.l.o.Namespace {
		return fmt.Errorf("%w: footer of d%d of %q", segfile.ErrFormat, foot.ID, foot.Namespace)
	}
	rr, err := segfile.NewRecordReader(f, foot)
	if err != nil {
		return err
	}
	a.footAt = segfile.IndexHeaderSize
	for {
		r, err := rr.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, segfile.ErrFormat) {
			break
		}
		if err != nil {
			return err
		}
		a.footAt += segfile.RecordSize(len(r.Key))
	}
	if err := foot.VerifyIndex(f); err != nil {
		return err
	}
	a.footer = foot
	return nil
}

func (a *segmentAudit) take(ctx context.Context, n int64) error {
	a.Bytes += n
	if a.Take == nil {
		return ctx.Err()
	}
	return a.Take(ctx, a.s.id, n)
}
