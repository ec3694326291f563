package wal

import (
	"errors"
	"fmt"
	"io"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/segfile"
)

// describe reads d<N> once and writes i<N> with a footer of the given version into f. It reads what the disk or the page
// cache has and not what the writer knew, and checks every batch: after this the only copy may be another machine's.
func (l *Log) describe(s *segment, data io.ReaderAt, f io.WriterAt, version uint16) (int64, error) {
	in := &summed{ReaderAt: data, sums: segfile.NewSummer(version)}
	r := batch.NewReader(in, s.id, s.inc, 0, s.length)
	head, err := r.Skip(segfile.HeaderSize)
	if err != nil {
		return 0, err
	}
	h, err := segfile.ParseHeader(head)
	if err != nil {
		return 0, &segfile.CorruptionError{File: l.dataPath(s.id), Err: err}
	}
	w := newIndexWriter(f)
	w.write(segfile.AppendIndexHeader(nil, s.id, s.inc))
	// Only what d<N> says goes into i<N>: it can be made again from d<N>, byte for byte.
	seen := &segment{next: h.NextSeq, needs: h.Needs, session: h.Session}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, batch.ErrBad) {
			return 0, &segfile.CorruptionError{File: l.dataPath(s.id), Offset: r.Offset(), Err: err}
		}
		if err != nil {
			return 0, err
		}
		seen.note(b)
		for i := range b.Entries {
			e := &b.Entries[i]
			w.record(segfile.Record{
				Key: e.Key, Seq: e.Seq, Time: e.Time, Delete: e.Delete, Moved: e.Moved, Given: e.Given,
				Offset: e.Offset, Length: uint32(len(e.Value)), Sum: e.Sum,
			})
		}
	}
	if in.sums.Len() != s.length {
		return 0, fmt.Errorf("d%d: %d of %d bytes are summed", s.id, in.sums.Len(), s.length)
	}
	footer := segfile.Footer{
		Version: version, Namespace: l.o.Namespace, ID: s.id, Incarnation: s.inc, Session: seen.session, DataLength: s.length,
		FirstSeq: seen.first, LastSeq: seen.last, NextSeq: seen.next, Needs: seen.needs, Sessions: seen.sessions,
	}
	footer.PieceSums, footer.Sum = in.sums.Sums()
	return w.finish(footer)
}

// summed sums what is read through it, as long as that is one byte after the other.
type summed struct {
	io.ReaderAt
	sums *segfile.Summer
}

func (s *summed) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(p, off)
	if off == s.sums.Len() {
		_, _ = s.sums.Write(p[:n])
	}
	return n, err
}
