package zdbfs

import (
	"context"
	"syscall"
)

type FS struct{}

func Open(ctx context.Context, o Options) (*FS, error) { return nil, syscall.ENOSYS }

// Close flushes, syncs and stops; it is idempotent.
func (fs *FS) Close(ctx context.Context) error { return syscall.ENOSYS }

// Lookup finds name in parent ("." and ".." too) and counts one lookup of what it returns, to be given back by Forget.
func (fs *FS) Lookup(ctx context.Context, c Caller, parent Ino, name string) (Attr, error) {
	return Attr{}, syscall.ENOSYS
}
func (fs *FS) Forget(ino Ino, n uint64) {}
func (fs *FS) Getattr(ctx context.Context, ino Ino) (Attr, error) {
	return Attr{}, syscall.ENOSYS
}
func (fs *FS) Setattr(ctx context.Context, c Caller, ino Ino, in SetattrIn) (Attr, error) {
	return Attr{}, syscall.ENOSYS
}

// Mknod, Mkdir, Symlink, Link, Create and Tmpfile count one lookup of what they return.
func (fs *FS) Mknod(ctx context.Context, c Caller, parent Ino, name string, mode, rdev, umask uint32) (Attr, error) {
	return Attr{}, syscall.ENOSYS
}
func (fs *FS) Mkdir(ctx context.Context, c Caller, parent Ino, name string, mode, umask uint32) (Attr, error) {
	return Attr{}, syscall.ENOSYS
}
func (fs *FS) Symlink(ctx context.Context, c Caller, parent Ino, name, target string) (Attr, error) {
	return Attr{}, syscall.ENOSYS
}
func (fs *FS) Link(ctx context.Context, c Caller, ino, parent Ino, name string) (Attr, error) {
	return Attr{}, syscall.ENOSYS
}
func (fs *FS) Create(ctx context.Context, c Caller, parent Ino, name string, mode, umask uint32, fl OpenFlags) (Attr, Handle, error) {
	return Attr{}, 0, syscall.ENOSYS
}
func (fs *FS) Tmpfile(ctx context.Context, c Caller, parent Ino, mode, umask uint32) (Attr, Handle, error) {
	return Attr{}, 0, syscall.ENOSYS
}
func (fs *FS) Unlink(ctx context.Context, c Caller, parent Ino, name string) error {
	return syscall.ENOSYS
}
func (fs *FS) Rmdir(ctx context.Context, c Caller, parent Ino, name string) error {
	return syscall.ENOSYS
}
func (fs *FS) Rename(ctx context.Context, c Caller, op Ino, on string, np Ino, nn string, flags uint32) error {
	return syscall.ENOSYS
}
func (fs *FS) Readlink(ctx context.Context, ino Ino) (string, error) { return "", syscall.ENOSYS }

// Open counts an open of ino until Release.
func (fs *FS) Open(ctx context.Context, c Caller, ino Ino, fl OpenFlags) (Handle, error) {
	return 0, syscall.ENOSYS
}
func (fs *FS) Release(ctx context.Context, h Handle) error { return syscall.ENOSYS }
func (fs *FS) Read(ctx context.Context, ino Ino, h Handle, off int64, p []byte) (int, error) {
	return 0, syscall.ENOSYS
}
func (fs *FS) Write(ctx context.Context, ino Ino, h Handle, off int64, p []byte, fl WriteFlags) (int, error) {
	return 0, syscall.ENOSYS
}
func (fs *FS) Flush(ctx context.Context, ino Ino, h Handle) error { return syscall.ENOSYS }
func (fs *FS) Fsync(ctx context.Context, ino Ino, dataOnly bool) error {
	return syscall.ENOSYS
}
func (fs *FS) Fsyncdir(ctx context.Context, ino Ino, dataOnly bool) error { return syscall.ENOSYS }
func (fs *FS) Fallocate(ctx context.Context, ino Ino, h Handle, mode uint32, off, n int64) error {
	return syscall.ENOSYS
}
func (fs *FS) Seek(ctx context.Context, ino Ino, h Handle, off int64, whence int) (int64, error) {
	return 0, syscall.ENOSYS
}
func (fs *FS) CopyFileRange(ctx context.Context, src Ino, srcOff int64, dst Ino, dstOff, n int64) (int64, error) {
	return 0, syscall.ENOSYS
}

// Opendir and Releasedir count like Open and Release.
func (fs *FS) Opendir(ctx context.Context, ino Ino) (Handle, error) { return 0, syscall.ENOSYS }
func (fs *FS) Releasedir(ctx context.Context, h Handle) error       { return syscall.ENOSYS }

// Readdir emits the entries behind cookie (0: from the start, "." and ".." first) until emit returns false. attr, if
// called, returns the entry's attributes and counts a lookup (not for "." and ".."): Forget it if the entry is not sent.
func (fs *FS) Readdir(ctx context.Context, ino Ino, cookie uint64, emit func(d Dirent, attr func() (Attr, error)) bool) error {
	return syscall.ENOSYS
}
func (fs *FS) Getxattr(ctx context.Context, ino Ino, name string) ([]byte, error) {
	return nil, syscall.ENOSYS
}
func (fs *FS) Setxattr(ctx context.Context, ino Ino, name string, value []byte, flags uint32, killSgid bool) error {
	return syscall.ENOSYS
}
func (fs *FS) Listxattr(ctx context.Context, ino Ino) ([]string, error) {
	return nil, syscall.ENOSYS
}
func (fs *FS) Removexattr(ctx context.Context, ino Ino, name string) error { return syscall.ENOSYS }
func (fs *FS) Statfs(ctx context.Context) (Statfs, error)                  { return Statfs{}, syscall.ENOSYS }

// Sync makes everything written so far stable.
func (fs *FS) Sync(ctx context.Context) error { return syscall.ENOSYS }

// LowSpace says that room is below the slack: writers should bypass the kernel's cache to hear of ENOSPC at once.
func (fs *FS) LowSpace() bool { return false }

// Syncfs is Sync, for the request of that name.
func (fs *FS) Syncfs(ctx context.Context) error { return syscall.ENOSYS }

// Report is what Check found.
type Report struct {
	Inodes, Dirents, Extents, Blobs, Orphans int64
	Bytes                                    uint64
	Problems                                 []string // empty: consistent
}

// Check reads all metadata, as of one moment, and reports every inconsistency.
func (fs *FS) Check(ctx context.Context) (Report, error) { return Report{}, syscall.ENOSYS }
