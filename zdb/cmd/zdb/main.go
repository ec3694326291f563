// Command zdb serves and inspects zdb namespaces.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"qsfs/zdb"
	"qsfs/zdb/client"
)

// Exit codes, the same for all programs of qsfs.
const (
	exitOK          = 0
	exitInternal    = 1
	exitUsage       = 2
	exitUnreachable = 5
	exitPassword    = 6
	exitDamaged     = 7
	exitInUse       = 8
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:   "zdb",
		Short: "Append-only key-value namespaces, served over RESP",
		Long: `Append-only key-value namespaces, served over RESP.

The tools work on a running server (--address), or, with --data and --index, on the directories of one that does not
run. Exit codes: 0 done, 1 an error of ours or of the machine, 2 command line, 5 the server does not answer,
6 a password was refused, 7 data is damaged, 8 another process has the directories open.`,
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
	root.AddCommand(serveCommand(), statCommand(), checkCommand(), compactCommand(), dumpCommand(), historyCommand(),
		rebuildCommand(), benchCommand(), passwdCommand())
	err := root.ExecuteContext(ctx)
	if err != nil {
		for line := range strings.Lines(explain(err)) {
			fmt.Fprintln(os.Stderr, "zdb:", strings.TrimSpace(line))
		}
	}
	return exitCode(err)
}

// explain puts an error in words, with what to do about it where that is not plain.
func explain(err error) string {
	if errors.Is(err, zdb.ErrLocked) {
		return "the directories are in use by a server or another tool: stop it, or ask the server itself (--address instead of --data and --index)"
	}
	return err.Error()
}

// A usageError is a fault of the command line or of a file that it names.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var usage usageError
	var damaged *zdb.CorruptionError
	var down *client.ConnError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), errors.Is(err, client.ErrNoNamespace):
		return exitUsage
	case errors.Is(err, zdb.ErrLocked):
		return exitInUse
	case errors.Is(err, client.ErrDenied):
		return exitPassword
	case errors.As(err, &damaged), errors.Is(err, errDamaged):
		return exitDamaged
	case errors.As(err, &down):
		return exitUnreachable
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
