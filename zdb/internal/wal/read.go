package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// ReadValue reads len(p) bytes at off of the value at loc. What is read here is
// checked block by block; what is not here, or does not check, is fetched: only its own bytes.
func (l *Log) ReadValue(ctx context.Context, loc segfile.Location, off int64, p []byte) error {
	if off < 0 || off+int64(len(p)) > int64(loc.Length) {
		return fmt.Errorf("%w: %d+%d of %v", ErrRange, off, len(p), loc)
	}
	if len(p) == 0 {
		return nil
	}
	handle, err := l.open(loc)
	if errors.Is(err, vfs.ErrNotExist) {
		if l.removed(loc.Segment) {
			return fmt.Errorf("%w: %v", ErrSegment, loc)
		}
		q, err := l.fetch(ctx, loc.Segment, loc.Offset+off, int64(len(p)))
		if err != nil && l.removed(loc.Segment) {
			return fmt.Errorf("%w: %v", ErrSegment, loc) // meanwhile, and its copy with it
		}
		copy(p, q)
		return err
	}
	if err != nil {
		return err
	}
	bad, err := readChecked(handle, loc, off, p)
	if rerr := handle.Release(); rerr != nil && err == nil && bad < 0 {
		err = rerr
	}
	if err == nil && bad < 0 {
		return nil
	}
	if err == nil {
		err = &segfile.CorruptionError{File: l.dataPath(loc.Segment), Offset: bad, Err: errors.New("block checksum")}
	} else {
		err = fmt.Errorf("read %v: %w", loc, err)
	}
	q, ferr := l.fetch(ctx, loc.Segment, loc.Offset+off, int64(len(p)))
	if ferr != nil {
		return fmt.Errorf("%w (its copy: %w)", err, ferr)
	}
	l.o.Log.Warn("served from the copy", "namespace", l.o.Namespace, "value", loc.String(), "error", err)
	copy(p, q)
	return nil
}

// open gives the data segment of a location, with one user more.
func (l *Log) open(loc segfile.Location) (*Handle, error) {
	l.mu.Lock()
	s := l.segments[loc.Segment]
	if s == nil {
		l.mu.Unlock()
		if l.missing(loc.Segment, loc.Segment) != nil {
			return nil, vfs.ErrNotExist // somebody may have a copy
		}
		return nil, fmt.Errorf("%w: %v", ErrSegment, loc)
	}
	limit := s.length
	var handle *Handle
	if s == l.active {
		limit = l.head.Offset
		handle = s.handle.Retain()
	}
	local := s.local
	l.mu.Unlock()
	if loc.Offset < segfile.HeaderSize || loc.End() > limit {
		err := fmt.Errorf("%w: %v of %d bytes", ErrRange, loc, limit)
		if handle != nil {
			err = errors.Join(err, handle.Release())
		}
		return nil, err
	}
	switch {
	case handle != nil:
		return handle, nil
	case !local:
		return nil, vfs.ErrNotExist
	}
	return l.acquire(s)
}

// acquire opens d<N> of a segment for reading, or gives the open file, with one user more.
func (l *Log) acquire(s *segment) (*Handle, error) {
	path := s.path
	handle, err := l.o.Handles.Acquire(path)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	s = l.segments[s.id]
	stays := s != nil && s.local && !l.closed
	l.mu.Unlock()
	if !stays {
		// Evicted, removed or closed just now: this reader goes on, but nobody keeps the file open behind it, which the
		// next one of that name is not.
		if err := l.o.Handles.Forget(path); err != nil {
			return nil, errors.Join(err, handle.Release())
		}
	}
	return handle, nil
}

// oneRead is the longest value, with its sums, that is read in one piece although its blocks could go to where they are
// wanted.
const oneRead = batch.BlockSize + 64

// windows are what was read and is copied out of.
var windows = sync.Pool{New: func() any { return new([oneRead]byte) }}

// readChecked reads blocks and their sums and copies the range out. bad ≥ 0 is
// the place in the file of a block that does not check.
func readChecked(r io.ReaderAt, loc segfile.Location, off int64, p []byte) (bad int64, err error) {
	w := batch.Cover(loc, off, len(p))
	skip := off - int64(w.First)*batch.BlockSize
	direct := skip == 0 && len(p) == w.DataLen
	between := int(w.Data-w.Sums) - w.SumsLen
	var sums, data []byte
	whole := w.SumsLen + between + w.DataLen
	if between <= batch.BlockSize && (!direct || whole <= oneRead) {
		// Sums and blocks lie close together: one read. To copy a small value costs less than a second call.
		var got []byte
		if whole <= oneRead {
			buf := windows.Get().(*[oneRead]byte)
			defer windows.Put(buf)
			got = buf[:whole]
		} else {
			got = make([]byte, whole)
		}
		if _, err := r.ReadAt(got, w.Sums); err != nil {
			return -1, err
		}
		sums, data = got[:w.SumsLen], got[w.SumsLen+between:]
		direct = false
	} else {
		sums, data = make([]byte, w.SumsLen), p
		if !direct {
			data = make([]byte, w.DataLen)
		}
		if _, err := r.ReadAt(sums, w.Sums); err != nil {
			return -1, err
		}
		if _, err := r.ReadAt(data, w.Data); err != nil {
			return -1, err
		}
	}
	if at := batch.Check(sums, data); at >= 0 {
		return w.Data + int64(at), nil
	}
	if !direct {
		copy(p, data[skip:])
	}
	return -1, nil
}

// ReadKey reads the key of n bytes that stands before the value at loc. Nothing here says that it is one: the caller must
// know from elsewhere what it has to be, as its checksum.
func (l *Log) ReadKey(loc segfile.Location, n int) ([]byte, error) {
	at := loc.Offset - int64(batch.Head(loc.Length)) - int64(n)
	if at < segfile.HeaderSize {
		return nil, fmt.Errorf("%w: key of %v", ErrRange, loc)
	}
	handle, err := l.open(loc)
	if err != nil {
		return nil, err
	}
	key := make([]byte, n)
	_, err = handle.ReadAt(key, at)
	return key, errors.Join(err, handle.Release())
}
