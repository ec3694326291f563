package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"qsfs/zdb/client"
)

// The test binary is the program when this variable is set, so that the tests run and kill real processes.
const beProgram = "ZDB_TEST_RUN_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(beProgram) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// A node is a zdb serve process on directories of its own.
type node struct {
	t       *testing.T
	dir     string
	address string
	flags   []string
	cmd     *exec.Cmd
	log     lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newNode(t *testing.T, flags ...string) *node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := &node{t: t, dir: t.TempDir(), address: l.Addr().String()}
	n.flags = append([]string{
		"serve", "--listen", n.address, "--data", filepath.Join(n.dir, "data"), "--index", filepath.Join(n.dir, "index"),
		"--admin", "root", "--segment-size", "1MiB", "--ballast", "0",
	}, flags...)
	t.Cleanup(n.kill)
	return n
}

func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), beProgram+"=1")
	return cmd
}

// start starts the process with further environment and waits until it answers.
func (n *node) start(env ...string) {
	n.t.Helper()
	if !n.survives(env...) {
		n.t.Fatalf("node ended before it answered\n%s", n.log.String())
	}
}

// survives is start, and says whether the process lived until it answered.
func (n *node) survives(env ...string) bool {
	n.t.Helper()
	n.cmd = program(n.flags...)
	n.cmd.Env = append(n.cmd.Env, env...)
	n.cmd.Stderr = &n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := client.Dial(n.t.Context(), client.Options{Address: n.address})
		if err == nil {
			c.Close()
			return true
		}
		var status syscall.WaitStatus
		if pid, err := syscall.Wait4(n.cmd.Process.Pid, &status, syscall.WNOHANG, nil); err == nil && pid == n.cmd.Process.Pid {
			n.cmd = nil
			return false
		}
		if time.Now().After(deadline) {
			n.stop(syscall.SIGQUIT) // shows what it is at
			n.t.Fatalf("node does not answer: %v\n%s", err, n.log.String())
		}
	}
}

// kill ends the process as a power cut of its own does; it waits until it is gone.
func (n *node) kill() {
	if n.cmd != nil {
		n.cmd.Process.Kill()
		n.cmd.Wait()
		n.cmd = nil
	}
}

// stop ends the process by a signal and returns its exit code.
func (n *node) stop(s os.Signal) int {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
	n.cmd.Wait()
	code := n.cmd.ProcessState.ExitCode()
	n.cmd = nil
	return code
}

// client returns a Client that is closed with the test.
func (n *node) client(o client.Options) *client.Client {
	n.t.Helper()
	o.Address = n.address
	c, err := client.New(o)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c
}
