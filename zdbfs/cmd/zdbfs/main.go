// Command zdbfs mounts a QSFS filesystem and looks after it.
//
// Results go to the standard output, talk goes to the standard error. The exit codes are those of
// package exit; README.md lists them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"qsfs/zdbfs/internal/exit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err != nil {
		report(err)
	}
	os.Exit(int(exit.Of(err)))
}

// quiet is an error whose words have been said already: only its code is left.
type quiet struct{ code exit.Code }

func (q quiet) Error() string { return fmt.Sprintf("exit code %d", q.code) }

func (q quiet) As(target any) bool {
	e, ok := target.(**exit.Error)
	if ok {
		*e = &exit.Error{Code: q.code, Line: q.Error()}
	}
	return ok
}

// report prints one line, or several where the configuration has several faults.
func report(err error) {
	var q quiet
	if errors.As(err, &q) {
		return
	}
	fmt.Fprintln(os.Stderr, "zdbfs: "+err.Error())
}
