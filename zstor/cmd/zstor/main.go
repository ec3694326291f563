// Command zstor disperses the filesystem of this machine over storage nodes, and talks to the daemon
// that does.
package main

import (
	"context"
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
		fmt.Fprintln(os.Stderr, "zstor: "+oneLine(err))
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
	}
	root.PersistentFlags().StringVarP(&g.config, "config", "c", config.DefaultFile, "configuration file")
	root.PersistentFlags().StringVar(&g.socket, "socket", "", "socket of the daemon (default: as configured)")
	root.PersistentFlags().BoolVarP(&g.debug, "debug", "d", false, "log every operation")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(
		daemonCmd(g), formatCmd(g), statusCmd(g), flushCmd(g), planCmd(g),
		storeCmd(g), retrieveCmd(g), checkCmd(g), rebuildCmd(g), listCmd(g),
	)
	return root
}
