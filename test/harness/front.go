package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zstor/client"
)

// fuseMagic is what statfs(2) says of a FUSE mount.
const fuseMagic = 0x65735546

// Front is a machine that mounts the filesystem: a state directory, a zstor daemon and a zdbfs mount.
type Front struct {
	Name       string
	State      string
	Socket     string
	Mountpoint string
	Config     string
	KeyFile    string
	Settings   map[string]string // keys of [qsfs]; call Configure after a change
	Zstor      *Process
	Zdbfs      *Process

	cluster   *Cluster
	t         TB
	announced bool // the reaper knows of the mount
}

// NewFront prepares another front machine with the same nodes and key, and a state directory of its own. Paths that are
// empty are made below the cluster's directory.
func (c *Cluster) NewFront(name, state, mount string) *Front {
	c.t.Helper()
	base := filepath.Join(c.dir, name)
	f := &Front{
		Name: name, State: state, Mountpoint: mount, KeyFile: c.key, cluster: c, t: c.t, Settings: maps.Clone(c.settings),
		Socket: filepath.Join(base, "run", "zstor.sock"), Config: filepath.Join(base, "qsfs.toml"),
	}
	if f.State == "" {
		f.State = filepath.Join(base, "state")
	}
	if f.Mountpoint == "" {
		f.Mountpoint = filepath.Join(base, "mnt")
	}
	for _, dir := range []string{base, filepath.Dir(f.Socket), f.State} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			c.t.Fatalf("make directory: %v", err)
		}
	}
	if err := os.MkdirAll(f.Mountpoint, 0o755); err != nil && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, os.ErrExist) {
		c.t.Fatalf("make mount point: %v", err)
	}
	f.Configure()
	f.Zstor = NewProcess(c.t, c.logs(), name+"-zstor", c.programs.Path("zstor"), "daemon", "--config", f.Config)
	f.Zdbfs = NewProcess(c.t, c.logs(), name+"-zdbfs", c.programs.Path("zdbfs"), "mount", "--config", f.Config, "--stop-timeout", "20s")
	c.t.Cleanup(f.detach)
	return f
}

// Configure writes the configuration file again.
func (f *Front) Configure() {
	f.t.Helper()
	if err := f.writeConfig(); err != nil {
		f.t.Fatalf("write the configuration: %v", err)
	}
}

// Path of a name in the mount.
func (f *Front) Path(name ...string) string {
	return filepath.Join(append([]string{f.Mountpoint}, name...)...)
}

// Up starts zstor and the mount.
func (f *Front) Up() {
	f.t.Helper()
	f.UpZstor()
	f.Mount()
}

// UpZstor starts the daemon and waits until it answers on its socket.
func (f *Front) UpZstor() {
	f.t.Helper()
	f.Zstor.Start()
	f.WaitZstor()
}

// WaitZstor waits until the daemon answers on its socket.
func (f *Front) WaitZstor() {
	f.t.Helper()
	Eventually(f.t, 30*time.Second, f.Name+"'s zstor to answer", func() (bool, string) {
		if !f.Zstor.Alive() {
			return false, "it has ended:\n" + tail(f.Zstor.Log(), 2000)
		}
		_, err := f.TryStatus()
		return err == nil, fmt.Sprint(err)
	})
}

// Mount starts zdbfs and waits until the mount is there.
func (f *Front) Mount(extra ...string) {
	f.t.Helper()
	f.StartMount(extra...)
	f.WaitMount()
}

// StartMount starts zdbfs with further arguments and does not wait.
func (f *Front) StartMount(extra ...string) {
	f.t.Helper()
	if !f.announced {
		announce("+", "mount", f.Mountpoint)
		f.announced = true
	}
	f.Zdbfs.Args = append(f.Zdbfs.Args[:6:6], extra...)
	f.Zdbfs.Start()
}

// WaitMount waits until the mount answers.
func (f *Front) WaitMount() {
	f.t.Helper()
	Eventually(f.t, 60*time.Second, f.Name+"'s mount", func() (bool, string) {
		if !f.Zdbfs.Alive() {
			return false, "zdbfs has ended:\n" + tail(f.Zdbfs.Log(), 2000)
		}
		return f.Mounted(), "no filesystem at " + f.Mountpoint
	})
}

// Mounted reports whether a living filesystem is at the mount point.
func (f *Front) Mounted() bool {
	var st unix.Statfs_t
	return unix.Statfs(f.Mountpoint, &st) == nil && st.Type == fuseMagic
}

// Down stops the mount, then zstor, both with SIGTERM.
func (f *Front) Down() {
	f.t.Helper()
	f.Unmount()
	f.Zstor.Stop(2 * time.Minute)
}

