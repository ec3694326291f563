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

// restore brings the damaged range that begins at bad back from the copy on the
// nodes. It is written only if it checks, so a wrong copy changes nothing.
func (l *Log) restore(ctx context.Context, f vfs.File, t *tail, bad int64) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	end := t.bound
	if bad < segfile.HeaderSize {
		end = segfile.HeaderSize
	} else {
		next, err := batch.Find(f, t.seg.id, t.seg.inc, bad+1, size)
		if err != nil {
			return err
		}
		if next >= 0 {
			end = min(end, next)
		}
	}
	p := make([]byte, 0, min(end-bad, 64<<20))
	for off := bad; off < end; {
		part, err := l.fetch(ctx, t.seg.id, off, min(end-off, batch.MaxValue))
		if err != nil {
			return err
		}
		p = append(p, part...)
		off += int64(len(part))
	}
	if err := checkRange(t, bad, p); err != nil {
		return err
	}
	w, err := l.o.FS.Open(l.dataPath(t.seg.id), true)
	if err != nil {
		return err
	}
	if _, err = w.WriteAt(p, bad); err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("write the restored range: %w", err)
	}
	l.o.Log.Warn("damaged range restored from its copy", "namespace", l.o.Namespace, "segment", t.seg.id, "offset", bad, "bytes", len(p))
	return nil
}

// checkRange says whether p, to stand at off, is a header or whole batches.
func checkRange(t *tail, off int64, p []byte) error {
	if off < segfile.HeaderSize {
		h, err := segfile.ParseHeader(p)
		if err == nil && h.ID != t.seg.id {
			err = fmt.Errorf("%w: header of segment %d", segfile.ErrFormat, h.ID)
		}
		return err
	}
	r := batch.NewReader(shifted{p, off}, t.seg.id, t.seg.inc, off, off+int64(len(p)))
	for {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// shifted reads p as if it stood at off of a file.
type shifted struct {
	p   []byte
	off int64
}

func (s shifted) ReadAt(q []byte, off int64) (int, error) {
	at := off - s.off
	if at < 0 || at > int64(len(s.p)) {
		return 0, io.EOF
	}
	n := copy(q, s.p[at:])
	if n < len(q) {
		return n, io.EOF
	}
	return n, nil
}

// fetch asks whoever has a copy for n bytes of d<id>.
func (l *Log) fetch(ctx context.Context, id segfile.ID, off, n int64) ([]byte, error) {
	missing := &segfile.MissingError{Namespace: l.o.Namespace, Segment: id}
	if l.o.Fetch == nil {
		missing.Err = errors.New("nobody to ask")
		return nil, missing
	}
	ctx, cancel := context.WithTimeout(ctx, l.o.FetchTimeout)
	defer cancel()
	p, err := l.o.Fetch(ctx, l.o.Namespace, id, off, n)
	if err == nil && int64(len(p)) != n {
		err = fmt.Errorf("%d bytes came instead of %d", len(p), n)
	}
	if err != nil {
		missing.Err = err
		return nil, missing
	}
	l.count.Fetches.Add(1)
	l.count.FetchedBytes.Add(uint64(n))
	return p, nil
}
