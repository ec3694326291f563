package zdbfs

import (
	"context"
	"fmt"
	"sync"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// fetch is a part of a read that lies in a blob.
type fetch struct {
	blob uint64
	off  int64 // in its content
	p    []byte
}

const (
	readWorkers = 4 // blobs of one Read that are read at once: matters for what must come from the nodes
	readTries   = 4
)

// Read fills p from off and returns how many bytes there were before the end of the file. Holes are zeros. Content that
// is not on this machine is fetched, without any lock; what cannot be read is EIO, never zeros.
func (fs *FS) Read(ctx context.Context, ino Ino, h Handle, off int64, p []byte) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	in, err := fs.regular(ctx, ino)
	if err != nil {
		return 0, err
	}
	defer fs.table.unpin(in)
	for try := 1; ; try++ {
		n, again, err := fs.read(ctx, in, uint64(off), p)
		if again && try < readTries {
			continue
		}
		if err != nil {
			err = fmt.Errorf("read %s at %d: %w", fs.Path(ctx, ino), off, err)
		}
		return n, fs.errno(err)
	}
}

// read is one try. Between the look at the extents and the read of a blob the file may change and the blob be deleted:
// again says that a second try can help.
func (fs *FS) read(ctx context.Context, in *inode, off uint64, p []byte) (n int, again bool, err error) {
	in.mu.RLock()
	size, drops := in.a.Size, in.drops
	if off >= size {
		in.mu.RUnlock()
		return 0, false, nil
	}
	p = p[:min(uint64(len(p)), size-off)]
	// Memory first, rows after: what a flush moves from one to the other is seen at least once.
	gaps := in.runs.fill([]gap{{off, p}})
	gaps = in.flushing.fill(gaps)
	in.mu.RUnlock()
	fetches, err := fs.resolve(ctx, in, gaps)
	if err != nil {
		return 0, false, err
	}
	err = fs.fetchAll(ctx, fetches)
	in.mu.RLock()
	moved := in.drops != drops
	in.mu.RUnlock()
	if isNotFound(err) {
		return 0, true, fmt.Errorf("content is missing: %w", err)
	}
	return len(p), moved, err
}

// resolve fills gaps from rows and with zeros, and returns what lies in blobs.
func (fs *FS) resolve(ctx context.Context, in *inode, gaps []gap) ([]fetch, error) {
	if len(gaps) == 0 {
		return nil, nil
	}
	ctx = context.WithoutCancel(ctx)
	ino := uint64(in.ino)
	cut, dead := fs.table.cut(in.ino)
	it, err := fs.meta.iter(ctx, meta.ExtentKey(ino, gaps[0].off+1), meta.ExtentKey(ino+1, 0), false)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []fetch
	valid := it.Seek(meta.ExtentKey(ino, gaps[0].off+1))
	var e meta.Extent
	loaded := false
	for _, g := range gaps {
		clear(g.p)
		end := g.off + uint64(len(g.p))
		if loaded && e.End <= g.off {
			loaded = false
			valid = it.Seek(meta.ExtentKey(ino, g.off+1))
		}
		for {
			if !loaded {
				if !valid {
					break
				}
				if e, err = extentAt(it); err != nil {
					return nil, err
				}
				loaded = true
			}
			if e.Start >= end || dead && e.End > cut {
				break
			}
			from, to := max(e.Start, g.off), min(e.End, end)
			dst := g.p[from-g.off : to-g.off]
			switch e.Kind {
			case meta.ExtentInline:
				copy(dst, e.Inline[from-e.Start:])
			case meta.ExtentBlob:
				out = append(out, fetch{e.Blob, int64(uint64(e.Skip) + from - e.Start), dst})
			}
			if e.End >= end {
				break
			}
			loaded = false
			valid = it.Next()
		}
	}
	return out, it.Err()
}

func (fs *FS) fetchAll(ctx context.Context, fetches []fetch) error {
	if len(fetches) <= 1 {
		for _, f := range fetches {
			return fs.fetch(ctx, f)
		}
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	work := make(chan fetch)
	for range min(readWorkers, len(fetches)) {
		wg.Go(func() {
			for f := range work {
				if err := fs.fetch(ctx, f); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for _, f := range fetches {
		select {
		case work <- f:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

func (fs *FS) fetch(ctx context.Context, f fetch) error {
	n, err := fs.data.ReadRange(ctx, meta.BlobKey(f.blob), meta.BlobHeaderLen+f.off, f.p)
	if err != nil {
		return fmt.Errorf("blob %d: %w", f.blob, err)
	}
	if n != len(f.p) {
		return fmt.Errorf("%w: blob %d gave %d of %d bytes", meta.ErrFormat, f.blob, n, len(f.p))
	}
	return nil
}
