package zdbfs

import (
	"strconv"
	"syscall"
	"time"
)

// Ino is the number of an inode. It is never used again after the inode is freed, is below 2^62 and serves
// transports as node id, with generation 1 for ever.
type Ino uint64

// String returns the decimal form, as ls -i prints it.
func (i Ino) String() string { return strconv.FormatUint(uint64(i), 10) }

// RootIno is the inode of the root directory.
const RootIno Ino = 1

// Errno is the type of every error that an operation of FS returns.
type Errno = syscall.Errno

// Caller is who asked for an operation. Permissions are checked by the kernel (default_permissions); the core uses
// it for the ownership of what it makes.
type Caller struct{ Uid, Gid, Pid uint32 }

// Handle names an open file. It carries no state of its own: after a restart any handle works again.
type Handle uint64

// Time is a point in time as inodes keep it: seconds since 1970, negative before, and 0 ≤ Nsec < 1e9.
type Time struct {
	Sec  int64
	Nsec uint32
}

// TimeOf converts t.
func TimeOf(t time.Time) Time { return Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())} }

// Time converts back.
func (t Time) Time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// Attr is what stat shows.
type Attr struct {
	Ino                        Ino
	Mode                       uint32 // with the S_IF type bits
	Nlink                      uint32
	Uid, Gid                   uint32
	Rdev                       uint32 // as Linux encodes dev_t for FUSE
	Size                       uint64
	Blocks                     uint64 // of 512 bytes, what is allocated or buffered
	Atime, Mtime, Ctime, Btime Time
	HasXattr                   bool // false: every Getxattr would answer ENODATA
}

// SetattrValid says which fields of SetattrIn count.
type SetattrValid uint32

// The fields of a Setattr.
const (
	SetMode SetattrValid = 1 << iota
	SetUid
	SetGid
	SetSize
	SetAtime
	SetMtime
	SetCtime
	SetAtimeNow
	SetMtimeNow
	SetKillPriv // drop setuid, setgid and security.capability, as a write by a user without rights must
)

// SetattrIn is a change of attributes; with no bits it changes nothing, not even ctime.
type SetattrIn struct {
	Valid               SetattrValid
	Mode                uint32 // permission bits; the type bits are ignored
	Uid, Gid            uint32
	Size                uint64
	Atime, Mtime, Ctime Time
	Handle              Handle // of the file, if the request named one
}

// OpenFlags are the O_ flags of open(2) as Linux numbers them; the core heeds O_TRUNC.
type OpenFlags uint32

// WriteFlags qualify a Write.
type WriteFlags struct {
	// Cache marks data that the kernel's writeback cache held: size and times are the kernel's, who sends them
	// itself, and space is taken from the slack because write(2) has long succeeded.
	Cache bool
	// KillPriv asks to drop setuid, setgid and security.capability with the write.
	KillPriv bool
}

// Flags of Rename, as renameat2(2) numbers them.
const (
	RenameNoReplace uint32 = 1 << iota
	RenameExchange
	RenameWhiteout
)

// Modes of Fallocate, as fallocate(2) numbers them.
const (
	FallocKeepSize  uint32 = 0x01
	FallocPunchHole uint32 = 0x02
	FallocZeroRange uint32 = 0x10
)

// Whence values of Seek, as lseek(2) numbers them.
const (
	SeekData = 3
	SeekHole = 4
)

// Flags of Setxattr, as setxattr(2) numbers them.
const (
	XattrCreate  uint32 = 1
	XattrReplace uint32 = 2
)

// Limits of names and values.
const (
	MaxName       = 255
	MaxSymlink    = 4095
	MaxXattrName  = 255
	MaxXattrValue = 64 << 10
	MaxFileSize   = 1 << 62
)

// Dirent is one entry of a directory.
type Dirent struct {
	Name   string
	Ino    Ino
	Type   uint32 // the S_IF bits of the mode
	Cookie uint64 // position after this entry: stable under inserts, deletes and remounts, below 2^63
}

// Capacity is the room that the filesystem has, in bytes.
type Capacity struct {
	Total, Free, Avail uint64 // Free counts reserves, Avail is what users can still write
}

// Statfs is what statfs(2) shows; Blocks, Bfree and Bavail are in units of Bsize.
type Statfs struct {
	Blocks, Bfree, Bavail uint64
	Files, Ffree          uint64
	Bsize, Frsize         uint32
	NameLen               uint32
}
