// Command zstor disperses the filesystem of this machine over storage nodes, and talks to the daemon
// that does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"qsfs/zstor/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	if err := root.ExecuteContext(ctx); err != nil {
		if line := oneLine(err); line != "" {
			fmt.Fprintln(os.Stderr, "zstor: "+line)
		}
		stop()
		os.Exit(exitCode(err))
	}
}

// global holds the flags that every command has.
type global struct {
	config string
	socket string
	debug  bool
}

// load reads the configuration and says what is worth saying about it.
func (g *global) load() (*config.Config, error) {
	c, err := config.Load(g.config)
	if err != nil {
		return nil, err
	}
	for _, w := range c.Warnings {
		fmt.Fprintln(os.Stderr, "zstor: warning: "+w)
	}
	if g.socket != "" {
		c.Socket = g.socket
	}
	return c, nil
}

func newRoot() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use:           "zstor",
		Short:         "Disperse a filesystem over nodes that need not be trusted",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("unknown command %q, see zstor --help", args[0])}
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return &usageError{errors.New("no command given, see zstor --help")}
		},
	}
	root.PersistentFlags().StringVarP(&g.config, "config", "c", config.DefaultFile, "configuration file")
	root.PersistentFlags().StringVar(&g.socket, "socket", "", "socket of the daemon (default: as configured)")
	root.PersistentFlags().BoolVarP(&g.debug, "debug", "d", false, "log every operation")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(
		daemonCmd(g), formatCmd(g), statusCmd(g), flushCmd(g), planCmd(g),
		storeCmd(g), retrieveCmd(g), checkCmd(g), rebuildCmd(g), listCmd(g),
	)
	for _, c := range root.Commands() {
		c.Args = asUsage(c.Args)
	}
	return root
}

// asUsage makes a wrong number of arguments a fault of the command line.
func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		if err := check(cmd, args); err != nil {
			return &usageError{err}
		}
		return nil
	}
}
