package server

import (
	"os"
	"runtime"
	"testing"
)

// The spare processor is there while somebody works, and goes when nobody did for a while.
func TestSpareProcessor(t *testing.T) {
	if os.Getenv("GOMAXPROCS") != "" {
		t.Skip("GOMAXPROCS is set: there is no spare processor")
	}
	quiet := func() bool {
		spare.mu.Lock()
		defer spare.mu.Unlock()
		return !spare.there
	}
	eventually(t, "nobody works", quiet)
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
	asked := 0
	ts := start(t, func(o *Options) {
		o.SegmentSize = 1 << 20
		o.Working = func() func() { asked++; return SpareProcessor() }
	})
	w := ts.adminWire()
	value := string(make([]byte, 64<<10))
	for range 40 {
		w.want(`"k"`, "SET", "k", value+string(rune('a'+asked)))
		value = "x" + value
	}
	w.want("+OK", "COMPACT", "default")
	eventually(t, "it compacts", func() bool { return ts.lookup("default").eng.Load().Stats().CompactSegments > 0 })
	w.want("+PONG", "PING")
	ts.Close()
	if asked == 0 {
		t.Error("compaction did not ask for the spare processor")
	}
}
