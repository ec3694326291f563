package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
)

// Names in the state directory.
const (
	dataDir  = "data"
	indexDir = "index"
	cacheDir = "cache"
	asideDir = "aside"
	lockFile = "lock"
)

// state is a state directory that this process has locked.
type state struct {
	dir   string
	lock  *os.File
	owner client.Owner
	owned bool // there is an owner note
	cut   *client.CutNote
}

// openState makes the directory if need be, locks it and reads its notes.
func openState(dir string) (*state, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, exit.Errorf(exit.Usage, "cannot make the state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, exit.Errorf(exit.Usage, "cannot use the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, exit.Errorf(exit.InUse, "the state directory %s is in use by another zdbfs; stop it first (zdbfs umount), or name another state directory", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	st := &state{dir: dir, lock: f}
	if err := st.readNotes(); err != nil {
		_ = st.close()
		return nil, err
	}
	return st, nil
}

func (st *state) readNotes() error {
	owner, err := client.ReadOwner(st.dir)
	switch {
	case err == nil:
		st.owner, st.owned = owner, true
	case errors.Is(err, fs.ErrNotExist):
		st.owner, st.owned = client.Owner{}, false
	default:
		return exit.Errorf(exit.Damaged, "the note of who owns this state cannot be read (%w); run: zdbfs recover", err)
	}
	if st.cut, err = client.ReadCut(st.dir); err != nil {
		return exit.Errorf(exit.Damaged, "the note of the newest cut cannot be read (%w); run: zdbfs recover", err)
	}
	return nil
}

// close gives the lock back.
func (st *state) close() error { return st.lock.Close() }

func (st *state) path(elem ...string) string {
	return filepath.Join(append([]string{st.dir}, elem...)...)
}

// empty says whether no segment of a filesystem lies here.
func (st *state) empty() (bool, error) {
	for _, ns := range []string{client.NamespaceMeta, client.NamespaceData} {
		for _, dir := range []string{dataDir, indexDir} {
			entries, err := os.ReadDir(st.path(dir, ns))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return false, fmt.Errorf("look at state: %w", err)
			}
			for _, e := range entries {
				if name := e.Name(); len(name) > 1 && strings.ContainsRune("di", rune(name[0])) && strings.Trim(name[1:], "0123456789") == "" {
					return false, nil
				}
			}
		}
	}
	return true, nil
}

// AwaitUnlocked waits until no process holds the state directory any more: the last thing that a
// mount gives back when it ends.
func AwaitUnlocked(ctx context.Context, dir string) error {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !wait(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}
