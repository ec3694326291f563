package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
)

func newEvict(g *global) *cobra.Command {
	var all bool
	wait := time.Minute
	c := &cobra.Command{
		Use:   "evict",
		Short: "Give local room back: what the nodes hold safely is fetched again when it is read",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := g.start()
			if err != nil {
				return err
			}
			return runEvict(cmd.Context(), daemon(cfg), all, wait)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every sealed segment and every fetched stripe, not only what is above the budget")
	c.Flags().DurationVar(&wait, "wait", wait, "with --all: how long to wait for segments that are still being dispersed")
	return c
}

// runEvict evicts until nothing is kept back or the wait is over; what is kept then is named.
func runEvict(ctx context.Context, c *control.Client, all bool, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	var sum control.EvictReply
	for {
		r, err := c.Evict(ctx, control.EvictRequest{All: all})
		if err != nil {
			return downError(err)
		}
		sum.Evicted += r.Evicted
		sum.Bytes += r.Bytes
		sum.Kept = r.Kept
		if len(sum.Kept) == 0 || time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
	fmt.Fprintf(os.Stdout, "%d segments evicted, %s given back\n", sum.Evicted, control.Bytes(sum.Bytes))
	if len(sum.Kept) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(sum.Kept)) {
		fmt.Fprintf(os.Stderr, "kept %s: %s\n", name, sum.Kept[name])
	}
	return &exit.Error{Code: exit.Unsafe, Line: fmt.Sprintf("%d segments were kept, they are not safe on the nodes", len(sum.Kept)), Err: errKept}
}

var errKept = errors.New("segments were kept")
