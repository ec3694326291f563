package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdbfs"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

// SalvageOptions of Salvage.
type SalvageOptions struct {
	Config *config.Config
	// From is a state directory that was put aside; empty: the one that was put aside last.
	From string
	// To is where changed files are copied; empty: they are only listed.
	To string
	// All takes every file, not only the changed ones.
	All bool
	// Found is called for each file; err says why it was not copied.
	Found func(f Salvaged, err error)
	Log   *slog.Logger
}

// Salvaged is a file that changed after the last cut of its state.
type Salvaged struct {
	Path string
	Attr zdbfs.Attr
}

// salvageMargin widens the time of the cut: what was written shortly before it may not be in it.
const salvageMargin = time.Minute

// Salvage looks through a state that lost its place, for what no cut holds. Nothing in it is changed
// but what opening it changes; files of which parts were evicted need the nodes.
func Salvage(ctx context.Context, o SalvageOptions) (copied int, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.From == "" {
		names, err := asideNames(o.Config.QSFS.State)
		if err != nil {
			return 0, fmt.Errorf("look for states put aside: %w", err)
		}
		if len(names) == 0 {
			return 0, exit.Errorf(exit.Usage, "no state was put aside in %s; name one with --from", o.Config.QSFS.State)
		}
		o.From = filepath.Join(o.Config.QSFS.State, asideDir, names[len(names)-1])
	}
	if _, err := os.Stat(filepath.Join(o.From, dataDir)); err != nil {
		return 0, exit.Errorf(exit.Usage, "%s is no state directory: %w", o.From, err)
	}
	st, err := openState(o.From)
	if err != nil {
		return 0, err
	}
	defer st.close()
	if !st.owned {
		return 0, exit.Errorf(exit.Damaged, "%s has no owner note: its epoch is not known", o.From)
	}
	z := client.New(o.Config.Socket)
	defer z.Close()
	eng, closeAll, err := openForReading(ctx, o.Config, st, z, o.Log)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	core, err := zdbfs.Open(ctx, zdbfs.Options{Meta: eng.meta, Data: eng.data, Log: o.Log})
	if err != nil {
		return 0, fmt.Errorf("open the filesystem: %w", err)
	}
	defer func() { err = errors.Join(err, core.Close(ctx)) }()
	s := &salvage{o: o, fs: core}
	if st.cut != nil && !o.All {
		s.after = st.cut.Time.Add(-salvageMargin)
	}
	err = s.dir(ctx, zdbfs.RootIno, "")
	return s.copied, err
}

type salvage struct {
	o      SalvageOptions
	fs     *zdbfs.FS
	after  time.Time
	copied int
}

// dir walks a directory. What cannot be read is reported and passed over: the rest is worth having.
func (s *salvage) dir(ctx context.Context, ino zdbfs.Ino, path string) error {
	var entries []zdbfs.Dirent
	err := s.fs.Readdir(ctx, ino, 0, func(d zdbfs.Dirent, _ func() (zdbfs.Attr, error)) bool {
		if d.Name != "." && d.Name != ".." {
			entries = append(entries, d)
		}
		return true
	})
	if err != nil {
		s.o.Found(Salvaged{Path: path}, fmt.Errorf("list: %w", err))
		return nil
	}
	for _, d := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		sub := filepath.Join(path, d.Name)
		a, err := s.fs.Getattr(ctx, d.Ino)
		if err != nil {
			s.o.Found(Salvaged{Path: sub}, err)
			continue
		}
		if a.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			if err := s.dir(ctx, d.Ino, sub); err != nil {
				return err
			}
			continue
		}
		if !a.Ctime.Time().Before(s.after) {
			err := s.take(ctx, sub, a)
			if err == nil {
				s.copied++
			}
			s.o.Found(Salvaged{Path: sub, Attr: a}, err)
		}
	}
	return nil
}

// take copies one file, if that was asked for. A file that is there already is not replaced.
func (s *salvage) take(ctx context.Context, path string, a zdbfs.Attr) error {
	if s.o.To == "" {
		return nil
	}
	to := filepath.Join(s.o.To, path)
	if !strings.HasPrefix(to, filepath.Clean(s.o.To)+string(filepath.Separator)) {
		return fmt.Errorf("%q leaves the target directory", path)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	switch a.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return s.file(ctx, to, a)
	case syscall.S_IFLNK:
		target, err := s.fs.Readlink(ctx, a.Ino)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	return errors.New("neither file nor symbolic link: not copied")
}

func (s *salvage) file(ctx context.Context, to string, a zdbfs.Attr) (err error) {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(a.Mode&0o700|0o600))
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(to)) // half a file would look like a whole one
		}
	}()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < int64(a.Size); {
		n, err := s.fs.Read(ctx, a.Ino, 0, off, buf)
		if err != nil {
			return fmt.Errorf("read at %d: %w", off, err)
		}
		if n == 0 {
			break
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	tv := []unix.Timespec{{Sec: a.Atime.Sec, Nsec: int64(a.Atime.Nsec)}, {Sec: a.Mtime.Sec, Nsec: int64(a.Mtime.Nsec)}}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, tv, 0)
}
