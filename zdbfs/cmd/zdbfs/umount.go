package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zdbfs/internal/service"
)

func newUmount(g *global) *cobra.Command {
	limit := 5 * time.Minute
	c := &cobra.Command{
		Use:     "umount",
		Aliases: []string{"stop"},
		Short:   "Stop the mount in order and wait for its end",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := g.start()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			return runUmount(ctx, daemon(cfg), cfg.QSFS.State)
		},
	}
	c.Flags().DurationVar(&limit, "timeout", limit, "how long to wait for the end")
	return c
}

// runUmount returns when the daemon does not answer any more and has given the state directory back.
func runUmount(ctx context.Context, c *control.Client, state string) error {
	if err := c.Stop(ctx); err != nil {
		return downError(err)
	}
	last := ""
	for {
		st, err := c.Status(ctx)
		if errors.Is(err, control.ErrDown) {
			break
		}
		if err == nil {
			if line := fmt.Sprintf("stopping: %s to disperse", control.Bytes(st.AtRisk.Bytes)); line != last {
				fmt.Fprintln(os.Stderr, line)
				last = line
			}
		}
		select {
		case <-ctx.Done():
			return exit.Errorf(exit.Internal, "the mount has not ended in time: %w", ctx.Err())
		case <-time.After(300 * time.Millisecond):
		}
	}
	if err := service.AwaitUnlocked(ctx, state); err != nil {
		return exit.Errorf(exit.Internal, "the mount has not ended in time: %w", err)
	}
	return nil
}
