package server

import (
	"os"
	"runtime"
	"sync"
	"time"
)

// spareLinger is how long the spare processor stays, for compaction goes in steps.
const spareLinger = time.Second

var spare struct {
	mu    sync.Mutex
	users int
	there bool
}

// SpareProcessor lets the runtime run one goroutine more at a time than there are cores, until done is called, unless GOMAXPROCS is
// set. The runtime looks for what came from clients when it has nothing else to run, or every 10 ms: with compaction and the index at
// work on all it has, that is how long a client waited. The kernel, which then shares the cores out, lets who has slept go first.
// While nothing of that kind works it costs more than it gains.
func SpareProcessor() (done func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	spare.mu.Lock()
	defer spare.mu.Unlock()
	if spare.users++; !spare.there {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
		spare.there = true
	}
	return sync.OnceFunc(func() {
		spare.mu.Lock()
		defer spare.mu.Unlock()
		if spare.users--; spare.users == 0 {
			time.AfterFunc(spareLinger, takeSpareBack)
		}
	})
}

func takeSpareBack() {
	spare.mu.Lock()
	defer spare.mu.Unlock()
	if spare.users == 0 && spare.there {
		runtime.SetDefaultGOMAXPROCS() // and follow what a container is given
		spare.there = false
	}
}
