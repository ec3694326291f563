package bazil

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fixture is a mount in a process of its own.
type fixture struct {
	t    *testing.T
	base string
	dir  string // the mount point

	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// mountFS starts a filesystem in a fresh directory. The test leaves no mount and no process behind.
func mountFS(t *testing.T, options ...string) *fixture {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts filesystems: it needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Fatalf("this test mounts filesystems: it needs /dev/fuse: %v", err)
	}
	base := t.TempDir()
	// TempDir makes private directories; other users' access is a part of what is tested.
	for d := base; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	f := &fixture{t: t, base: base, dir: filepath.Join(base, "mnt")}
	f.start(options...)
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) start(options ...string) {
	f.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envServe+"="+f.base, envOptions+"="+strings.Join(options, ","))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.cmd, f.in, f.out = cmd, in, bufio.NewReader(out)
	if line, err := f.out.ReadString('\n'); err != nil || line != "ready\n" {
		_ = cmd.Wait()
		f.cmd = nil
		f.t.Fatalf("the test server did not start: %q, %v", line, err)
	}
}

// ask sends a command to the server.
func (f *fixture) ask(command string) string {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := io.WriteString(f.in, command+"\n"); err != nil {
		f.t.Fatalf("%s: %v", command, err)
	}
	line, err := f.out.ReadString('\n')
	if err != nil {
		f.t.Fatalf("%s: %v", command, err)
	}
	line = strings.TrimSuffix(line, "\n")
	if strings.HasPrefix(line, "error ") {
		f.t.Fatalf("%s: %s", command, line)
	}
	return line
}

// check asks for the consistency of the tree.
func (f *fixture) check() {
	f.t.Helper()
	f.ask("check")
}

func (f *fixture) stop() {
	if f.cmd == nil {
		return
	}
	_ = f.in.Close()
	done := make(chan error, 1)
	go func() { done <- f.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			f.t.Errorf("the test server ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		f.t.Error("the test server hangs")
		_ = f.cmd.Process.Kill()
		<-done
	}
	f.cmd = nil
	f.detach()
}

// kill ends the server as a power switch would.
func (f *fixture) kill() {
	_ = f.cmd.Process.Kill()
	_ = f.cmd.Wait()
	_ = f.in.Close()
	f.cmd = nil
}

func (f *fixture) detach() {
	for range 4 {
		if unix.Unmount(f.dir, unix.MNT_DETACH) != nil {
			return
		}
	}
}

// restart stops in order and mounts again.
func (f *fixture) restart() {
	f.t.Helper()
	f.stop()
	f.start()
}

func (f *fixture) path(elem ...string) string {
	return filepath.Join(append([]string{f.dir}, elem...)...)
}

// flag makes or removes a file that the server's fetch looks at.
func (f *fixture) flag(name string, on bool) {
	f.t.Helper()
	path := filepath.Join(f.base, name)
	if !on {
		_ = os.Remove(path)
		return
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pattern(seed uint64, n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(p)
	return p
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o644))
}

func wantFile(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: content differs (%d bytes, want %d)", path, len(got), len(want))
	}
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("stat %s: %v", path, err)
	}
	return st
}

func wantErrno(t *testing.T, what string, err error, want error) {
	t.Helper()
	if pe, ok := err.(*os.PathError); ok {
		err = pe.Err
	}
	if le, ok := err.(*os.LinkError); ok {
		err = le.Err
	}
	if err != want {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// dropKernelCaches makes the kernel forget clean pages and names.
func dropKernelCaches(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200))
}
