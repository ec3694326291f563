package harness

import (
	"fmt"
	"os"
	"strings"
)

// Variables that the programs' crash points read.
const (
	crashVar    = "QSFS_CRASH"
	crashLogVar = "QSFS_CRASH_LOG"
)

// CrashLog is the file into which dying programs write the name of the point that killed them.
type CrashLog struct{ path string }

// Arm makes the next start of p die at the n-th pass of the named point. Disarm takes it back.
func (l CrashLog) Arm(p *Process, point string, n int) {
	p.Env = []string{fmt.Sprintf("%s=%s@%d", crashVar, point, n), crashLogVar + "=" + l.path}
}

// Disarm lets the next start of p live.
func (l CrashLog) Disarm(p *Process) { p.Env = nil }

// Hits counts how often each point has killed a program.
func (l CrashLog) Hits() map[string]int {
	hits := make(map[string]int)
	b, err := os.ReadFile(l.path)
	if err != nil {
		return hits
	}
	for name := range strings.Lines(string(b)) {
		hits[strings.TrimSpace(name)]++
	}
	return hits
}
