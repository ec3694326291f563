package harness

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaperEnv marks the process that cleans up after this one.
const reaperEnv = "QSFS_TEST_REAPER"

// reaper is this process's end of the pipe to its reaper.
var reaper struct {
	mu   sync.Mutex
	pipe io.WriteCloser
}

// Main must wrap the main function of every program that uses the harness, and TestMain of every test. It starts the reaper:
// a copy of this program that waits on a pipe, and when this process is gone, in whatever way, ends the processes, mounts and
// directories that it had announced and not taken back.
func Main(run func() int) int {
	if os.Getenv(reaperEnv) != "" {
		reap(os.Stdin)
		return 0
	}
	// A root shell that came by su may lack what mkfs, losetup and mount live in.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		fmt.Fprintln(os.Stderr, "set PATH:", err)
		return 1
	}
	stop, err := startReaper()
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the reaper:", err)
		return 1
	}
	defer stop()
	defer removeBuild()
	return run()
}

func startReaper() (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), reaperEnv+"=1")
	// It must say nothing: with our stderr in its hands `go test` would wait for it, and with that closed a write would kill it.
	// A session of its own: neither Ctrl-C nor a kill of the process group takes it along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	reaper.mu.Lock()
	reaper.pipe = pipe
	reaper.mu.Unlock()
	return func() {
		_ = pipe.Close()
		_ = cmd.Wait()
	}, nil
}

// announce tells the reaper about something to clean up ("+") or already cleaned up ("-").
func announce(sign, kind, what string) {
	reaper.mu.Lock()
	defer reaper.mu.Unlock()
	if reaper.pipe == nil {
		panic("harness.Main does not wrap this program")
	}
	fmt.Fprintf(reaper.pipe, "%s%s %s\n", sign, kind, what)
}

// reap reads announcements until the pipe closes, then cleans up what is left, newest first.
func reap(in io.Reader) {
	var left []string
	for lines := bufio.NewScanner(in); lines.Scan(); {
		line := lines.Text()
		switch line[0] {
		case '+':
			left = append(left, line[1:])
		case '-':
			if i := slices.Index(left, line[1:]); i >= 0 {
				left = slices.Delete(left, i, i+1)
			}
		}
	}
	// Processes first: a mount whose daemon lives and hangs would hold up everything else.
	for _, kind := range []string{"pid", "mount", "dir"} {
		for _, item := range slices.Backward(left) {
			if k, what, _ := strings.Cut(item, " "); k == kind {
				reapOne(kind, what)
			}
		}
	}
}

func reapOne(kind, what string) {
	switch kind {
	case "pid":
		pid, started, _ := strings.Cut(what, "@")
		n, err := strconv.Atoi(pid)
		if err == nil && processStart(n) == started {
			_ = syscall.Kill(n, syscall.SIGKILL)
			waitFor(5*time.Second, func() (bool, string) { return processStart(n) != started, "" })
		}
	case "mount":
		_ = unix.Unmount(what, unix.MNT_DETACH)
	case "dir":
		if strings.HasPrefix(what, os.TempDir()+"/qsfs-") {
			_ = os.RemoveAll(what)
		}
	}
}

// processStart identifies a process beyond its number: the start time of the pid in clock ticks, "" when there is none.
func processStart(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name in parentheses may hold anything; the fields count from behind it.
	i := strings.LastIndexByte(string(b), ')')
	fields := strings.Fields(string(b[i+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}
