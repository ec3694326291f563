package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

// A mount runs in a process of its own, which is this test binary again: it can be killed, and
// nobody uses files that his own process serves.
const (
	envMount    = "QSFS_TEST_MOUNT" // path of the configuration
	envTakeOver = "QSFS_TEST_TAKE_OVER"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(envMount); path != "" {
		os.Exit(int(mountChild(path)))
	}
	os.Exit(m.Run())
}

func mountChild(path string) exit.Code {
	cfg, err := config.Load(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exit.Usage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err = Run(ctx, Options{
		Config: cfg, TakeOver: os.Getenv(envTakeOver) != "", Log: log,
		StopTimeout: 20 * time.Second, ZstorWait: 500 * time.Millisecond,
		patience: patience{time.Second, 3 * time.Second},
		receipt: func(state string, s zdb.SegmentInfo) (bool, error) {
			b, err := os.ReadFile(filepath.Join(state, dataDir, client.NamespaceData, "r"+itoa(uint32(s.ID))))
			if err != nil || string(b) != "receipt" && string(b) != "weak receipt" {
				return false, errors.Join(errors.New("not a receipt"), err)
			}
			return string(b) == "receipt", nil
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "zdbfs: "+err.Error())
	}
	return exit.Of(err)
}

// machine is a front machine: a configuration, a fake zstor, and at times a mount.
type machine struct {
	t      *testing.T
	base   string
	state  string
	dir    string
	config string
	z      *fakeZstor

	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{}
}

// logBuffer collects what a child says.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newMachine(t *testing.T, settings ...string) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts filesystems: it needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Fatalf("this test mounts filesystems: it needs /dev/fuse: %v", err)
	}
	base, err := os.MkdirTemp("", "qsfs") // shorter than t.TempDir: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{
		t: t, base: base, state: filepath.Join(base, "state"), dir: filepath.Join(base, "mnt"),
		config: filepath.Join(base, "qsfs.toml"), log: &logBuffer{},
	}
	t.Cleanup(m.clean)
	must(t, os.Mkdir(m.state, 0o700))
	m.configure(settings...)
	if _, err := config.GenerateKey(filepath.Join(base, "key")); err != nil {
		t.Fatal(err)
	}
	m.z = newFakeZstor(t, filepath.Join(base, "zstor.sock"), m.state)
	return m
}

func (m *machine) configure(settings ...string) {
	m.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "minimal_shards = 4\nexpected_shards = 6\nredundant_groups = 1\nsocket = %q\n", filepath.Join(m.base, "zstor.sock"))
	for g := range 3 {
		fmt.Fprintf(&b, "[[groups]]\nname = \"g%d\"\n", g)
		for n := range 2 {
			fmt.Fprintf(&b, "[[groups.backends]]\naddress = \"127.0.0.1:%d\"\nnamespace = \"d\"\n", 1+2*g+n)
		}
	}
	b.WriteString("[meta]\ntype = \"zdb\"\n[meta.config]\nprefix = \"p\"\n")
	for n := range 6 {
		fmt.Fprintf(&b, "[[meta.config.backends]]\naddress = \"127.0.0.1:%d\"\nnamespace = \"m\"\n", 1+n)
	}
	fmt.Fprintf(&b, "[qsfs]\nstate = %q\nmount = %q\nkey_file = %q\nsync_interval = \"400ms\"\nflush_interval = \"100ms\"\nfetch_timeout = \"2s\"\n%s\n",
		m.state, m.dir, filepath.Join(m.base, "key"), strings.Join(settings, "\n"))
	must(m.t, os.WriteFile(m.config, []byte(b.String()), 0o600))
}

// start begins a mount and does not wait.
func (m *machine) start(env ...string) {
	m.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), envMount+"="+m.config), env...)
	cmd.Stderr = m.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	must(m.t, cmd.Start())
	m.cmd, m.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(m.done)
}

// mount begins a mount and waits until it answers.
func (m *machine) mount(env ...string) {
	m.t.Helper()
	m.start(env...)
	m.eventually("the mount", func() error {
		select {
		case <-m.done:
			m.t.Fatalf("the mount ended with code %d", m.cmd.ProcessState.ExitCode())
		default:
		}
		_, err := m.control().Status(context.Background())
		return err
	})
}

// refused begins a mount that must end by itself, with a code and a line.
func (m *machine) refused(code exit.Code, line string, env ...string) {
	m.t.Helper()
	seen := len(m.log.String())
	m.start(env...)
	if got := m.wait(30 * time.Second); got != code {
		m.t.Errorf("exit code %d, want %d", got, code)
	}
	out := m.log.String()[seen:]
	found := 0
	for l := range strings.Lines(out) {
		if strings.HasPrefix(l, "zdbfs: ") && strings.Contains(l, line) {
			found++
		}
	}
	if found != 1 || strings.Count(out, "zdbfs: ") != 1 {
		m.t.Errorf("want one line with %q, got:\n%s", line, out)
	}
	if got, err := mountedAt(m.dir); err != nil || got {
		m.t.Errorf("something is mounted at %s (%v)", m.dir, err)
	}
}

func (m *machine) wait(limit time.Duration) exit.Code {
	m.t.Helper()
	select {
	case <-m.done:
	case <-time.After(limit):
		m.t.Error("the mount does not end")
		_ = m.cmd.Process.Kill()
		<-m.done
	}
	code := m.cmd.ProcessState.ExitCode()
	m.cmd = nil
	return exit.Code(code)
}

// stop ends the mount in order.
func (m *machine) stop() {
	m.t.Helper()
	must(m.t, m.cmd.Process.Signal(syscall.SIGTERM))
	if code := m.wait(60 * time.Second); code != exit.OK {
		m.t.Errorf("the mount ended with code %d", code)
	}
	if got, err := mountedAt(m.dir); err != nil || got {
		m.t.Errorf("something is mounted at %s (%v)", m.dir, err)
	}
}

func (m *machine) kill() {
	_ = m.cmd.Process.Kill()
	<-m.done
	m.cmd = nil
}

func (m *machine) control() *control.Client {
	return control.NewClient(filepath.Join(m.base, control.SocketName))
}

func (m *machine) status() *control.Status {
	m.t.Helper()
	st, err := m.control().Status(context.Background())
	must(m.t, err)
	return st
}

func (m *machine) ship() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := m.control().Sync(ctx, control.SyncRequest{Remote: true})
	must(m.t, err)
}

func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

func (m *machine) eventually(what string, f func() error) {
	m.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("waited for %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (m *machine) clean() {
	if m.cmd != nil {
		m.kill()
	}
	for range 4 {
		if unix.Unmount(m.dir, unix.MNT_DETACH) != nil {
			break
		}
	}
	if m.t.Failed() {
		m.t.Logf("the mount said:\n%s", m.log)
	}
	if err := os.RemoveAll(m.base); err != nil {
		m.t.Errorf("clean up: %v", err)
	}
}

// mountedAt says whether a filesystem is mounted there, dead or alive.
func mountedAt(dir string) (bool, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	return bytes.Contains(b, []byte(" "+dir+" ")), err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// loadConfig gives the machine's configuration to calls in this process.
func (m *machine) loadConfig() *config.Config {
	m.t.Helper()
	cfg, err := config.Load(m.config)
	must(m.t, err)
	return cfg
}
