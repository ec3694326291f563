package oracle

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// kind of an operation.
type kind int

const (
	opMkdir kind = iota
	opCreate
	opWrite // pwrite and fsync: an acknowledgement
	opTruncate
	opRename
	opLink
	opSymlink
	opUnlink
	opRmdir
	opChmod
	opSetxattr
	opFsyncDir // changes nothing: an acknowledgement
)

// op is one operation on paths relative to the root.
type op struct {
	kind   kind
	path   string
	other  string // new path, link path, symlink target, xattr name
	offset int64  // of a write; size of a truncate
	data   []byte // of a write; xattr value
	mode   uint32
}

func (o op) String() string {
	names := [...]string{"mkdir", "create", "write", "truncate", "rename", "link", "symlink", "unlink", "rmdir", "chmod", "setxattr", "fsyncdir"}
	return fmt.Sprintf("%s %s %s off=%d len=%d mode=%o", names[o.kind], o.path, o.other, o.offset, len(o.data), o.mode)
}

// acknowledges reports whether success of o promises everything before it.
func (o op) acknowledges() bool { return o.kind == opWrite || o.kind == opFsyncDir }

// do performs o below root.
func (o op) do(root string) error {
	path := filepath.Join(root, o.path)
	switch o.kind {
	case opMkdir:
		return os.Mkdir(path, os.FileMode(o.mode))
	case opCreate:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(o.mode))
		if err != nil {
			return err
		}
		return f.Close()
	case opWrite:
		return o.write(path)
	case opTruncate:
		return os.Truncate(path, o.offset)
	case opRename:
		return os.Rename(path, filepath.Join(root, o.other))
	case opLink:
		return os.Link(path, filepath.Join(root, o.other))
	case opSymlink:
		return os.Symlink(o.other, path)
	case opUnlink:
		return unix.Unlink(path)
	case opRmdir:
		return unix.Rmdir(path)
	case opChmod:
		return unix.Chmod(path, o.mode)
	case opSetxattr:
		return unix.Setxattr(path, o.other, o.data, 0)
	case opFsyncDir:
		return fsyncDir(path)
	}
	return fmt.Errorf("operation %d", o.kind)
}

func (o op) write(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(o.data, o.offset); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func fsyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		_ = d.Close()
		return err
	}
	return d.Close()
}
