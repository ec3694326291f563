package zdbfs

import (
	"context"
	"errors"
	"fmt"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

// extentPlan changes the extent map of one inode within a txn: one forward walk, in which ranges are replaced in
// ascending order. It costs rows for the extents touched, whatever the file's size. The caller holds inode.io.
type extentPlan struct {
	t    *txn
	ctx  context.Context
	ino  uint64
	it   rowIter // opened when needed
	none bool    // the inode has no extents yet
	// cur is the first extent not yet passed: a stored one, or the rest of one that was split (ours).
	cur   meta.Extent
	have  bool
	ours  bool
	alloc int64
	blobs map[uint64]*blobUse
}

// blobUse is what a plan does to the references of a blob.
type blobUse struct {
	delta      int    // extents added less removed
	kept       int    // extents that the plan writes
	start, end uint64 // where the blob lies in the file, if it is not shared
}

// planExtents starts a plan for in. Close it after finish.
func (t *txn) planExtents(ctx context.Context, in *inode) *extentPlan {
	return &extentPlan{t: t, ctx: ctx, ino: uint64(in.ino), none: in.view().Alloc == 0, blobs: make(map[uint64]*blobUse)}
}

func (p *extentPlan) close() {
	if p.it != nil {
		p.it.Close()
	}
}

// seekRow moves the iterator to the first row of an extent that ends at or above end.
func (p *extentPlan) seekRow(end uint64) (bool, error) {
	if p.none {
		return false, nil
	}
	if p.it == nil {
		var err error
		if p.it, err = p.t.fs.meta.iter(p.ctx, meta.ExtentKey(p.ino, 0), meta.ExtentKey(p.ino+1, 0), false); err != nil {
			return false, err
		}
	}
	return p.it.Seek(meta.ExtentKey(p.ino, end)), p.it.Err()
}

// load makes the iterator's row the current extent.
func (p *extentPlan) load() error {
	p.have, p.ours = false, false
	if p.none || !p.it.Valid() {
		return nil
	}
	e, err := extentAt(p.it)
	if err != nil {
		return err
	}
	p.cur, p.have = e, true
	return nil
}

// extentAt decodes the row under it. Its bytes are the caller's to keep.
func extentAt(it rowIter) (meta.Extent, error) {
	k, err := meta.ParseKey(it.Key())
	if err != nil {
		return meta.Extent{}, err
	}
	v, err := it.Value()
	if err != nil {
		return meta.Extent{}, err
	}
	e, err := meta.DecodeExtent(k.B, v)
	if err != nil {
		return meta.Extent{}, fmt.Errorf("extent of inode %d: %w", k.A, err)
	}
	if e.Inline != nil {
		e.Inline = append([]byte(nil), e.Inline...)
	}
	return e, nil
}

func (p *extentPlan) next() error {
	if p.it.Next(); p.it.Err() != nil { // also from ours: the iterator stands on the row it was split from
		return p.it.Err()
	}
	return p.load()
}

// seek makes the first extent that ends above off the current one. Everything before the current one ends at or below
// what was asked for earlier, so it is the one as soon as it ends above off.
func (p *extentPlan) seek(off uint64) error {
	if p.have && p.cur.End > off {
		return nil
	}
	if _, err := p.seekRow(off + 1); err != nil {
		return err
	}
	return p.load()
}

// full says that no more removals fit: each may cost two more rows in finish.
func (p *extentPlan) full() bool {
	return len(p.t.rows)+2*len(p.blobs) >= batchRows || p.t.size >= batchBytes
}

// replace removes a to z from the map and puts e there, if given. When the batch is full it stops before an extent and
// returns where it stands, with as much of e as fits before; otherwise it returns z.
func (p *extentPlan) replace(a, z uint64, e *meta.Extent) (uint64, error) {
	if err := p.seek(a); err != nil {
		return a, err
	}
	for p.have && p.cur.Start < z {
		if at := max(p.cur.Start, a); p.full() {
			if e != nil && at > a {
				part := e.Slice(a, at)
				p.add(&part)
			}
			return at, nil
		}
		old := p.cur
		p.remove(&old, p.ours)
		if old.Start < a {
			left := old.Slice(old.Start, a)
			p.add(&left)
		}
		if old.End > z {
			right := old.Slice(z, old.End)
			p.add(&right)
			p.cur, p.ours = right, true
			break
		}
		if err := p.next(); err != nil {
			return a, err
		}
	}
	if e != nil {
		p.add(e)
	}
	return z, nil
}

func (p *extentPlan) use(e *meta.Extent) *blobUse {
	u := p.blobs[e.Blob]
	if u == nil {
		u = &blobUse{}
		u.start, u.end = e.BlobRange()
		p.blobs[e.Blob] = u
	}
	return u
}

func (p *extentPlan) remove(e *meta.Extent, ours bool) {
	p.alloc -= int64(e.Len())
	p.t.del(meta.ExtentKey(p.ino, e.End))
	switch e.Kind {
	case meta.ExtentInline:
		p.t.del(meta.LodgerKey(p.ino, e.End))
	case meta.ExtentBlob:
		u := p.use(e)
		u.delta--
		if ours {
			u.kept--
		}
	}
}

func (p *extentPlan) add(e *meta.Extent) {
	p.alloc += int64(e.Len())
	p.t.set(meta.ExtentKey(p.ino, e.End), e.Append(nil))
	switch e.Kind {
	case meta.ExtentInline:
		p.t.set(meta.LodgerKey(p.ino, e.End), nil)
	case meta.ExtentBlob:
		u := p.use(e)
		u.delta++
		u.kept++
	}
}

// finish accounts for the blobs: the counts of shared ones, and those that nothing refers to any more.
func (p *extentPlan) finish() error {
	if p.t.fs.anyShared.Load() && len(p.blobs) > 0 {
		p.t.lockShared()
	}
	for blob, u := range p.blobs {
		shared, err := p.count(blob, u)
		if err != nil {
			return err
		}
		if shared || u.delta >= 0 || u.kept > 0 {
			continue
		}
		alive, err := p.referred(blob, u)
		if err != nil {
			return err
		}
		if !alive {
			p.t.set(meta.GarbageKey(blob), nil)
		}
	}
	return nil
}

// count moves the reference count of a shared blob; false if it is not shared.
func (p *extentPlan) count(blob uint64, u *blobUse) (bool, error) {
	if !p.t.shared {
		return false, nil
	}
	v, found, err := p.t.get(p.ctx, meta.SharedKey(blob))
	if err != nil || !found {
		return false, err
	}
	n, err := meta.DecodeUint64(v)
	if err != nil {
		return false, fmt.Errorf("reference count of blob %d: %w", blob, err)
	}
	if u.delta < 0 && uint64(-u.delta) > n {
		return false, fmt.Errorf("%w: blob %d has %d references, %d go", meta.ErrFormat, blob, n, -u.delta)
	}
	if n = uint64(int64(n) + int64(u.delta)); n > 0 {
		p.t.set(meta.SharedKey(blob), meta.AppendUint64(nil, n))
	} else {
		p.t.del(meta.SharedKey(blob))
		p.t.set(meta.GarbageKey(blob), nil)
	}
	return true, nil
}

// referred says whether a stored extent that the plan leaves alone refers to an unshared blob.
func (p *extentPlan) referred(blob uint64, u *blobUse) (bool, error) {
	ok, err := p.seekRow(u.start + 1)
	if err != nil {
		return false, err
	}
	for ; ok; ok = p.it.Next() {
		e, err := extentAt(p.it)
		if err != nil {
			return false, err
		}
		if e.Start >= u.end {
			break
		}
		if _, changed := p.t.pending(p.it.Key()); !changed && e.Kind == meta.ExtentBlob && e.Blob == blob {
			return true, nil
		}
	}
	return false, p.it.Err()
}

// countReferences counts the stored extents that refer to an unshared blob, which all lie in its range of its file.
func (fs *FS) countReferences(ctx context.Context, ino uint64, e *meta.Extent) (uint64, error) {
	start, end := e.BlobRange()
	it, err := fs.meta.iter(ctx, meta.ExtentKey(ino, start+1), meta.ExtentKey(ino+1, 0), false)
	if err != nil {
		return 0, err
	}
	defer it.Close()
	var n uint64
	for ok := it.Seek(meta.ExtentKey(ino, start+1)); ok; ok = it.Next() {
		o, err := extentAt(it)
		if err != nil {
			return 0, err
		}
		if o.Start >= end {
			break
		}
		if o.Kind == meta.ExtentBlob && o.Blob == e.Blob {
			n++
		}
	}
	return n, it.Err()
}

// sharedCount reads a blob's B row.
func (t *txn) sharedCount(ctx context.Context, blob uint64) (uint64, bool, error) {
	v, found, err := t.get(ctx, meta.SharedKey(blob))
	if err != nil || !found {
		return 0, false, err
	}
	n, err := meta.DecodeUint64(v)
	return n, err == nil, err
}

func isNotFound(err error) bool { return errors.Is(err, zdb.ErrNotFound) }
