package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// blkio is where the control groups of block devices are (version 1).
const blkio = "/sys/fs/cgroup/blkio"

// A slowDisk holds the writes of processes back to so many a second, as a disk does that is slower than this machine's. What they
// sync has to get through it; the page cache stays as fast as it is.
type slowDisk struct{ group string }

// newSlowDisk makes one for the device of a directory. It takes root and a kernel that can.
func newSlowDisk(dir string, writes int) (*slowDisk, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, err
	}
	group, err := os.MkdirTemp(blkio, "bench-zdb-")
	if err != nil {
		return nil, err
	}
	d := &slowDisk{group}
	limit := fmt.Sprintf("%d:%d %d", unix.Major(st.Dev), unix.Minor(st.Dev), writes)
	if err := os.WriteFile(filepath.Join(group, "blkio.throttle.write_iops_device"), []byte(limit), 0o200); err != nil {
		return nil, errors.Join(err, d.remove())
	}
	return d, nil
}

// hold takes a running process in.
func (d *slowDisk) hold(pid int) error {
	return os.WriteFile(filepath.Join(d.group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o200)
}

// remove ends it, once its processes have ended.
func (d *slowDisk) remove() error { return os.Remove(d.group) }
