package main

import (
	"runtime/debug"
	"syscall"
	"time"
)

const (
	restTick = 250 * time.Millisecond
	// restShare: whoever uses less than this share of a processor over two ticks is at rest.
	restShare = 10
	// restWork is how much processor time makes it worth to look for memory to give back.
	restWork = time.Second
	// Badger keeps the buffers in which tables are made, up to eight of 12 MiB, and lets one of them go every two seconds while it makes
	// none. So memory is given back again, restAgain times, after so many quiet ticks each; sooner when something was done meanwhile, such as
	// bringing what was written last into the index.
	restAgain = 12
	restPause = 8
	restMore  = restWork / 20
)

// tendMemory gives memory back to the system once the server has come to rest: loading and compaction need several times what
// serving does, and Go's runtime would give it back within minutes only.
func tendMemory() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(restTick)
		defer tick.Stop()
		r := rest{last: processorTime()}
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if r.reached(processorTime()) {
				debug.FreeOSMemory()
				r.given(processorTime())
			}
		}
	}()
	return func() { close(done); <-ended }
}

// rest finds the moment at which work has ended.
type rest struct {
	last, since time.Duration // at the last tick, and when memory was given back
	quiet       int           // ticks
	again       int           // how often memory is to be given back again
}

// reached is told the processor time used so far at each tick.
func (r *rest) reached(used time.Duration) bool {
	if used-r.last > restTick/restShare {
		r.quiet = 0
	} else {
		r.quiet++
	}
	r.last = used
	if r.quiet >= 2 && used-r.since >= restWork {
		r.again = restAgain
		return true
	}
	if r.again > 0 && (r.quiet >= restPause || r.quiet >= 2 && used-r.since >= restMore) {
		r.again--
		return true
	}
	return false
}

// given notes that memory was given back; what that took does not count as work.
func (r *rest) given(used time.Duration) { r.last, r.since, r.quiet = used, used, 0 }

// processorTime is what the process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
