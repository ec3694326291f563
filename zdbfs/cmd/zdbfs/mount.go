package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdbfs/internal/exit"
	"qsfs/zdbfs/internal/service"
)

// memoryLimit keeps the daemon's memory well below half a gigabyte.
const memoryLimit = 384 << 20

func newMount(g *global) *cobra.Command {
	var dir string
	var takeOver bool
	stopTimeout := 2 * time.Minute
	c := &cobra.Command{
		Use:   "mount",
		Short: "Mount the filesystem and serve it until it is stopped",
		Long: `Mount the filesystem and serve it in the foreground.

SIGTERM, SIGINT, zdbfs umount and umount(8) end it alike: flush, unmount, sync,
disperse what is left (bounded by --stop-timeout), exit 0. Killing it instead
loses nothing that was synced.

A mount that a killed process has left behind is taken away first. A directory
that is not empty, or on which something else is mounted, is refused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.start()
			if err != nil {
				return err
			}
			if dir != "" {
				if cfg.QSFS.Mount, err = filepath.Abs(dir); err != nil {
					return exit.Errorf(exit.Usage, "--mount: %w", err)
				}
				if err := cfg.Validate(); err != nil { // a mount point must not hide what the daemon needs
					return &exit.Error{Code: exit.Usage, Line: err.Error(), Err: err}
				}
			}
			// A soft limit: the runtime works harder to stay below it. GOMEMLIMIT overrides it.
			if os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(memoryLimit)
			}
			// The FUSE library talks through the standard logger.
			slog.SetDefault(log)
			return service.Run(cmd.Context(), service.Options{
				Config: cfg, TakeOver: takeOver, StopTimeout: stopTimeout,
				Log: log, Notify: service.SystemdNotify(log),
			})
		},
	}
	c.Flags().StringVar(&dir, "mount", "", "mount point, instead of the configured `directory`")
	c.Flags().BoolVar(&takeOver, "take-over", false, "claim the filesystem for this machine first; goes on only if no other has written since")
	c.Flags().DurationVar(&stopTimeout, "stop-timeout", stopTimeout, "how long a stop waits for the nodes to have everything")
	return c
}
