// Command zdb serves and inspects zdb namespaces.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"qsfs/zdb"
)

// Exit codes, the same for all programs of qsfs.
const (
	exitOK       = 0
	exitInternal = 1
	exitUsage    = 2
	exitDamaged  = 7
	exitInUse    = 8
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "zdb",
		Short:         "Append-only key-value namespaces, served over RESP",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q, see zdb --help", args[0])}
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("no command given, see zdb --help")}
		},
	}
	root.SetArgs(args)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(serveCommand(), statCommand(), checkCommand(), compactCommand(), benchCommand(), passwdCommand())
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "zdb:", err)
	}
	return exitCode(err)
}

// A usageError is a fault of the command line or of a file that it names.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var usage usageError
	var damaged *zdb.CorruptionError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, zdb.ErrLocked):
		return exitInUse
	case errors.As(err, &damaged), errors.Is(err, errDamaged):
		return exitDamaged
	}
	return exitInternal
}

// noArgs refuses arguments as a usage error.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}
