package zdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/overlay"
)

// Iter walks the keys of a namespace in order, as they were when it was made. It
// stands nowhere until First or Seek. It is not safe for concurrent use, and must be closed.
type Iter struct {
	n     *Namespace
	ctx   context.Context
	o     IterOptions
	over  []*overlay.Iter // newest generation first
	snap  *index.Snapshot
	base  index.Walker
	hold  uint64
	open  bool
	key   []byte // nil: not on a key
	at    *overlay.Entry
	entry index.Entry // when at is nil
	err   error
}

// NewIter returns an iterator over the keys in the bounds, consistent with one
// moment between the call and its return.
func (n *Namespace) NewIter(ctx context.Context, o IterOptions) (*Iter, error) {
	if o.At != 0 && !n.keep.pinned(o.At) {
		return nil, n.public(fmt.Errorf("%w: %v", ErrNotKept, o.At))
	}
	// Before anything is looked at: what it will refer to must not be removed.
	it := &Iter{n: n, ctx: ctx, o: o, hold: n.holds.enter()}
	if err := n.snapshot(ctx, it); err != nil {
		n.holds.leave(it.hold)
		return nil, n.public(err)
	}
	it.open = true
	switch {
	case it.snap == nil:
	case o.At != 0:
		it.base = it.snap.NewIterAt(o.Reverse, o.At)
	default:
		it.base = it.snap.NewIter(o.Reverse)
	}
	return it, nil
}

// top is the highest sequence that it shows.
func (it *Iter) top() Seq {
	if it.o.At != 0 {
		return it.o.At
	}
	return ^Seq(0)
}

