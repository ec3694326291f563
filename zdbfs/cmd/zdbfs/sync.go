package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
)

func newSync(g *global) *cobra.Command {
	var r control.SyncRequest
	limit := 10 * time.Minute
	c := &cobra.Command{
		Use:   "sync",
		Short: "Make everything that was written durable, with --remote on the nodes",
		Long: `Make everything that was written to the filesystem durable: on the local disk,
with --remote on the nodes as well.

What programs have written and not synced may still be in the kernel: it is
written within seconds, and is not waited for here. fsync(2) waits for it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := g.start()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			return runSync(ctx, daemon(cfg), r, limit)
		},
	}
	c.Flags().BoolVar(&r.Remote, "remote", false, "wait until the nodes have it")
	c.Flags().BoolVar(&r.Seal, "seal", false, "close the active data segment, so that all of it can be evicted")
	c.Flags().DurationVar(&limit, "timeout", limit, "how long to wait")
	return c
}

func runSync(ctx context.Context, c *control.Client, r control.SyncRequest, limit time.Duration) error {
	out, err := c.Sync(ctx, r)
	if err != nil && ctx.Err() != nil {
		why := "it stays on the local disk and goes on being shipped"
		if st, e := c.Status(context.WithoutCancel(ctx)); e == nil {
			why = st.Answer + "; " + why
		}
		return exit.Errorf(exit.Unreachable, "not everything is dispersed after %v: %s", limit, why)
	}
	if err != nil {
		return downError(err)
	}
	if r.Remote {
		fmt.Fprintf(os.Stdout, "dispersed, cut %d\n", out.Cut)
	}
	return nil
}
