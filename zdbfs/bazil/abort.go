package bazil

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// connections is where the kernel's control filesystem for FUSE usually is.
const connections = "/sys/fs/fuse/connections"

// abortConnection ends a connection by its number, which is the minor number of its device. That works
// for mounts that are not in our tree any more.
func abortConnection(device string) error {
	_, minor, ok := strings.Cut(device, ":")
	if !ok {
		return fmt.Errorf("device %q has no number", device)
	}
	err := writeAbort(connections, minor)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// Nobody has mounted it here.
	dir, err := os.MkdirTemp("", "fusectl-")
	if err != nil {
		return err
	}
	if err := unix.Mount("fusectl", dir, "fusectl", 0, ""); err != nil {
		return errors.Join(fmt.Errorf("mount fusectl: %w", err), os.Remove(dir))
	}
	return errors.Join(writeAbort(dir, minor), unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir))
}

func writeAbort(dir, minor string) error {
	f, err := os.OpenFile(filepath.Join(dir, minor, "abort"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("1")
	return errors.Join(err, f.Close())
}
