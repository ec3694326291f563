package zdbfs

import (
	"context"
	"syscall"
	"time"

	"qsfs/zdbfs/internal/meta"
)

const timeBits = SetAtime | SetMtime | SetCtime | SetAtimeNow | SetMtimeNow

// Setattr changes attributes. A change of times alone stays in memory until the next flush or fsync: with the kernel's
// writeback cache it follows every write. Everything else is one batch.
func (fs *FS) Setattr(ctx context.Context, c Caller, ino Ino, s SetattrIn) (Attr, error) {
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return Attr{}, err
	}
	defer fs.table.unpin(in)
	if err := fs.setattr(ctx, in, s); err != nil {
		return Attr{}, fs.errno(err)
	}
	return in.attr(), nil
}

func (fs *FS) setattr(ctx context.Context, in *inode, s SetattrIn) error {
	if s.Valid == 0 {
		return nil
	}
	for _, t := range []Time{s.Atime, s.Mtime, s.Ctime} {
		if t.Nsec >= 1e9 {
			return syscall.EINVAL
		}
	}
	apply := s.changes(meta.Time(TimeOf(time.Now())), in.view().Size)
	switch {
	case s.Valid&SetSize != 0:
		if s.Valid&SetKillPriv != 0 {
			if err := fs.killPriv(ctx, in); err != nil {
				return err
			}
		}
		return fs.resize(ctx, in, s.Size, apply)
	case s.Valid&^timeBits == 0:
		in.mu.Lock()
		apply(&in.a)
		in.ver++
		in.mu.Unlock()
		fs.dirty.add(in)
		return nil
	}
	in.op.Lock()
	defer in.op.Unlock()
	t := fs.begin()
	defer t.close()
	t.frees = true // overwrites a row
	t.update(in, apply)
	if s.Valid&SetKillPriv != 0 {
		if err := fs.dropCapability(ctx, t, in); err != nil {
			return err
		}
	}
	return t.commit()
}

// changes returns what s does to an inode of the given size, except for the size.
func (s SetattrIn) changes(now meta.Time, size uint64) func(*meta.Inode) {
	return func(a *meta.Inode) {
		if s.Valid&SetMode != 0 {
			a.Mode = a.Mode&syscall.S_IFMT | s.Mode&0o7777
		}
		if s.Valid&SetUid != 0 {
			a.Uid = s.Uid
		}
		if s.Valid&SetGid != 0 {
			a.Gid = s.Gid
		}
		if s.Valid&SetKillPriv != 0 && a.IsRegular() {
			a.Mode = dropPriv(a.Mode)
		}
		switch {
		case s.Valid&SetAtimeNow != 0:
			a.Atime = now
		case s.Valid&SetAtime != 0:
			a.Atime = meta.Time(s.Atime)
		}
		switch {
		case s.Valid&SetMtimeNow != 0:
			a.Mtime = now
		case s.Valid&SetMtime != 0:
			a.Mtime = meta.Time(s.Mtime)
		case s.Valid&SetSize != 0 && s.Size != size:
			a.Mtime = now
		}
		if s.Valid&SetCtime != 0 {
			a.Ctime = meta.Time(s.Ctime)
		} else {
			a.Ctime = now
		}
	}
}

// Statfs reports the room. It reads nothing, so it answers whatever else waits.
func (fs *FS) Statfs(ctx context.Context) (Statfs, error) {
	const block = 4096
	c := Capacity{Total: 1 << 50, Free: 1 << 50, Avail: 1 << 50}
	if fs.o.Capacity != nil {
		c = fs.o.Capacity()
		dirty := uint64(fs.dirty.bytes.Load())
		c.Free -= min(c.Free, dirty)
		c.Avail -= min(c.Avail, dirty+fs.o.Slack)
	}
	const files = 1 << 40
	used := min(fs.files.Load(), files)
	return Statfs{
		Blocks: c.Total / block, Bfree: c.Free / block, Bavail: c.Avail / block,
		Files: files, Ffree: files - used,
		Bsize: block, Frsize: block, NameLen: MaxName,
	}, nil
}
