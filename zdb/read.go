package zdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/overlay"
)

// found is an entry before its value is read.
type found struct {
	Entry
	inline bool
}

// find looks a key up in the overlay, newest generation first, and then in the index.
func (n *Namespace) find(ctx context.Context, key []byte) (found, error) {
	// In this order: what a newer view has dropped is in the index by then.
	version, v := n.visible.Load(), n.view.Load()
	for _, g := range v.tables {
		if e, ok := g.Get(key, version); ok {
			return fromOverlay(e)
		}
	}
	if v.memory != nil {
		if e, ok := v.memory.Get(key, ^uint64(0)); ok {
			return fromOverlay(e)
		}
		return found{}, ErrNotFound
	}
	for tried := false; ; tried = true {
		e, ok, err := n.lookUp(ctx, key)
		switch {
		case errors.Is(err, index.ErrBroken) && !tried:
			continue
		case errors.Is(err, ErrNoSpace):
			if merr := n.toMemory(ctx, err); merr != nil {
				return found{}, merr
			}
			return n.find(ctx, key)
		case err != nil:
			return found{}, err
		case !ok:
			return found{}, ErrNotFound
		}
		return found{Entry{
			Key: key, Value: e.Value, Seq: e.Seq, Time: time.Unix(0, e.Time), Location: e.Location,
		}, e.Inline}, nil
	}
}

func fromOverlay(e *overlay.Entry) (found, error) {
	if e.Delete {
		return found{}, ErrNotFound
	}
	return found{Entry{
		Key: e.Key, Value: e.Value, Seq: e.Seq, Time: time.Unix(0, e.Time), Location: e.Location,
	}, e.Inline}, nil
}

func (n *Namespace) lookUp(ctx context.Context, key []byte) (index.Entry, bool, error) {
	if n.isClosed() {
		return index.Entry{}, false, ErrClosed
	}
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return index.Entry{}, false, err
	}
	e, ok, err := x.Get(key)
	if rerr := x.Release(); err == nil {
		err = rerr
	}
	return e, ok, err
}

// Get gives the newest value of key, with what was committed before the call.
// ErrNotFound means that there is none; a value that cannot be read is another error.
func (n *Namespace) Get(ctx context.Context, key []byte) (Entry, error) {
	for tries := 0; ; tries++ {
		f, err := n.find(ctx, key)
		if err != nil {
			return Entry{}, n.keyError(err)
		}
		e, err := n.complete(ctx, f)
		if err == nil || tries >= moveTries || !errors.Is(err, ErrSegment) {
			return e, err
		}
	}
}

// moveTries is how often a key is looked up again whose place was compacted away before it could be read.
const moveTries = 16

// complete reads the value where it is not at hand.
func (n *Namespace) complete(ctx context.Context, f found) (Entry, error) {
	if !f.inline {
		f.Value = make([]byte, f.Location.Length)
		if err := n.log.ReadValue(ctx, f.Location, 0, f.Value); err != nil {
			return Entry{}, n.public(err)
		}
	}
	return f.Entry, nil
}

// keyError leaves ErrNotFound as it is: it is no fault.
func (n *Namespace) keyError(err error) error {
	if err == ErrNotFound {
		return err
	}
	return n.public(err)
}

// Has says whether key has a value, without reading it.
func (n *Namespace) Has(ctx context.Context, key []byte) (bool, error) {
	_, err := n.find(ctx, key)
	if err == ErrNotFound {
		return false, nil
	}
	return err == nil, n.keyError(err)
}

// Locate is Get without the value, unless the value is at hand.
func (n *Namespace) Locate(ctx context.Context, key []byte) (Entry, error) {
	f, err := n.find(ctx, key)
	return f.Entry, n.keyError(err)
}

// ReadRange reads up to len(p) bytes at off of the value of key. It returns
// fewer only at the end of the value, without an error, and ErrRange when off is behind it.
func (n *Namespace) ReadRange(ctx context.Context, key []byte, off int64, p []byte) (int, error) {
	for tries := 0; ; tries++ {
		f, err := n.find(ctx, key)
		if err != nil {
			return 0, n.keyError(err)
		}
		got, err := n.readRange(ctx, f, off, p)
		if err == nil || tries >= moveTries || !errors.Is(err, ErrSegment) {
			return got, err
		}
	}
}

func (n *Namespace) readRange(ctx context.Context, f found, off int64, p []byte) (int, error) {
	length := int64(f.Location.Length)
	if off < 0 || off > length {
		return 0, n.public(fmt.Errorf("%w: offset %d of %d", ErrRange, off, length))
	}
	p = p[:min(int64(len(p)), length-off)]
	if f.inline {
		return copy(p, f.Value[off:]), nil
	}
	if err := n.log.ReadValue(ctx, f.Location, off, p); err != nil {
		return 0, n.public(err)
	}
	return len(p), nil
}

// ReadLocation reads all of p at off of the value at l, which came from a Commit, an Entry
// or a Version of this namespace. ErrSegment says that compaction has taken the place away; a Hold prevents that. Only the blocks that hold the range are read and checked; of an evicted segment only
// the range itself is fetched.
func (n *Namespace) ReadLocation(ctx context.Context, l Location, off int64, p []byte) (int, error) {
	if n.isClosed() {
		return 0, n.public(ErrClosed)
	}
	if err := n.log.ReadValue(ctx, l, off, p); err != nil {
		return 0, n.public(err)
	}
	return len(p), nil
}

// KeyAt reads back from the log the key of n bytes whose value is, or was, at l. It works for entries that were replaced
// or deleted since, as long as their segment is here. The key is not checked: whoever asks must know its checksum.
func (n *Namespace) KeyAt(l Location, length int) ([]byte, error) {
	if n.isClosed() {
		return nil, n.public(ErrClosed)
	}
	if length < 1 || length > MaxKeySize {
		return nil, n.public(fmt.Errorf("%w: %d bytes", ErrKey, length))
	}
	key, err := n.log.ReadKey(l, length)
	return key, n.public(err)
}
