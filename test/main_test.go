package test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"qsfs/test/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(func() int {
		if err := harness.CheckMachine(); err != nil {
			fmt.Fprintln(os.Stderr, "end-to-end tests:", err)
			return 1
		}
		return m.Run()
	}))
}

// long says whether the whole forms of the tests are asked for, and not the ones that fit into a change's patience.
var long = os.Getenv("QSFS_LONG") != ""

// rounds gives the number for `make test` or for `make test-long`.
func rounds(short, all int) int {
	if long {
		return all
	}
	return short
}

// shipLimit is how long anything that waits for dispersal may take on a loaded machine of two cores.
const shipLimit = 2 * time.Minute
