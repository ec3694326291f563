package main

import "time"

// A scale says how much of everything a run does.
type scale struct {
	rounds    int
	sets      int // SETs of 4 KiB of many clients, per measurement
	slowSets  int // the same where one takes milliseconds
	gets      int
	working   int // keys that are read
	one       int // SETs of one client
	durable   int
	million   int // "1 M keys"
	many      int // "10 M keys"
	restarts  int
	quiet     time.Duration // watched before a command that may stall others
	liveBytes int64         // overwritten ten times
	burst     int           // entries
	sustained int           // entries
	plain     int64         // bytes of 128 KiB values
	fsyncs    int
	lookups   int
}

var (
	full = scale{
		rounds: 5, sets: 100_000, slowSets: 20_000, gets: 200_000, working: 50_000, one: 30_000, durable: 60_000,
		million: 1_000_000, many: 10_000_000, restarts: 5, quiet: 2 * time.Second,
		liveBytes: 1 << 30, burst: 400_000, sustained: 20_000_000, plain: 1 << 30, fsyncs: 3000, lookups: 200_000,
	}
	quick = scale{
		rounds: 1, sets: 10_000, slowSets: 4000, gets: 20_000, working: 5000, one: 3000, durable: 4000,
		million: 50_000, many: 100_000, restarts: 1, quiet: 500 * time.Millisecond,
		liveBytes: 32 << 20, burst: 50_000, sustained: 300_000, plain: 64 << 20, fsyncs: 200, lookups: 20_000,
	}
)
