// Package crashpoint kills the process at named places, so that tests can prove
// what survives a crash exactly there.
//
// The environment variable QSFS_CRASH lists points as name@n, separated by
// commas. At the n-th pass of a named point the process appends the name to the
// file $QSFS_CRASH_LOG, syncs that file, and sends itself SIGKILL. Without
// the variable a pass costs one load and one branch.
package crashpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A point is one armed place and the passes that are left until it fires.
type point struct {
	left atomic.Int64
}

var (
	once   sync.Once
	armed  atomic.Int32 // 0 not looked yet, 1 nothing armed, 2 something armed
	points map[string]*point
)

// Hit passes the point called name.
func Hit(name string) {
	if armed.Load() == 1 {
		return
	}
	hit(name)
}

func hit(name string) {
	once.Do(load)
	p := points[name]
	if p == nil || p.left.Add(-1) != 0 {
		return
	}
	die(name)
}

// load reads the environment. A malformed item arms nothing: a crash that the
// test asked for and that never comes is found by the test's own count.
func load() {
	points = parse(os.Getenv("QSFS_CRASH"))
	if len(points) == 0 {
		armed.Store(1)
		return
	}
	armed.Store(2)
}

func parse(list string) map[string]*point {
	found := make(map[string]*point)
	for item := range strings.SplitSeq(list, ",") {
		name, count, ok := strings.Cut(strings.TrimSpace(item), "@")
		if !ok || name == "" {
			continue
		}
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil || n < 1 {
			continue
		}
		p := &point{}
		p.left.Store(n)
		found[name] = p
	}
	return found
}

func die(name string) {
	if path := os.Getenv("QSFS_CRASH_LOG"); path != "" {
		// The log is for the test that waits for this crash; nothing can be done here when it fails.
		if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
			_, _ = f.WriteString(name + "\n")
			_ = f.Sync()
			_ = f.Close()
		}
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {} // nothing behind this line may run
}
