package meta

import (
	"encoding/binary"
	"syscall"
)

// Time is seconds since 1970 and nanoseconds below 1e9.
type Time struct {
	Sec  int64
	Nsec uint32
}

// InodeFlags are bits of an Inode.
type InodeFlags uint8

const (
	// FlagXattr: rows of extended attributes exist.
	FlagXattr InodeFlags = 1 << iota
	// FlagLinks: every name has a row of kind P. Set for directories, and for files from their second link on.
	FlagLinks
)

const knownInodeFlags = FlagXattr | FlagLinks

// Inode is the value of an I row.
type Inode struct {
	Flags                      InodeFlags
	Mode                       uint32
	Nlink                      uint32 // as stored; an O row means 0
	Uid, Gid                   uint32
	Rdev                       uint32
	Size                       uint64
	Alloc                      uint64 // sum of the lengths of all extents
	Parent, Cookie             uint64 // the name, while there is only one and no FlagLinks
	Atime, Mtime, Ctime, Btime Time
	Target                     string // of a symbolic link
}

const (
	inodeVersion = 1
	inodeFixed   = 1 + 1 + 5*4 + 4*8 + 4*12 + 2
	maxTarget    = 4095
)

// IsDir, IsRegular and IsSymlink tell the type.
func (i *Inode) IsDir() bool { return i.Mode&syscall.S_IFMT == syscall.S_IFDIR }

// IsRegular says whether it is a regular file.
func (i *Inode) IsRegular() bool { return i.Mode&syscall.S_IFMT == syscall.S_IFREG }

// IsSymlink says whether it is a symbolic link.
func (i *Inode) IsSymlink() bool { return i.Mode&syscall.S_IFMT == syscall.S_IFLNK }

// Append encodes i.
func (i *Inode) Append(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, inodeVersion, byte(i.Flags))
	for _, v := range [...]uint32{i.Mode, i.Nlink, i.Uid, i.Gid, i.Rdev} {
		b = be.AppendUint32(b, v)
	}
	for _, v := range [...]uint64{i.Size, i.Alloc, i.Parent, i.Cookie} {
		b = be.AppendUint64(b, v)
	}
	for _, t := range [...]Time{i.Atime, i.Mtime, i.Ctime, i.Btime} {
		b = be.AppendUint64(b, uint64(t.Sec))
		b = be.AppendUint32(b, t.Nsec)
	}
	b = be.AppendUint16(b, uint16(len(i.Target)))
	return append(b, i.Target...)
}

// DecodeInode decodes the value of an I row.
func DecodeInode(b []byte) (Inode, error) {
	be := binary.BigEndian
	var i Inode
	if len(b) < inodeFixed {
		return i, badf("inode of %d bytes", len(b))
	}
	if b[0] != inodeVersion {
		return i, badf("inode version %d", b[0])
	}
	i.Flags = InodeFlags(b[1])
	if i.Flags&^knownInodeFlags != 0 {
		return i, badf("inode flags %#x", b[1])
	}
	b = b[2:]
	for _, p := range [...]*uint32{&i.Mode, &i.Nlink, &i.Uid, &i.Gid, &i.Rdev} {
		*p, b = be.Uint32(b), b[4:]
	}
	for _, p := range [...]*uint64{&i.Size, &i.Alloc, &i.Parent, &i.Cookie} {
		*p, b = be.Uint64(b), b[8:]
	}
	for _, p := range [...]*Time{&i.Atime, &i.Mtime, &i.Ctime, &i.Btime} {
		p.Sec, p.Nsec, b = int64(be.Uint64(b)), be.Uint32(b[8:]), b[12:]
		if p.Nsec >= 1e9 {
			return i, badf("%d nanoseconds", p.Nsec)
		}
	}
	n := int(be.Uint16(b))
	if b = b[2:]; n != len(b) || n > maxTarget {
		return i, badf("link target of %d bytes, %d said", len(b), n)
	}
	i.Target = string(b)
	return i, i.check()
}

func (i *Inode) check() error {
	switch i.Mode & syscall.S_IFMT {
	case syscall.S_IFREG, syscall.S_IFDIR, syscall.S_IFBLK, syscall.S_IFCHR, syscall.S_IFIFO, syscall.S_IFSOCK:
		if i.Target != "" {
			return badf("mode %#o with a link target", i.Mode)
		}
	case syscall.S_IFLNK:
		if i.Target == "" {
			return badf("symbolic link without target")
		}
	default:
		return badf("mode %#o", i.Mode)
	}
	if i.Mode&^uint32(syscall.S_IFMT|0o7777) != 0 {
		return badf("mode %#o", i.Mode)
	}
	if i.Size > MaxOffset {
		return badf("size %d", i.Size)
	}
	return nil
}