// Unmount stops zdbfs with SIGTERM: it flushes, unmounts and ends.
func (f *Front) Unmount() {
	f.t.Helper()
	f.Zdbfs.Stop(2 * time.Minute)
	if f.Mounted() {
		f.t.Errorf("zdbfs has ended and %s is still mounted", f.Mountpoint)
		return
	}
	f.retract()
}

// Kill9 kills both daemons and takes the dead mount away, as the end of the machine would.
func (f *Front) Kill9() {
	f.Zdbfs.Kill9()
	f.Zstor.Kill9()
	f.detach()
}

// Wipe removes the whole state of a front machine that is down.
func (f *Front) Wipe() {
	f.t.Helper()
	if err := os.RemoveAll(f.State); err != nil {
		f.t.Fatalf("wipe the state: %v", err)
	}
	if err := os.MkdirAll(f.State, 0o700); err != nil {
		f.t.Fatalf("make an empty state: %v", err)
	}
}

// detach takes a mount away whose daemon is gone.
func (f *Front) detach() {
	f.Zdbfs.Kill9()
	for range 8 {
		if unix.Unmount(f.Mountpoint, unix.MNT_DETACH) != nil {
			break
		}
	}
	f.retract()
}

// retract tells the reaper that the mount is gone.
func (f *Front) retract() {
	if f.announced {
		announce("-", "mount", f.Mountpoint)
		f.announced = false
	}
}

// Command runs one of the programs with this machine's configuration.
func (f *Front) Command(limit time.Duration, program, command string, args ...string) Result {
	f.t.Helper()
	line := append([]string{f.cluster.programs.Path(program), command, "--config", f.Config}, args...)
	return Run(f.t, limit, line...)
}

// MustCommand is Command that fails unless the program succeeds.
func (f *Front) MustCommand(limit time.Duration, program, command string, args ...string) string {
	f.t.Helper()
	r := f.Command(limit, program, command, args...)
	if r.Code != 0 {
		f.t.Fatalf("%s %s %v: exit code %d\n%s%s", program, command, args, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// TryStatus asks the daemon for its status.
func (f *Front) TryStatus() (*client.Status, error) {
	c := client.New(f.Socket)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.Status(ctx)
}

// Status asks the daemon for its status and fails when it does not answer.
func (f *Front) Status() *client.Status {
	f.t.Helper()
	s, err := f.TryStatus()
	if err != nil {
		f.t.Fatalf("%s: status: %v", f.Name, err)
	}
	return s
}

// WaitStatus waits until the status satisfies ok.
func (f *Front) WaitStatus(limit time.Duration, what string, ok func(*client.Status) bool) *client.Status {
	f.t.Helper()
	var last *client.Status
	Eventually(f.t, limit, "the status to say: "+what, func() (bool, string) {
		s, err := f.TryStatus()
		if err != nil {
			return false, err.Error()
		}
		last = s
		return ok(s), fmt.Sprintf("%+v", *s)
	})
	return last
}

// WaitSafe waits until everything is dispersed at full strength and nothing is pending.
func (f *Front) WaitSafe(limit time.Duration) *client.Status {
	f.t.Helper()
	return f.WaitStatus(limit, "safe", func(s *client.Status) bool {
		return s.Safety == client.Safe && s.Pending.Bytes == 0 && s.Pending.Segments == 0
	})
}

// Ship makes everything written so far stable and covered by a cut, and waits for it.
func (f *Front) Ship(limit time.Duration) {
	f.t.Helper()
	f.MustCommand(limit, "zdbfs", "sync", "--remote")
}

// Seal is Ship that first closes the active segments, so that all data can be evicted, and waits until all is at full strength.
func (f *Front) Seal(limit time.Duration) {
	f.t.Helper()
	f.MustCommand(limit, "zdbfs", "sync", "--remote", "--seal")
	f.WaitSafe(limit)
}

// EvictAll asks the daemon to drop every sealed data segment and every fetched stripe, and fails when a segment is left.
func (f *Front) EvictAll(limit time.Duration) {
	f.t.Helper()
	r := f.Command(limit, "zdbfs", "evict", "--all", "--wait", "5s")
	DropCaches(f.t)
	if left := f.SealedDataSegments(); len(left) > 0 || (r.Code != 0 && r.Code != exitUnsafe) {
		f.t.Fatalf("evict --all: exit code %d; these sealed segments are still local: %v\n%s%s", r.Code, left, r.Stdout, r.Stderr)
	}
}

// DropCaches makes the kernel forget clean pages, dentries and inodes.
func DropCaches(t TB) {
	t.Helper()
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0o200); err != nil {
		t.Fatalf("drop the kernel's caches: %v", err)
	}
}

// Recover brings the filesystem back into an empty state directory, from the nodes, and mounts it.
func (f *Front) Recover(limit time.Duration) {
	f.t.Helper()
	if !f.Zstor.Alive() {
		f.UpZstor()
	}
	f.MustCommand(limit, "zdbfs", "recover")
	f.Mount()
}
