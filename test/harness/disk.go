package harness

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is a filesystem of its own on a loop image, whose power can be cut and which can be filled up.
type Disk struct {
	Dir   string // where it is mounted
	image string
	kind  string
	t     TB
	on    bool
}

// The request with which XFS shuts a filesystem down, and its flag not to flush its log first (xfs_fs.h).
const (
	goingDown  = 0x8004587d // _IOR('X', 125, __u32)
	noLogFlush = 2
)

// NewDisk makes an XFS image of the given size (at least 300 MiB, which mkfs.xfs demands) and mounts it.
func NewDisk(t TB, size int64) *Disk { return newDisk(t, "xfs", size) }

// NewSmallDisk makes an ext4 image, which may be small.
func NewSmallDisk(t TB, size int64) *Disk { return newDisk(t, "ext4", size) }

func newDisk(t TB, kind string, size int64) *Disk {
	t.Helper()
	base := TempDir(t)
	d := &Disk{Dir: filepath.Join(base, "disk"), image: filepath.Join(base, "image"), kind: kind, t: t}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		t.Fatalf("make mount point: %v", err)
	}
	f, err := os.Create(d.image)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatalf("make disk image: %v", err)
	}
	_ = f.Close()
	MustRun(t, time.Minute, "mkfs."+kind, "-q", d.image)
	t.Cleanup(d.umount)
	d.mount()
	return d
}

// PowerCut shuts the filesystem down hard: what was not synced is lost, and everything fails from now on. An fdatasync of a
// file that grows, under way while it shuts down, may be answered with success although it is lost.
func (d *Disk) PowerCut() {
	d.t.Helper()
	if d.kind != "xfs" {
		d.t.Fatalf("only an XFS disk has a power switch")
	}
	dir, err := os.Open(d.Dir)
	if err != nil {
		d.t.Fatalf("open the disk: %v", err)
	}
	defer dir.Close()
	// Called here and not by xfs_io, so that the caller can tell to the millisecond when it happened.
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), goingDown, noLogFlush); err != nil {
		d.t.Fatalf("shut %s down: %v", d.Dir, err)
	}
}

// PowerOn mounts the disk again after a cut. Nothing may hold a file on it any more.
func (d *Disk) PowerOn() {
	d.t.Helper()
	Eventually(d.t, 30*time.Second, d.Dir+" to be a disk that works", func() (bool, string) {
		d.umount()
		d.mount()
		// A mount namespace that was copied in between holds the old filesystem, and this mount is the same one still.
		_, err := os.ReadDir(d.Dir)
		return err == nil, errText(err)
	})
}

// Fill writes a file until the disk has no block left, and gives its path.
func (d *Disk) Fill() string {
	d.t.Helper()
	path := filepath.Join(d.Dir, "filler")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatalf("open filler: %v", err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	return path
}

func (d *Disk) mount() {
	d.t.Helper()
	announce("+", "mount", d.Dir)
	// mount(8) sets the loop device up so that it goes away with the mount.
	MustRun(d.t, time.Minute, "mount", "-o", "loop", d.image, d.Dir)
	d.on = true
}

func (d *Disk) umount() {
	d.t.Helper()
	if !d.on {
		return
	}
	// The last process that used it may take a moment to die.
	reason, ok := waitFor(10*time.Second, func() (bool, string) {
		err := unix.Unmount(d.Dir, 0)
		return err == nil, "umount: " + errText(err)
	})
	if !ok {
		d.t.Errorf("umount %s: %s", d.Dir, reason)
		_ = unix.Unmount(d.Dir, unix.MNT_DETACH)
	}
	announce("-", "mount", d.Dir)
	d.on = false
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TempDir makes a directory with a short path (unix sockets have room for 107 bytes) that goes away with the test.
func TempDir(t TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "qsfs-")
	if err != nil {
		t.Fatalf("make temporary directory: %v", err)
	}
	announce("+", "dir", dir)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove %s: %v", dir, err)
			return
		}
		announce("-", "dir", dir)
	})
	return dir
}
