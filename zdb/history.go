package zdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/overlay"
)

// historyPage is how many versions are taken from the index at once, at most.
const historyPage = 256

// History lists the versions of key that retention keeps, newest first, up to limit of them and only those
// below the sequence before; 0 begins with the present one. Values are read with ReadLocation.
func (n *Namespace) History(ctx context.Context, key []byte, before Seq, limit int) ([]Version, error) {
	if before == 0 {
		before = ^Seq(0)
	}
	w := &historyWalk{key: key, policy: n.policy(), before: before, limit: limit}
	if w.done() {
		return nil, nil
	}
	view := n.view.Load() // before the index: what goes there meanwhile is in both
	err := n.versions(ctx, view, key, ^Seq(0), func(v index.Version) bool { return w.add(v) && !w.mayJump() })
	if err == nil && !w.done() && w.mayJump() {
		// What lies between is not listed, and is not counted any more either: a list in pages reads each version once.
		above, ok, aerr := n.versionAbove(ctx, view, key, before)
		if ok {
			w.jump(above)
		}
		if err = aerr; err == nil {
			err = n.versions(ctx, view, key, before-1, w.add)
		}
	}
	if err != nil {
		return nil, n.public(err)
	}
	return w.list, nil
}

// WalkHistory gives each version that History lists, newest first, until fn says no. However many there are, it holds few.
func (n *Namespace) WalkHistory(ctx context.Context, key []byte, fn func(Version) bool) error {
	w := &historyWalk{key: key, policy: n.policy(), before: ^Seq(0), each: fn}
	return n.public(n.versions(ctx, n.view.Load(), key, ^Seq(0), w.add))
}

// versions gives what overlay and index have of key, not above a sequence, newest first, until add says no. What went from the one
// to the other meanwhile comes twice.
func (n *Namespace) versions(ctx context.Context, view *view, key []byte, from Seq, add func(index.Version) bool) error {
	more := true
	for _, g := range view.tables {
		g.Versions(key, func(e *overlay.Entry) bool {
			if e.Seq <= from {
				more = add(overlaid(e))
			}
			return more
		})
		if !more {
			return nil
		}
	}
	for size := 4; ; size = min(4*size, historyPage) {
		page, err := n.indexHistory(ctx, key, from, size)
		if err != nil {
			return err
		}
		for _, v := range page {
			if !add(v) {
				return nil
			}
			from = v.Seq - 1
		}
		if len(page) < size || from == 0 {
			return ctx.Err()
		}
	}
}

// versionAbove gives the oldest version of key that is not below a sequence.
func (n *Namespace) versionAbove(ctx context.Context, view *view, key []byte, from Seq) (v index.Version, ok bool, err error) {
	for _, g := range view.tables {
		g.Versions(key, func(e *overlay.Entry) bool {
			if e.Seq >= from {
				v, ok = overlaid(e), true
			}
			return e.Seq > from
		})
	}
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return v, false, err
	}
	s := x.Snapshot()
	older, found, err := s.Above(key, from)
	if found && (!ok || older.Seq < v.Seq) {
		v, ok = older, true
	}
	return v, ok, errors.Join(err, s.Close(), x.Release())
}

func overlaid(e *overlay.Entry) index.Version {
	return index.Version{Seq: e.Seq, Time: e.Time, Delete: e.Delete, Given: e.Given, Location: e.Location}
}

func (n *Namespace) indexHistory(ctx context.Context, key []byte, from Seq, limit int) ([]index.Version, error) {
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return nil, err
	}
	s := x.Snapshot()
	list, err := s.History(key, from, limit)
	return list, errors.Join(err, s.Close(), x.Release())
}

// historyWalk takes the versions of a key from the newest on and lists those that are wanted: what overlay and index
// still have beyond that is about to go.
type historyWalk struct {
	key    []byte
	policy index.Policy
	before Seq
	limit  int
	rank   int
	any    bool           // there was one
	last   index.Version  // the one before, newer
	gone   *index.Version // a delete that counts if there is something below it
	list   []Version
	each   func(Version) bool // takes them in place of list, until it says no
	enough bool
}

func (w *historyWalk) done() bool { return w.enough || w.each == nil && len(w.list) >= w.limit }

func (w *historyWalk) add(v index.Version) bool {
	if w.any && v.Seq >= w.last.Seq {
		return true // it went from the overlay to the index meanwhile
	}
	if w.any && !v.Repeats(&w.last) {
		w.rank++
	}
	wanted := !w.any || w.policy.Wants(w.key, w.rank, &v, &w.last)
	w.any, w.last = true, v
	switch {
	case v.Delete:
		w.gone = &v
	case wanted:
		if w.gone != nil {
			w.emit(*w.gone)
			w.gone = nil
		}
		w.emit(v)
	}
	return !w.done()
}

// mayJump says that all further versions above the first one that may be listed make no difference: they are not among the
// newest.
func (w *historyWalk) mayJump() bool {
	return w.any && w.last.Seq >= w.before && w.rank+1 >= w.policy.KeepLast
}

// jump goes on below v, which is not listed.
func (w *historyWalk) jump(v index.Version) {
	if v.Seq < w.last.Seq {
		w.last, w.gone = v, nil
	}
}

