package server

import (
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// The spare processor is there while somebody works, and goes when nobody did for a while.
func TestSpareProcessor(t *testing.T) {
	t.Setenv("GOMAXPROCS", "") // else there is none
	quiet := func() bool {
		spare.mu.Lock()
		defer spare.mu.Unlock()
		return !spare.there
	}
	eventually(t, "nobody works", quiet)
	runtime.SetDefaultGOMAXPROCS()
	usual := runtime.GOMAXPROCS(0)
	one, two := SpareProcessor(), SpareProcessor()
	if n := runtime.GOMAXPROCS(0); n != usual+1 {
		t.Errorf("%d processors while two work, %d before", n, usual)
	}
	one()
	one()
	takeSpareBack()
	if n := runtime.GOMAXPROCS(0); n != usual+1 {
		t.Errorf("%d processors while one works, %d before", n, usual)
	}
	two()
	eventually(t, "it goes", quiet)
	if n := runtime.GOMAXPROCS(0); n != usual {
		t.Errorf("%d processors afterwards, %d before", n, usual)
	}
	// The engine asks for it while it compacts.
	var asked atomic.Int64
	ts := start(t, func(o *Options) {
		o.SegmentSize = 1 << 20
		o.Working = func() func() { asked.Add(1); return SpareProcessor() }
	})
	w := ts.adminWire()
	value := strings.Repeat("v", 64<<10)
	for i := range 40 {
		w.want(`"k"`, "SET", "k", value+strconv.Itoa(i))
	}
	w.want("+OK", "COMPACT", "default")
	eventually(t, "it compacts", func() bool { return ts.lookup("default").eng.Load().Stats().CompactSegments > 0 })
	w.want("+PONG", "PING")
	ts.Close()
	if asked.Load() == 0 {
		t.Error("compaction did not ask for the spare processor")
	}
}
