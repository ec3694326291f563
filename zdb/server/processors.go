package server

import (
	"os"
	"runtime"
)

// SpareProcessor lets the runtime run one goroutine more at a time than there are cores, unless GOMAXPROCS is set. The runtime looks for what
// came from clients when it has nothing else to run, or every 10 ms: with compaction and the index at work on all it has, that is how
// long a client waited. The kernel, which then shares the cores out, lets who has slept go first. It returns what undoes it.
func SpareProcessor() (undo func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + 1)
	return func() { runtime.GOMAXPROCS(before) }
}
