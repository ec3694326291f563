package zdbfs

import (
	"context"
	"fmt"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// Names of equal hash stand in a chain: cookies hash, hash+1, … without a break. So a name is found, or known to be
// absent, with point lookups alone. A name taken out of the middle leaves a gap in its place.

const chainLength = 1 << meta.ChainBits

// place is where a name stands, or could.
type place struct {
	cookie uint64
	entry  meta.Dirent // Ino 0: not there, cookie is free
}

func (p *place) found() bool { return p.entry.Ino != 0 }

// checkName says whether name can be looked for.
func checkName(name string) error {
	if len(name) > MaxName {
		return syscall.ENAMETOOLONG
	}
	if meta.CheckName(name) != nil {
		return syscall.EINVAL
	}
	return nil
}

// find looks for name in parent, as it will be after t (nil: as it is).
func (fs *FS) find(ctx context.Context, t *txn, parent Ino, name string) (place, error) {
	if err := checkName(name); err != nil {
		return place{}, err
	}
	if t == nil {
		t = &txn{fs: fs}
	}
	ctx = context.WithoutCancel(ctx)
	first := fs.nameHash(name)
	var free uint64
	for n := uint64(0); n < chainLength; n++ {
		cookie := first + n
		v, found, err := t.get(ctx, meta.DirentKey(uint64(parent), cookie))
		if err != nil {
			return place{}, fs.errno(err)
		}
		if !found {
			if free == 0 {
				free = cookie
			}
			return place{cookie: free}, nil
		}
		d, err := meta.DecodeDirent(v)
		if err != nil {
			return place{}, fs.errno(fmt.Errorf("entry %d of directory %d: %w", cookie, parent, err))
		}
		if d.IsGap() {
			if free == 0 {
				free = cookie
			}
		} else if d.Name == name {
			return place{cookie, d}, nil
		}
	}
	if free == 0 {
		return place{}, syscall.ENOSPC // 256 names of one 55-bit keyed hash
	}
	return place{cookie: free}, nil
}

func (fs *FS) nameHash(name string) uint64 {
	if fs.o.hash != nil {
		return fs.o.hash(name)
	}
	return meta.NameHash(&fs.super.HashKey, name)
}

// name puts an entry at cookie of parent.
func (t *txn) name(parent Ino, cookie uint64, ino Ino, mode uint32, name string) {
	d := meta.Dirent{Ino: uint64(ino), Type: mode & syscall.S_IFMT, Name: name}
	t.set(meta.DirentKey(uint64(parent), cookie), d.Append(nil))
}

// unname takes the entry at cookie out of parent. What follows it in its chain stays where it is.
func (t *txn) unname(ctx context.Context, parent Ino, cookie uint64) error {
	ctx = context.WithoutCancel(ctx)
	at := func(c uint64) []byte { return meta.DirentKey(uint64(parent), c) }
	last := cookie%chainLength == chainLength-1
	if !last {
		_, follows, err := t.get(ctx, at(cookie+1))
		if err != nil {
			return err
		}
		last = !follows
	}
	if !last {
		gap := meta.Dirent{}
		t.set(at(cookie), gap.Append(nil))
		return nil
	}
	t.del(at(cookie))
	// Gaps that nothing follows any more are not needed.
	for cookie%chainLength != 0 {
		cookie--
		v, found, err := t.get(ctx, at(cookie))
		if err != nil {
			return err
		}
		if !found {
			return nil
		}
		if d, err := meta.DecodeDirent(v); err != nil || !d.IsGap() {
			return err
		}
		t.del(at(cookie))
	}
	return nil
}

// moveName changes the record of where an inode's name is: from one place, if it had one, to another, if it gets one.
// The caller holds in.op.
func (t *txn) moveName(in *inode, fromDir Ino, fromCookie uint64, toDir Ino, toCookie uint64) {
	v := in.view()
	ino := uint64(in.ino)
	if v.Flags&meta.FlagLinks != 0 {
		if fromDir != 0 {
			t.del(meta.ParentKey(ino, uint64(fromDir), fromCookie))
		}
		if toDir != 0 {
			t.set(meta.ParentKey(ino, uint64(toDir), toCookie), nil)
		}
	}
	if toDir != 0 {
		t.update(in, func(a *meta.Inode) { a.Parent, a.Cookie = uint64(toDir), toCookie })
	}
}

// emptyDir says whether a directory has no entry, and adds the removal of gaps to t.
func (fs *FS) emptyDir(ctx context.Context, t *txn, ino Ino) (bool, error) {
	it, err := fs.meta.iter(context.WithoutCancel(ctx), meta.DirentKey(uint64(ino), 0), meta.DirentKey(uint64(ino)+1, 0), false)
	if err != nil {
		return false, err
	}
	defer it.Close()
	for ok := it.Seek(meta.DirentKey(uint64(ino), 0)); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil {
			return false, err
		}
		if d, err := meta.DecodeDirent(v); err != nil || !d.IsGap() {
			return false, err
		}
		t.del(append([]byte(nil), it.Key()...))
	}
	return true, it.Err()
}