func (w *historyWalk) emit(v index.Version) {
	switch {
	case v.Seq >= w.before || w.done():
	case w.each != nil:
		w.enough = !w.each(version(v))
	default:
		w.list = append(w.list, version(v))
	}
}

func version(v index.Version) Version {
	return Version{
		Seq: v.Seq, Time: time.Unix(0, v.Time), Deleted: v.Delete, Location: v.Location, Length: int64(v.Location.Length),
	}
}

// GetAt gives what key had at a pinned sequence. ErrNotFound means that it had no value then, ErrNotKept that the sequence
// is not pinned.
func (n *Namespace) GetAt(ctx context.Context, key []byte, at Seq) (Entry, error) {
	if !n.keep.pinned(at) {
		return Entry{}, n.public(fmt.Errorf("%w: %v", ErrNotKept, at))
	}
	for tries := 0; ; tries++ {
		v, ok, err := n.findAt(ctx, key, at)
		if err != nil {
			return Entry{}, n.public(err)
		}
		if !ok || v.Delete {
			return Entry{}, ErrNotFound
		}
		e, err := n.complete(ctx, found{Entry: Entry{Key: key, Seq: v.Seq, Time: time.Unix(0, v.Time), Location: v.Location}})
		if !errors.Is(err, ErrSegment) || tries >= moveTries {
			return e, err
		}
	}
}

// findAt finds the newest version that is not above a sequence.
func (n *Namespace) findAt(ctx context.Context, key []byte, at Seq) (v index.Version, ok bool, err error) {
	view := n.view.Load()
	for _, g := range view.tables {
		g.Versions(key, func(e *overlay.Entry) bool {
			if e.Seq <= at {
				v, ok = overlaid(e), true
			}
			return !ok
		})
		if ok {
			return v, true, nil
		}
	}
	list, err := n.indexHistory(ctx, key, at, 1)
	if err != nil || len(list) == 0 {
		return v, false, err
	}
	return list[0], true, nil
}

// DeletedIter walks, in the order of the keys, those that are deleted and of
// which retention keeps a value. It must be closed.
type DeletedIter struct {
	n      *Namespace
	ctx    context.Context
	o      IterOptions
	policy index.Policy
	hold   uint64
	x      *index.Snapshot
	it     *index.GoneIter
	key    []byte
	gone   Version
	last   Version
}

// NewDeletedIter returns an iterator over the deleted keys in the bounds; it stands nowhere until Seek. The index is
// brought up to date first.
func (n *Namespace) NewDeletedIter(ctx context.Context, o IterOptions) (*DeletedIter, error) {
	if o.Reverse || o.At != 0 {
		return nil, n.public(errors.New("deleted keys are listed forward, as they are now"))
	}
	hold := n.holds.enter()
	err := n.apply(ctx)
	var x *index.Index
	if err == nil {
		x, err = n.acquireIndex(ctx)
	}
	if err != nil {
		n.holds.leave(hold)
		return nil, n.public(err)
	}
	s := x.Snapshot()
	d := &DeletedIter{n: n, ctx: ctx, o: o, policy: n.policy(), hold: hold, x: s, it: s.NewGoneIter()}
	if err := x.Release(); err != nil {
		return nil, n.public(errors.Join(err, d.Close()))
	}
	return d, nil
}

// Seek stands on the first deleted key ≥ key within the bounds; nil is the start.
func (d *DeletedIter) Seek(key []byte) bool {
	if key == nil || d.o.Lower != nil && string(key) < string(d.o.Lower) {
		key = d.o.Lower
	}
	return d.settle(d.it.Seek(key))
}

// Next goes to the next one.
func (d *DeletedIter) Next() bool { return d.settle(d.it.Next()) }

func (d *DeletedIter) settle(ok bool) bool {
	for ; ok && d.ctx.Err() == nil; ok = d.it.Next() {
		d.key = d.it.Key()
		if d.o.Upper != nil && string(d.key) >= string(d.o.Upper) {
			return false
		}
		w := &historyWalk{key: d.key, policy: d.policy, before: ^Seq(0), limit: 2}
		for !w.done() && d.ctx.Err() == nil {
			v, ok := d.it.Version()
			if !ok {
				break
			}
			w.add(v)
		}
		if len(w.list) == 2 {
			d.gone, d.last = w.list[0], w.list[1]
			return true
		}
	}
	return false
}

// Key is valid until the iterator moves.
func (d *DeletedIter) Key() []byte { return d.key }

// Deleted is the delete, Last the value that it took away.
func (d *DeletedIter) Deleted() Version { return d.gone }

// Last is the newest value that is kept.
func (d *DeletedIter) Last() Version { return d.last }

// Err is why the iterator ended early.
func (d *DeletedIter) Err() error { return d.n.public(errors.Join(d.it.Err(), d.ctx.Err())) }

// Close ends the iterator.
func (d *DeletedIter) Close() error {
	if d.x == nil {
		return nil
	}
	d.it.Close()
	err := d.x.Close()
	d.x = nil
	d.n.holds.leave(d.hold)
	return err
}
