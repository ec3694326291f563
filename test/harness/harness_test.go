package harness

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childVar makes the test binary play another part: a test run that is killed without a chance to clean up.
const childVar = "QSFS_HARNESS_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVar); dir != "" && os.Getenv(reaperEnv) == "" {
		os.Exit(Main(func() int { return RunProgram(func(p *Program) { leaveBehind(p, dir) }) }))
	}
	os.Exit(Main(m.Run))
}

// leaveBehind starts a process, mounts something, says so and hangs.
func leaveBehind(p *Program, dir string) {
	sleeper := NewProcess(p, dir, "sleeper", "/bin/sleep", "1000")
	sleeper.Start()
	disk := NewSmallDisk(p, 8<<20)
	if err := os.WriteFile(filepath.Join(dir, "left"), []byte(sleeper.id+" "+disk.Dir), 0o600); err != nil {
		p.Fatalf("%v", err)
	}
	select {}
}

// TestReaperCleansUpAfterKill kills a program that uses the harness with SIGKILL.
func TestReaperCleansUpAfterKill(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVar+"="+dir)
	if err := StartDying(cmd); err != nil {
		t.Fatal(err)
	}
	var left string
	Eventually(t, 20*time.Second, "the child to be ready", func() (bool, string) {
		b, err := os.ReadFile(filepath.Join(dir, "left"))
		left = string(b)
		return err == nil && left != "", errText(err)
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	id, mount, _ := strings.Cut(left, " ")
	Eventually(t, 20*time.Second, "process, mount and directory to go", func() (bool, string) {
		var reasons []string
		pid, started, _ := strings.Cut(id, "@")
		if b, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && bytes.Contains(b, []byte("sleep")) {
			reasons = append(reasons, "process "+id+" lives, started "+started)
		}
		if mounts, _ := os.ReadFile("/proc/mounts"); bytes.Contains(mounts, []byte(mount)) {
			reasons = append(reasons, mount+" is mounted")
		}
		if _, err := os.Stat(filepath.Dir(mount)); err == nil {
			reasons = append(reasons, "the directory is there")
		}
		return len(reasons) == 0, strings.Join(reasons, ", ")
	})
}

func TestProcessStartKillRestart(t *testing.T) {
	p := NewProcess(t, t.TempDir(), "cat", "/bin/sh", "-c", "echo hello $X; exec sleep 100")
	p.Env = []string{"X=first"}
	p.Start()
	Eventually(t, 5*time.Second, "output", func() (bool, string) { return strings.Contains(p.Log(), "hello first"), p.Log() })
	first := p.Pid()
	p.Kill9()
	if p.Alive() || p.ExitCode() != -1 {
		t.Errorf("after Kill9: alive %v, exit code %d", p.Alive(), p.ExitCode())
	}
	p.Env = nil
	p.Start()
	if p.Pid() == 0 || p.Pid() == first {
		t.Errorf("restart: pid %d, was %d", p.Pid(), first)
	}
}

// TestDiskPowerCut: what was fsynced is there after a cut, what was only written is not.
func TestDiskPowerCut(t *testing.T) {
	d := NewDisk(t, 320<<20)
	synced, unsynced := filepath.Join(d.Dir, "synced"), filepath.Join(d.Dir, "unsynced")
	f, err := os.Create(synced)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("promised"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	dir, err := os.Open(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Sync(); err != nil {
		t.Fatal(err)
	}
	_ = dir.Close()
	if err := os.WriteFile(unsynced, []byte("not promised"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.PowerCut()
	if err := os.WriteFile(filepath.Join(d.Dir, "later"), nil, 0o600); err == nil {
		t.Error("a write after the cut succeeded")
	}
	d.PowerOn()
	if b, err := os.ReadFile(synced); err != nil || string(b) != "promised" {
		t.Errorf("synced file: %q, %v", b, err)
	}
	if _, err := os.Stat(unsynced); err == nil {
		t.Error("the unsynced file survived: this cut proves nothing")
	}
}

func TestDiskFill(t *testing.T) {
	d := NewSmallDisk(t, 16<<20)
	filler := d.Fill()
	var st unix.Statfs_t
	if err := unix.Statfs(d.Dir, &st); err != nil || st.Bavail != 0 {
		t.Errorf("%d blocks are left, %v", st.Bavail, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Error(err)
	}
}

// echoServer answers each byte with itself.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestProxyFaults(t *testing.T) {
	p := NewProxy(t, echoServer(t))
	ask := func(n int, limit time.Duration) (int, error) {
		c, err := net.Dial("tcp", p.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(limit))
		sent := bytes.Repeat([]byte("a"), n)
		if _, err := c.Write(sent); err != nil {
			return 0, err
		}
		got := make([]byte, n)
		m, err := io.ReadFull(c, got)
		if err == nil && !bytes.Equal(got, sent) {
			return m, io.ErrNoProgress
		}
		return m, err
	}
	if _, err := ask(1000, 5*time.Second); err != nil {
		t.Errorf("without a fault: %v", err)
	}
	p.Set(Fault{Silent: true})
	if n, err := ask(10, 100*time.Millisecond); err == nil || n != 0 {
		t.Errorf("silent: %d bytes, %v", n, err)
	}
	p.Set(Fault{DropReply: true})
	if n, err := ask(10, 5*time.Second); err == nil || n != 0 || p.Drops() == 0 {
		t.Errorf("lost reply: %d bytes, %v, %d drops", n, err, p.Drops())
	}
	p.Set(Fault{CutAfter: 400})
	if n, err := ask(1000, 5*time.Second); err == nil || n != 400 {
		t.Errorf("cut: %d bytes, %v", n, err)
	}
	p.Set(Fault{FlipEvery: 100})
	if _, err := ask(1000, 5*time.Second); err != io.ErrNoProgress || p.Flips() != 10 {
		t.Errorf("flips: %v, %d", err, p.Flips())
	}
	p.Set(Fault{Rate: 10000})
	start := time.Now()
	if _, err := ask(2000, 5*time.Second); err != nil || time.Since(start) < 200*time.Millisecond {
		t.Errorf("slow: %v after %v", err, time.Since(start))
	}
}
