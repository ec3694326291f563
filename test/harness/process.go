package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a program that the test starts, ends and starts again. Its output goes to one log file over all starts.
type Process struct {
	Name string
	Args []string // Args[0] is the program
	Env  []string // added to the environment of the next start

	t   TB
	log string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the process of cmd has ended
	id   string        // what the reaper was told
}

// NewProcess prepares a process that logs below dir. It is not started yet; whatever runs at the end of the test is killed.
func NewProcess(t TB, dir, name string, args ...string) *Process {
	p := &Process{Name: name, Args: args, t: t, log: filepath.Join(dir, name+".log")}
	t.Cleanup(func() {
		p.Kill9()
		if t.Failed() {
			t.Logf("--- log of %s\n%s", name, tail(p.Log(), 6000))
		}
	})
	return p
}

// starts runs on one thread that never ends: the parent-death signal fires at the death of the thread that started the child.
var starts = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// StartDying starts cmd so that it dies with this process.
func StartDying(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// A group of its own: Ctrl-C on the terminal is for the harness, which ends its children in order.
	cmd.SysProcAttr.Setpgid = true
	err := make(chan error)
	starts() <- func() { err <- cmd.Start() }
	return <-err
}

// Start runs the program. It must not run already.
func (p *Process) Start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && !closed(p.done) {
		p.t.Fatalf("%s runs already", p.Name)
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatalf("open log: %v", err)
	}
	defer out.Close()
	fmt.Fprintf(out, "=== %s start %v %v\n", time.Now().Format("15:04:05.000"), p.Args, p.Env)
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := StartDying(cmd); err != nil {
		p.t.Fatalf("start %s: %v", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	p.id = fmt.Sprintf("%d@%s", cmd.Process.Pid, processStart(cmd.Process.Pid))
	announce("+", "pid", p.id)
	go func(id string) {
		_ = cmd.Wait()
		announce("-", "pid", id)
		close(done)
	}(p.id)
}

// Pid is the number of the running process, 0 when it does not run.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || closed(p.done) {
		return 0
	}
	return p.cmd.Process.Pid
}

// Alive reports whether the process runs.
func (p *Process) Alive() bool { return p.Pid() != 0 }

// Kill9 kills the process with SIGKILL, by its number, and waits for its end.
func (p *Process) Kill9() {
	if done := p.signal(syscall.SIGKILL); done != nil {
		<-done
	}
}

// Signal sends a signal to the running process.
func (p *Process) Signal(s syscall.Signal) { p.signal(s) }

// Stop asks the process to end with SIGTERM and fails when it takes longer than the limit or ends with an error.
func (p *Process) Stop(limit time.Duration) {
	p.t.Helper()
	done := p.signal(syscall.SIGTERM)
	if done == nil {
		return
	}
	select {
	case <-done:
		if code := p.ExitCode(); code != 0 {
			p.t.Errorf("%s ended with exit code %d after SIGTERM", p.Name, code)
		}
	case <-time.After(limit):
		_ = p.signal(syscall.SIGQUIT) // its goroutines go to the log
		time.Sleep(500 * time.Millisecond)
		p.Kill9()
		p.t.Errorf("%s did not stop within %v", p.Name, limit)
	}
}

// WaitExit waits until the process has ended by itself.
func (p *Process) WaitExit(limit time.Duration) bool {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return true
	}
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// ExitCode of the last run that has ended; -1 when a signal ended it.
func (p *Process) ExitCode() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || !closed(p.done) {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// Log is everything that the process has printed, over all starts.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(b)
}

// signal sends s to the running process and gives the channel that closes at its end; nil when it does not run.
func (p *Process) signal(s syscall.Signal) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || closed(p.done) {
		return nil
	}
	_ = p.cmd.Process.Signal(s)
	return p.done
}

// Result is what a command that ran to its end printed and returned.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs a command to its end, within the limit.
func Run(t TB, limit time.Duration, args ...string) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := StartDying(cmd); err != nil {
		t.Fatalf("start %v: %v", args, err)
	}
	id := fmt.Sprintf("%d@%s", cmd.Process.Pid, processStart(cmd.Process.Pid))
	announce("+", "pid", id)
	defer announce("-", "pid", id)
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %v: %v", args, err)
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// MustRun is Run that fails unless the command succeeds.
func MustRun(t TB, limit time.Duration, args ...string) string {
	t.Helper()
	r := Run(t, limit, args...)
	if r.Code != 0 {
		t.Fatalf("%v: exit code %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + s[len(s)-n:]
}
