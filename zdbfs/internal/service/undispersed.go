package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// undispersedFile is there while a mount runs, and stays when it ends before everything is dispersed: killed, or by a stop
// that could not wait. zstor knows only what it was told, so without it nobody could say that there is more.
const undispersedFile = "undispersed"

// Undispersed says whether a state directory may hold what no node has and zstor was not told of. It asks no daemon.
func Undispersed(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, undispersedFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// expectWrites is called before a mount takes the first of them.
func (st *state) expectWrites() error {
	if err := replaceFile(st.path(undispersedFile), nil); err != nil {
		return fmt.Errorf("note that a mount begins: %w", err)
	}
	return nil
}

// allDispersed is called when a mount has ended with nothing left to disperse. A power cut may bring the note back: then
// status doubts for no reason until the next mount.
func (st *state) allDispersed() error {
	if err := os.Remove(st.path(undispersedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
