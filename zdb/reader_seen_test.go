package zdb

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// readerSeen counts what the script has met: a path that was not taken proves nothing.
type readerSeen struct {
	runs, moved, deletes, overwritten, rewritten, batches, zeros, removed, absent, torn, behind, unsealed, damaged, behindMarker int
}

// look counts what lies in the directories.
func (s *readerSeen) look(t *testing.T, data, index string) {
	t.Helper()
	s.runs++
	keys := make(map[string]bool)
	if p, err := os.ReadFile(filepath.Join(data, "removed")); err == nil {
		s.removed += (len(p) - 20) / 8
	}
	names, err := filepath.Glob(filepath.Join(data, "d*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range names {
		_, id, ok := segfile.ParseName(filepath.Base(path))
		if !ok {
			continue // written aside
		}
		f, err := vfs.OS.Open(path, false)
		if err != nil {
			t.Fatal(err)
		}
		h, size := headerOf(t, f)
		if _, err := os.Stat(filepath.Join(index, id.IndexName())); err != nil {
			s.unsealed++
		}
		r := batch.NewReader(f, h.ID, h.Incarnation, segfile.HeaderSize, size)
		var stop error
		marker := false
		for {
			b, err := r.Next()
			if err != nil {
				stop = err
				break
			}
			s.note(b, keys)
			if marker {
				s.behindMarker++
			}
			marker = b.Count == 0
		}
		if errors.Is(stop, batch.ErrBad) {
			rest := make([]byte, size-r.Offset())
			if _, err := f.ReadAt(rest, r.Offset()); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if len(bytes.Trim(rest, "\x00")) == 0 {
				s.zeros++
			}
			if at, err := batch.Find(f, h.ID, h.Incarnation, r.Offset(), size); err != nil {
				t.Fatal(err)
			} else if at > 0 {
				s.behind++
			}
		}
		_ = f.Close()
	}
}

func (s *readerSeen) note(b *batch.Batch, keys map[string]bool) {
	if b.Count > 1 {
		s.batches++
	}
	if b.Flags&batch.Rewritten != 0 {
		s.rewritten++
	}
	for _, e := range b.Entries {
		if e.Moved {
			s.moved++
		}
		if e.Delete {
			s.deletes++
		}
		if keys[string(e.Key)] {
			s.overwritten++
		}
		keys[string(e.Key)] = true
	}
}

func headerOf(t *testing.T, f vfs.File) (segfile.Header, int64) {
	t.Helper()
	h, err := segfile.ReadHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	return h, size
}
