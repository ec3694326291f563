package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"qsfs/zdb"
	"qsfs/zdb/segfile"
)

// A restorer brings data segments that are not there back with the help of the hook program. What comes back is checked as
// a whole against its index segment before anything of it is served.
type restorer struct {
	o     Options
	hooks *hooks

	mu    sync.Mutex
	files map[string]*restored // by path
}

// restored is a data segment that was missing. Only those who want to read it wait for the hook.
type restored struct {
	mu   sync.Mutex
	info fs.FileInfo // as it was checked; nil: not yet
	err  error       // what the check found
}

var errNotRestored = errors.New("the data segment is missing, and the hook did not bring it back")

// fetch is the engine's zdb.FetchFunc.
func (r *restorer) fetch(ctx context.Context, namespace string, id zdb.SegmentID, off, n int64) ([]byte, error) {
	dir, err := zdb.DirName(namespace)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(r.o.DataDir, dir, id.DataName())
	r.mu.Lock()
	file := r.files[path]
	if file == nil {
		file = &restored{}
		r.files[path] = file
	}
	r.mu.Unlock()

	f, err := file.open(ctx, r.hooks, path, filepath.Join(r.o.IndexDir, dir, id.IndexName()))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := make([]byte, n)
	if _, err := f.ReadAt(p, off); err != nil {
		return nil, fmt.Errorf("read the restored segment: %w", err)
	}
	return p, nil
}

// open opens the segment, restored and checked.
func (r *restored) open(ctx context.Context, h *hooks, path, index string) (*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		r.info = nil
		if h.ask(ctx, hookMissing, path) != 0 {
			return nil, errNotRestored
		}
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	if err := r.check(f, index); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// check verifies a file once.
func (r *restored) check(f *os.File, index string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if r.info == nil || !os.SameFile(r.info, info) || !r.info.ModTime().Equal(info.ModTime()) || r.info.Size() != info.Size() {
		r.info, r.err = info, verifySegment(f, index)
	}
	return r.err
}

func verifySegment(data *os.File, index string) error {
	i, err := os.Open(index)
	if err != nil {
		return err
	}
	defer i.Close()
	info, err := i.Stat()
	if err != nil {
		return err
	}
	footer, err := segfile.ReadFooterAt(i, info.Size())
	if err != nil {
		return err
	}
	return footer.Verify(data)
}
