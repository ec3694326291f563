package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/config"
)

// global holds the flags of every subcommand.
type global struct {
	config   string
	logJSON  bool
	logLevel string
}

func newRoot() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use:           "zdbfs",
		Short:         "Mount a QSFS filesystem and look after it",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return exit.Errorf(exit.Usage, "no command was given")
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&g.config, "config", config.DefaultFile, "configuration `file`")
	f.BoolVar(&g.logJSON, "log-json", false, "log as JSON")
	f.StringVar(&g.logLevel, "log-level", "info", "`level` of the log: debug, info, warn, error")
	root.AddCommand(
		newMount(g), newUmount(g), newStatus(g), newSync(g), newEvict(g), newCheck(g),
		newInit(g), newRecover(g), newSalvage(g),
	)
	usage := func(c *cobra.Command, err error) error {
		return exit.Errorf(exit.Usage, "%w; see: %s --help", err, c.CommandPath())
	}
	root.SetFlagErrorFunc(usage)
	for _, c := range append(root.Commands(), root) {
		if args := c.Args; args != nil {
			c.Args = func(c *cobra.Command, a []string) error {
				if err := args(c, a); err != nil {
					return usage(c, err)
				}
				return nil
			}
		}
	}
	return root
}

// load reads the configuration and says its warnings.
func (g *global) load(log *slog.Logger) (*config.Config, error) {
	cfg, err := config.Load(g.config)
	if err != nil {
		// All faults, one per line: this is the one error that is longer than a line.
		return nil, &exit.Error{Code: exit.Usage, Line: err.Error(), Err: err}
	}
	for _, w := range cfg.Warnings {
		log.Warn(w)
	}
	return cfg, nil
}

// logger writes to the standard error.
func (g *global) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(g.logLevel)); err != nil {
		return nil, exit.Errorf(exit.Usage, "--log-level: %w", err)
	}
	o := &slog.HandlerOptions{Level: level}
	if g.logJSON {
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
}

// start is the beginning of most subcommands.
func (g *global) start() (*config.Config, *slog.Logger, error) {
	log, err := g.logger()
	if err != nil {
		return nil, nil, err
	}
	cfg, err := g.load(log)
	return cfg, log, err
}

// daemon gives the way to the running mount.
func daemon(cfg *config.Config) *control.Client {
	return control.NewClient(filepath.Join(cfg.SocketDir(), control.SocketName))
}

// downError says what to do when no mount runs.
func downError(err error) error {
	if errors.Is(err, control.ErrDown) {
		return exit.Errorf(exit.Unreachable, "%w; start it: systemctl start qsfs-zdbfs (or zdbfs mount)", err)
	}
	return err
}
