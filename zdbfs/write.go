package zdbfs

import (
	"context"
	"syscall"
	"time"

	"qsfs/zdbfs/internal/meta"
)

// maxInodeDirty is how much one file may have in memory before its writer flushes it itself.
const maxInodeDirty = 16 << 20

// Write takes p at off into memory; it is stable FlushInterval later, or after Fsync. p may be used again at once. The
// result is len(p) or an error.
func (fs *FS) Write(ctx context.Context, ino Ino, h Handle, off int64, p []byte, fl WriteFlags) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if uint64(off)+uint64(len(p)) > MaxFileSize {
		return 0, syscall.EFBIG
	}
	in, err := fs.regular(ctx, ino)
	if err != nil {
		return 0, err
	}
	defer fs.table.unpin(in)
	if len(p) == 0 {
		return 0, nil
	}
	if fs.o.Admit != nil {
		if err := fs.o.Admit(ctx, ino, len(p), fl); err != nil {
			return 0, fs.errno(err)
		}
	}
	if !fl.Cache {
		// What the kernel has cached was promised long ago: the slack is kept for it.
		if err := fs.room(len(p)); err != nil {
			return 0, err
		}
	}
	if err := fs.makeRoom(ctx, in, len(p)); err != nil {
		return 0, fs.errno(err)
	}
	if fl.KillPriv {
		if err := fs.killPriv(ctx, in); err != nil {
			return 0, fs.errno(err)
		}
	}
	in.mu.Lock()
	if in.gone {
		in.mu.Unlock()
		return 0, syscall.ESTALE
	}
	in.runs.write(uint64(off), p)
	fs.recountLocked(in)
	in.a.Size = max(in.a.Size, uint64(off)+uint64(len(p)))
	if !fl.Cache {
		now := meta.Time(TimeOf(time.Now()))
		in.a.Mtime, in.a.Ctime = now, now
		in.ver++
	}
	big := in.runs.bytes >= maxInodeDirty/4
	in.mu.Unlock()
	fs.dirty.add(in)
	if big {
		fs.early(in)
	}
	return len(p), nil
}

// room refuses new space when what is left is needed for data already accepted.
func (fs *FS) room(n int) error {
	if fs.o.Capacity == nil {
		return nil
	}
	if fs.o.Capacity().Avail < fs.o.Slack+uint64(fs.dirty.bytes.Load())+uint64(n) {
		return syscall.ENOSPC
	}
	return nil
}

// LowSpace says that room is below the slack: writers should bypass the kernel's cache, to hear of ENOSPC at once.
func (fs *FS) LowSpace() bool { return fs.room(0) != nil }

// makeRoom holds a writer until its data fits in memory: it flushes, its own file first, then the oldest.
func (fs *FS) makeRoom(ctx context.Context, in *inode, n int) error {
	in.mu.RLock()
	own := in.runs.bytes
	in.mu.RUnlock()
	if own >= maxInodeDirty {
		if err := fs.flush(ctx, in, flushFull); err != nil {
			return err
		}
		in.mu.RLock()
		own = in.runs.bytes
		in.mu.RUnlock()
		if own >= maxInodeDirty { // in pieces
			if err := fs.flush(ctx, in, flushBlobs); err != nil {
				return err
			}
		}
	}
	for fs.dirty.bytes.Load()+int64(n) > fs.o.WriteBuffer {
		oldest := fs.dirty.pop(far)
		if oldest == nil {
			if fs.dirty.bytes.Load() == 0 {
				return nil // a single write larger than the buffer
			}
			// Others are flushing.
			select {
			case <-fs.dirty.less:
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		err := fs.flush(ctx, oldest, flushBlobs)
		fs.dirty.done(oldest)
		if err != nil {
			return err
		}
	}
	return nil
}

// killPriv drops setuid, setgid and file capabilities, if there are any.
func (fs *FS) killPriv(ctx context.Context, in *inode) error {
	v := in.view()
	if dropPriv(v.Mode) == v.Mode && v.Flags&meta.FlagXattr == 0 {
		return nil
	}
	in.op.Lock()
	defer in.op.Unlock()
	t := fs.begin()
	defer t.close()
	if dropPriv(v.Mode) != v.Mode {
		t.update(in, func(a *meta.Inode) { a.Mode, a.Ctime = dropPriv(a.Mode), t.now })
	}
	if err := fs.dropCapability(ctx, t, in); err != nil {
		return err
	}
	return t.commit()
}

// dropPriv clears setuid, and setgid where it means a group's rights.
func dropPriv(mode uint32) uint32 {
	mode &^= syscall.S_ISUID
	if mode&syscall.S_IXGRP != 0 {
		mode &^= syscall.S_ISGID
	}
	return mode
}

const capabilityXattr = "security.capability"

// dropCapability adds the removal of security.capability to t, if the inode has it. The caller holds in.op.
func (fs *FS) dropCapability(ctx context.Context, t *txn, in *inode) error {
	if v := in.view(); v.Flags&meta.FlagXattr == 0 {
		return nil
	}
	key := meta.XattrKey(uint64(in.ino), capabilityXattr)
	_, found, err := t.get(context.WithoutCancel(ctx), key)
	if err != nil || !found {
		return err
	}
	t.del(key)
	return nil
}
