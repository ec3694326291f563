// Command devcluster runs a whole QSFS installation on one machine until Ctrl-C: six nodes in three groups, both daemons and
// the mount. What is written survives: the next run with the same state directory has it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"qsfs/test/harness"
)

func main() {
	bin := flag.String("bin", "bin", "directory with zdb, zstor and zdbfs")
	mount := flag.String("mount", "/mnt/qsfs", "mount point")
	state := flag.String("state", "/var/lib/qsfs-run", "directory for everything that is kept")
	flag.Parse()
	if err := prepare(*state); err != nil {
		fmt.Fprintln(os.Stderr, "devcluster:", err)
		os.Exit(1)
	}
	os.Exit(harness.Main(func() int {
		return harness.RunProgram(func(p *harness.Program) { run(p, *bin, *mount, *state) })
	}))
}

// prepare installs what is missing and takes the state directory.
func prepare(state string) error {
	if os.Geteuid() != 0 {
		return errors.New("it mounts a filesystem: run it as root")
	}
	if err := installFuse(); err != nil {
		return err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(state, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	// The lock is held until the process ends.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another `make run` uses %s: stop it, or give STATE=", state)
	}
	return nil
}

// installFuse installs the package that mounting needs, on a machine that has apt.
func installFuse() error {
	if _, err := exec.LookPath("fusermount3"); err == nil {
		return nil
	}
	fmt.Println("fusermount3 is missing: installing the package fuse3")
	for _, args := range [][]string{{"apt-get", "update", "-q"}, {"apt-get", "install", "-y", "-q", "--no-install-recommends", "fuse3"}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("install fuse3 yourself, then run again: %v: %w", args, err)
		}
	}
	return nil
}
