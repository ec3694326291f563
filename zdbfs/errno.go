package zdbfs

import (
	"context"
	"errors"
	"syscall"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

// errno turns any error into the Errno that the caller sees. What cannot be read is never "not found": a missing row or
// segment is EIO here, and those who look for a name handle zdb.ErrNotFound before.
func (fs *FS) errno(err error) error {
	var e Errno
	var missing *zdb.MissingError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing):
		// Before the bare errno and the context errors, which it may wrap.
		if errors.Is(err, context.Canceled) {
			return syscall.EINTR
		}
		fs.complain("a read failed: its data is not on this machine and cannot be fetched now", err)
		return syscall.EIO
	case errors.Is(err, zdb.ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return syscall.ENOSPC
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	case errors.Is(err, zdb.ErrPoisoned):
		fs.complain("a change was refused: the local log failed to write earlier", err)
		return syscall.EIO
	case errors.Is(err, zdb.ErrClosed):
		return syscall.EIO
	case errors.Is(err, meta.ErrFormat), errors.Is(err, zdb.ErrNotFound):
		fs.complain("metadata is damaged", err)
		return syscall.EIO
	case errors.As(err, &e):
		return e
	}
	fs.complain("operation failed", err)
	return syscall.EIO
}
