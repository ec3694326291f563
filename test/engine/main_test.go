package engine

import (
	"fmt"
	"os"
	"testing"

	"qsfs/test/harness"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(lifeVar); dir != "" {
		if err := live(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(harness.Main(func() int {
		if err := harness.CheckMachine(); err != nil {
			fmt.Fprintln(os.Stderr, "crash loops:", err)
			return 1
		}
		return m.Run()
	}))
}

// rounds gives the number for `make test`, or for `make test-long` and `make crash-long`.
func rounds(short, long int) int {
	if os.Getenv("QSFS_LONG") != "" {
		return long
	}
	return short
}
