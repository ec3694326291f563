package server

import (
	"flag"
	"os"
	"testing"
)

// Tests that run beside others wait for the disk and for clocks more than they compute, so more of them run at once than there
// are processors. Those that measure times, or count what the process has, run alone.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if task := os.Getenv(gaugeEnv); task != "" {
		return gaugeMain(task)
	}
	flag.Parse()
	atOnce := flag.Lookup("test.parallel")
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f == atOnce })
	if !given {
		atOnce.Value.Set("8")
	}
	return m.Run()
}
