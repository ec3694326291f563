package server

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"qsfs/zdb"
	"qsfs/zdb/internal/vfs"
)

// spares are room for the next lists of namespaces, files of the data directory that are made while the disk has room. What
// frees room begins with a change of the list (FLUSH, NSDEL, KEPT DROP), so that has to work when there is not a block left. A
// spare is not given back to be asked for again, for somebody else might be faster, and some file systems want more room for a
// new file than for its bytes: it becomes the list. There are two, for it takes two changes to empty what has
// keep_deleted and to drop what was kept of it.
type spares struct {
	fs    vfs.FS
	dir   string
	sizes [2]int64 // 0: there is none
}

const (
	spareName  = ".namespaces.spare"
	spareLeast = 64 << 10
)

func (p *spares) path(i int) string { return filepath.Join(p.dir, fmt.Sprintf("%s%d", spareName, i)) }

// keep takes room for lists that grow beyond n bytes, where there is none. What is there stays when there is no more.
func (p *spares) keep(n int64) (err error) {
	for i := range p.sizes {
		if least := n + n/4 + spareLeast/4; p.sizes[i] < least {
			err = errors.Join(err, p.take(i, least, 2*n+spareLeast))
		}
	}
	return err
}

func (p *spares) take(i int, least, size int64) (err error) {
	f, err := p.fs.Open(p.path(i), true)
	if errors.Is(err, vfs.ErrNotExist) {
		f, err = p.fs.Create(p.path(i))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err = f.Allocate(size); err == nil {
		p.sizes[i] = size
		return nil
	}
	if there, serr := f.Size(); serr == nil && there >= least { // from a start before
		p.sizes[i] = there
	}
	return err
}

// write makes raw the list, in the room of a spare, which is used up then. ok says whether there was one.
func (p *spares) write(raw []byte) (ok bool, err error) {
	for i := range p.sizes {
		if p.sizes[i] >= int64(len(raw)) {
			p.sizes[i] = 0
			return true, p.turn(p.path(i), raw)
		}
	}
	return false, nil
}

func (p *spares) turn(path string, raw []byte) error {
	f, err := p.fs.Open(path, true)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(raw, 0); err == nil {
		err = f.Truncate(int64(len(raw)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := p.fs.Rename(path, filepath.Join(p.dir, registryName)); err != nil {
		return err
	}
	return p.fs.SyncDir(p.dir)
}

// isNoSpace says whether an error is one of a full disk or quota.
func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, zdb.ErrNoSpace)
}
