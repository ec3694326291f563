package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"qsfs/zstor/client"
)

// asideComplete marks a directory into which everything was moved.
const asideComplete = "complete"

// moved is what makes up a filesystem's state; the rest of the directory is locks and zstor's own.
// The owner note goes last: while it is there, the directory is not taken for an empty one.
var moved = []string{cacheDir, client.CutFile, announcedFile, undispersedFile, dataDir, indexDir, client.OwnerFile}

// putAside moves the state into a directory of its own below aside/ and gives its path. It can be
// interrupted: the next call goes on with the same directory.
func (st *state) putAside(now time.Time) (string, error) {
	dir, err := st.asideFor(now)
	if err != nil {
		return "", fmt.Errorf("put the state aside: %w", err)
	}
	for _, name := range moved {
		err := os.Rename(st.path(name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("put the state aside: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, asideComplete), nil, 0o600); err != nil {
		return "", fmt.Errorf("put the state aside: %w", err)
	}
	for _, d := range []string{dir, st.path(asideDir), st.dir} {
		if err := syncDir(d); err != nil {
			return "", fmt.Errorf("put the state aside: %w", err)
		}
	}
	return dir, st.readNotes()
}

// asideFor gives the directory of an unfinished move, or a new one.
func (st *state) asideFor(now time.Time) (string, error) {
	names, err := asideNames(st.dir)
	if err != nil {
		return "", err
	}
	if n := len(names); n > 0 {
		dir := st.path(asideDir, names[n-1])
		if _, err := os.Stat(filepath.Join(dir, asideComplete)); errors.Is(err, fs.ErrNotExist) {
			return dir, nil
		}
	}
	dir := st.path(asideDir, now.UTC().Format("20060102T150405.000Z"))
	return dir, os.MkdirAll(dir, 0o700)
}

// asideNames lists what was put aside, oldest first.
func asideNames(state string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(state, asideDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
