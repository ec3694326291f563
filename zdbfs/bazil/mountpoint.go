package bazil

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MountPointError says why a directory cannot be mounted on, and what to do about it.
type MountPointError struct {
	Dir    string
	Reason string
}

// Error gives one line.
func (e *MountPointError) Error() string { return fmt.Sprintf("mount point %s: %s", e.Dir, e.Reason) }

// askTimeout bounds a look at a mount whose process may hang.
const askTimeout = 5 * time.Second

// PrepareMountPoint makes dir ready to be mounted on and gives its real path. A directory that does
// not exist is made; a mount left behind by a process that is gone is detached; anything else that
// is in the way is refused.
func PrepareMountPoint(dir string) (string, error) {
	path, err := resolve(dir)
	if err != nil {
		return "", err
	}
	for range 16 { // mounts may be stacked
		m, err := findMount(path)
		if err != nil {
			return "", &MountPointError{dir, err.Error()}
		}
		if m == nil {
			return path, checkDirectory(dir, path)
		}
		err = askWithin(path, askTimeout)
		switch {
		case errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED):
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
				return "", &MountPointError{dir, fmt.Sprintf("a dead mount is there and cannot be detached: %v; run: umount -l %s", err, dir)}
			}
		case strings.HasPrefix(m.fstype, "fuse") && m.source == FSName:
			return "", &MountPointError{dir, "a qsfs filesystem is mounted there already; stop it first (zdbfs umount), or choose another directory with --mount"}
		default:
			return "", &MountPointError{dir, fmt.Sprintf("%s (%s) is mounted there; unmount it or choose another directory with --mount", m.source, m.fstype)}
		}
	}
	return "", &MountPointError{dir, "too many dead mounts are stacked there; run: umount -l " + dir}
}

// resolve follows symbolic links in everything but the last element, which may be a dead mount
// that cannot be looked at.
func resolve(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", &MountPointError{dir, err.Error()}
	}
	if abs == "/" {
		return "", &MountPointError{dir, "the root directory cannot be mounted on"}
	}
	if err := os.MkdirAll(filepath.Dir(abs), 0o755); err != nil {
		return "", &MountPointError{dir, fmt.Sprintf("cannot make it: %v", errors.Unwrap(err))}
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", &MountPointError{dir, err.Error()}
	}
	path := filepath.Join(parent, filepath.Base(abs))
	switch fi, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
		if err := os.Mkdir(path, 0o755); err != nil {
			return "", &MountPointError{dir, fmt.Sprintf("cannot make it: %v", errors.Unwrap(err))}
		}
	case err == nil && fi.Mode()&os.ModeSymlink != 0:
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", &MountPointError{dir, err.Error()}
		}
	}
	return path, nil
}

func checkDirectory(dir, path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return &MountPointError{dir, err.Error()}
	}
	if !fi.IsDir() {
		return &MountPointError{dir, "is not a directory"}
	}
	f, err := os.Open(path)
	if err != nil {
		return &MountPointError{dir, err.Error()}
	}
	defer f.Close()
	if _, err := f.Readdirnames(1); err != io.EOF {
		if err != nil {
			return &MountPointError{dir, err.Error()}
		}
		return &MountPointError{dir, "is not empty, its files would be hidden; empty it or choose another directory with --mount"}
	}
	return nil
}

// askWithin asks the filesystem at a path, and gives up on one that does not answer. The goroutine
// that waits then ends with the process that serves the mount. It has to be statfs: stat of a dead
// mount is answered by the kernel as long as its attributes were meant to last.
func askWithin(path string, d time.Duration) error {
	done := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		done <- unix.Statfs(path, &st)
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

// mountEntry is one line of /proc/self/mountinfo.
type mountEntry struct {
	device         string // major:minor
	path           string
	fstype, source string
}

// findMount gives the topmost mount at path, nil if there is none. It touches no filesystem but
// /proc, so it works on dead mounts and on our own.
func findMount(path string) (*mountEntry, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMountInfo(b, path)
}

func parseMountInfo(b []byte, path string) (*mountEntry, error) {
	var found *mountEntry
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		// ID parent major:minor root path options [optional…] - type source superoptions
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 2 {
			continue
		}
		if p := unescape(l[4]); p == path {
			found = &mountEntry{device: l[2], path: p, fstype: r[0], source: unescape(r[1])}
		}
	}
	return found, sc.Err()
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
