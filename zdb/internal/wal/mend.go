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

// holes brings the damaged parts of d<N> back from their copies, and reports them. again says that something came
// back, so that the segment must be read again before the rest is judged.
func (a *segmentAudit) holes(ctx context.Context, f vfs.File, holes []hole, restore bool) (again bool, err error) {
	var left []Finding
	for _, h := range holes {
		fnd := Finding{File: a.l.dataPath(a.s.id), Offset: h.from, Length: h.to - h.from, What: h.err}
		if err := a.keysIn(h, &fnd); err != nil {
			return again, err
		}
		if restore {
			err := a.l.restore(ctx, f, &tail{seg: &segment{id: a.s.id, inc: a.s.inc}, bound: h.to}, h.from)
			if err == nil {
				fnd.Done, again = "restored from the copy", true
				a.Found(fnd)
				continue
			}
			fnd.What = fmt.Errorf("%w; its copy: %w", h.err, err)
		}
		left = append(left, fnd)
		if ctx.Err() != nil {
			return again, ctx.Err()
		}
	}
	if !again {
		a.seen = append(a.seen, left...)
	}
	return again, nil
}

// keysIn names the entries that lie in a hole, as far as i<N> can be used.
func (a *segmentAudit) keysIn(h hole, fnd *Finding) error {
	if !a.s.sealed || a.footErr != nil || a.footer.Incarnation != a.s.inc {
		return nil
	}
	return a.l.records(a.s, func(r segfile.Record) error {
		if start, end := extent(r); start < h.to && h.from < end {
			if fnd.Entries++; len(fnd.Keys) < findingKeys {
				fnd.Keys = append(fnd.Keys, append([]byte(nil), r.Key...))
			}
		}
		return nil
	})
}

// extent is where the whole entry of a record lies.
func extent(r segfile.Record) (start, end int64) {
	start = r.Offset - int64(batch.EntrySize(len(r.Key), int(r.Length))) + int64(r.Length)
	if r.Moved {
		start -= 16
	}
	return start, r.Offset + int64(r.Length)
}

// records calls fn for each record of i<N>.
func (l *Log) records(s *segment, fn func(segfile.Record) error) (err error) {
	f, err := l.o.FS.Open(l.indexPath(s.id), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return err
	}
	foot, err := segfile.ReadFooterAt(f, size)
	if err != nil {
		return err
	}
	rr, err := segfile.NewRecordReader(f, foot)
	if err != nil {
		return err
	}
	for {
		r, err := rr.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, segfile.ErrFormat) {
			return nil
		}
		if err == nil {
			err = fn(r)
		}
		if err != nil {
			return err
		}
	}
}

// pieces compares d<N>, whose own sums check, with those of the footer. A difference that its own sums do not show is
// still damage: same says that there is none.
func (a *segmentAudit) pieces(ctx context.Context, data vfs.File) (same bool, err error) {
	same = true
	buf := make([]byte, segfile.PieceSize)
	for i := range a.footer.PieceSums {
		off, n := a.footer.PieceRange(i)
		if _, err := data.ReadAt(buf[:n], off); err != nil {
			return false, err
		}
		what := a.footer.VerifyPiece(i, buf[:n])
		if what == nil {
			continue
		}
		same = false
		done := ""
		if a.Repair {
			if err := a.restorePiece(ctx, i); err != nil {
				what = fmt.Errorf("%w; its copy: %w", what, err)
			} else {
				done = "restored from the copy"
			}
		}
		a.found(a.l.dataPath(a.s.id), off, n, what, done)
	}
	return same, nil
}

func (a *segmentAudit) restorePiece(ctx context.Context, i int) error {
	off, n := a.footer.PieceRange(i)
	p, err := a.l.fetch(ctx, a.s.id, off, n)
	if err != nil {
		return err
	}
	if err := a.footer.VerifyPiece(i, p); err != nil {
		return err
	}
	f, err := a.l.o.FS.Open(a.l.dataPath(a.s.id), true)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(p, off); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// remake writes i<N> again from data, which holds d<N>, and checks that it can be read.
func (l *Log) remake(s *segment, data io.ReaderAt) (int64, error) {
	size, err := l.writeIndex(s, data)
	if err != nil {
		return 0, err
	}
	if _, _, err := l.readFooter(s.id); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.segments[s.id]; now != nil {
		now.sealed, now.indexSize = true, size
	}
	return size, nil
}

// RemakeIndex writes i<N> of a sealed segment again from its d<N>.
func (l *Log) RemakeIndex(ctx context.Context, id segfile.ID) error {
	for _, s := range l.durableSegments() {
		if s.id != id || !s.sealed {
			continue
		}
		f, err := l.o.FS.Open(l.dataPath(id), false)
		if errors.Is(err, vfs.ErrNotExist) {
			a := segmentAudit{Audit: &Audit{}, l: l, s: s}
			return a.remoteIndex(ctx)
		}
		if err != nil {
			return err
		}
		_, err = l.remake(s, f)
		return errors.Join(err, f.Close())
	}
	return fmt.Errorf("%w: %d", ErrSegment, id)
}

// remoteIndex writes i<N> again from the copy of a d<N> that is not here. d<N> stays where it is.
func (a *segmentAudit) remoteIndex(ctx context.Context) error {
	length := a.s.length
	if length == 0 {
		return errors.New("how long d" + a.s.id.String() + " is, nobody says")
	}
	p := make([]byte, 0, length)
	for int64(len(p)) < length {
		part, err := a.l.fetch(ctx, a.s.id, int64(len(p)), min(length-int64(len(p)), batch.MaxValue))
		if err != nil {
			return err
		}
		p = append(p, part...)
	}
	h, err := segfile.ParseHeader(p)
	if err != nil {
		return err
	}
	if h.ID != a.s.id || a.s.inc != (segfile.Incarnation{}) && a.s.inc != h.Incarnation {
		return fmt.Errorf("%w: the copy is another segment", segfile.ErrFormat)
	}
	a.s.inc = h.Incarnation
	_, err = a.l.remake(a.s, shifted{p, 0})
	return err
}
