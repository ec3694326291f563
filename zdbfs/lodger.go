package zdbfs

import (
	"context"
	"errors"
	"sync"
	"syscall"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

// lodgers moves content that small fsyncs left in E rows to zdbfs-data, once the segment of zdbfs-meta that holds it is
// sealed: metadata is never evicted, and a database would otherwise live there for ever. L rows list such extents.
type lodgers struct {
	mu   sync.Mutex
	upTo zdb.Seq
	wake chan struct{}
}

// moveUpTo asks to move what was written up to seq.
func (l *lodgers) moveUpTo(seq zdb.Seq) {
	l.mu.Lock()
	l.upTo = max(l.upTo, seq)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (fs *FS) lodgerLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-fs.lodgers.wake:
		}
		fs.lodgers.mu.Lock()
		upTo := fs.lodgers.upTo
		fs.lodgers.mu.Unlock()
		if err := fs.moveLodgers(ctx, upTo); err != nil && ctx.Err() == nil {
			fs.complain("content in the metadata log cannot be moved now", err)
		}
	}
}

// moveLodgers moves every inline extent written up to seq.
func (fs *FS) moveLodgers(ctx context.Context, upTo zdb.Seq) error {
	from := []byte{meta.KindLodger}
	for from != nil && ctx.Err() == nil {
		var err error
		if from, err = fs.moveSome(ctx, from, upTo); err != nil {
			return err
		}
	}
	return nil
}

// moveSome moves those of one inode, up to a bound, and returns where to go on.
func (fs *FS) moveSome(ctx context.Context, from []byte, upTo zdb.Seq) (next []byte, err error) {
	it, err := fs.meta.iter(ctx, from, []byte{meta.KindLodger + 1}, true)
	if err != nil {
		return nil, err
	}
	var ino uint64
	var ends []uint64
	for ok := it.Seek(from); ok; ok = it.Next() {
		k, err := meta.ParseKey(it.Key())
		if err != nil {
			it.Close()
			return nil, err
		}
		if len(ends) > 0 && k.A != ino || len(ends) == 256 {
			next = append([]byte(nil), it.Key()...)
			break
		}
		if e, err := it.Entry(); err != nil {
			it.Close()
			return nil, err
		} else if e.Seq > upTo {
			continue
		}
		ino = k.A
		ends = append(ends, k.B)
	}
	err = it.Err()
	it.Close() // not kept open over the move: it holds old versions alive
	if err != nil || len(ends) == 0 {
		return next, err
	}
	in, err := fs.inode(ctx, Ino(ino))
	if errors.Is(err, syscall.ESTALE) {
		return next, nil // freed meanwhile, its rows go with it
	} else if err != nil {
		return next, err
	}
	defer fs.table.unpin(in)
	if err := fs.moveInline(ctx, in, ends); !errors.Is(err, syscall.ESTALE) {
		return next, err
	}
	return next, nil
}

// moveInline puts the inline extents of in that end at ends into blobs; neighbours share one. Nothing that stat shows
// changes.
func (fs *FS) moveInline(ctx context.Context, in *inode, ends []uint64) error {
	in.io.Lock()
	defer in.io.Unlock()
	var set runSet
	for _, end := range ends {
		e, err := fs.meta.Get(ctx, meta.ExtentKey(uint64(in.ino), end))
		if isNotFound(err) {
			continue
		} else if err != nil {
			return err
		}
		x, err := meta.DecodeExtent(end, e.Value)
		if err != nil {
			return err
		}
		if cut, dead := fs.table.cut(in.ino); dead && end > cut || x.Kind != meta.ExtentInline {
			continue
		}
		set.write(x.Start, x.Inline)
	}
	if set.empty() {
		return nil
	}
	return fs.commitRuns(ctx, in, set, flushBlobs)
}