// snapshot takes overlay and index at the same moment.
func (n *Namespace) snapshot(ctx context.Context, it *Iter) error {
	for {
		if n.isClosed() {
			return ErrClosed
		}
		if it.o.At == 0 && n.overMemory(it) {
			return nil
		}
		x, err := n.acquireIndex(ctx)
		if errors.Is(err, ErrNoSpace) && it.o.At == 0 {
			err = n.toMemory(ctx, err)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		n.snapMu.RLock()
		n.idxMu.Lock()
		same := n.idx == x
		n.idxMu.Unlock()
		if same {
			version := n.visible.Load()
			for _, g := range n.view.Load().tables {
				it.over = append(it.over, g.NewIterAt(version, it.top()))
			}
			it.snap = x.Snapshot()
		}
		n.snapMu.RUnlock()
		if err := x.Release(); err != nil || same {
			return err
		}
	}
}

// overMemory takes a snapshot without the index, where memory stands in for it.
func (n *Namespace) overMemory(it *Iter) bool {
	n.snapMu.RLock()
	defer n.snapMu.RUnlock()
	v := n.view.Load()
	if v.memory == nil {
		return false
	}
	version := n.visible.Load()
	for _, g := range v.tables {
		it.over = append(it.over, g.NewIter(version))
	}
	it.over = append(it.over, v.memory.NewIter(^uint64(0)))
	return true
}

// First stands on the first key, in the direction of the iterator.
func (it *Iter) First() bool { return it.Seek(nil) }

// Seek stands on the first key ≥ key, or in reverse on the last key ≤ key,
// within the bounds. nil is the start.
func (it *Iter) Seek(key []byte) bool {
	if it.o.Reverse {
		return it.seekReverse(key)
	}
	if key == nil || it.o.Lower != nil && bytes.Compare(key, it.o.Lower) < 0 {
		key = it.o.Lower
	}
	for _, o := range it.over {
		o.SeekGE(key)
	}
	if it.base != nil {
		it.base.Seek(key)
	}
	return it.settle()
}

func (it *Iter) seekReverse(key []byte) bool {
	exclusive := false
	if it.o.Upper != nil && (key == nil || bytes.Compare(key, it.o.Upper) >= 0) {
		key, exclusive = it.o.Upper, true
	}
	below := key // SeekLT takes what is below; the key itself counts unless it is the upper bound
	if key != nil && !exclusive {
		below = append(bytes.Clone(key), 0)
	}
	for _, o := range it.over {
		o.SeekLT(below)
	}
	if it.base != nil {
		it.base.Seek(key)
		if exclusive && it.base.Valid() && bytes.Equal(it.base.Key(), key) {
			it.base.Next()
		}
	}
	return it.settle()
}

// Next goes to the next key in the direction of the iterator.
func (it *Iter) Next() bool {
	if it.key == nil {
		return false
	}
	it.pass()
	return it.settle()
}

// pass moves every source that stands on the present key.
func (it *Iter) pass() {
	for _, o := range it.over {
		if e := o.Entry(); e != nil && bytes.Equal(e.Key, it.key) {
			if it.o.Reverse {
				o.Prev()
			} else {
				o.Next()
			}
		}
	}
	if it.base != nil && it.base.Valid() && bytes.Equal(it.base.Key(), it.key) {
		it.base.Next()
	}
}

// settle finds the next key over all sources; the newest source that has it decides.
func (it *Iter) settle() bool {
	for {
		if it.err != nil || it.ctx.Err() != nil {
			it.err = errors.Join(it.err, it.ctx.Err())
			it.key = nil
			return false
		}
		it.choose()
		if it.base != nil && it.base.Err() != nil {
			it.err = it.base.Err()
			continue
		}
		if it.key == nil || it.outside(it.key) {
			it.key = nil
			return false
		}
		if it.at != nil && it.at.Delete {
			it.pass()
			continue
		}
		if it.at == nil {
			if it.entry, it.err = it.base.Entry(); it.err != nil {
				continue
			}
		}
		return true
	}
}

func (it *Iter) choose() {
	it.key, it.at = it.key[:0], nil
	found := false
	for _, o := range it.over {
		if e := o.Entry(); e != nil && (!found || it.ahead(e.Key, it.at.Key)) {
			it.at, found = e, true
		}
	}
	if it.base != nil && it.base.Valid() && (!found || it.ahead(it.base.Key(), it.at.Key)) {
		it.at = nil
		it.key = append(it.key, it.base.Key()...)
		return
	}
	if !found {
		it.key = nil
		return
	}
	it.key = append(it.key, it.at.Key...)
}

func (it *Iter) ahead(a, b []byte) bool {
	if it.o.Reverse {
		return bytes.Compare(a, b) > 0
	}
	return bytes.Compare(a, b) < 0
}

func (it *Iter) outside(key []byte) bool {
	if it.o.Reverse {
		return it.o.Lower != nil && bytes.Compare(key, it.o.Lower) < 0
	}
	return it.o.Upper != nil && bytes.Compare(key, it.o.Upper) >= 0
}

// Valid says whether the iterator stands on a key.
func (it *Iter) Valid() bool { return it.key != nil }

// Key is valid until the iterator moves.
func (it *Iter) Key() []byte { return it.key }

// Entry gives key, value, sequence and place; with KeysOnly the value is nil. The
// key is valid until the iterator moves, the value for good.
func (it *Iter) Entry() (Entry, error) {
	if it.key == nil {
		return Entry{}, ErrNotFound
	}
	f := found{Entry: Entry{Key: it.key}}
	if e := it.at; e != nil {
		f.Value, f.inline, f.Seq, f.Location, f.Time = e.Value, e.Inline, e.Seq, e.Location, time.Unix(0, e.Time)
	} else {
		e := it.entry
		f.Value, f.inline, f.Seq, f.Location, f.Time = e.Value, e.Inline, e.Seq, e.Location, time.Unix(0, e.Time)
	}
	if it.o.KeysOnly {
		f.Value = nil
		return f.Entry, nil
	}
	return it.n.complete(it.ctx, f)
}

// Value reads the value.
func (it *Iter) Value() ([]byte, error) {
	e, err := it.Entry()
	return e.Value, err
}

// Err is why the iterator ended early.
func (it *Iter) Err() error { return it.n.public(it.err) }

// Close ends the iterator.
func (it *Iter) Close() error {
	it.key, it.over = nil, nil
	if it.open {
		it.open = false
		it.n.holds.leave(it.hold)
	}
	if it.snap == nil {
		return nil
	}
	it.base.Close()
	err := it.snap.Close()
	it.snap, it.base = nil, nil
	return err
}
