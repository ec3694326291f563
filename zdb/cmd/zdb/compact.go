package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdb"
)

type compactFlags struct {
	place
	all  bool
	json bool
}

func compactCommand() *cobra.Command {
	var f compactFlags
	c := &cobra.Command{
		Use:   "compact",
		Short: "Give the space of overwritten and deleted entries back",
		Long: `Give the space of overwritten and deleted entries back: what is live in segments with much that is dead is copied to
the end of the log, then the segments are removed. What keep_last and keep_deleted keep is live. A running server goes
on serving meanwhile; it compacts by itself too, this only makes it begin now. Interrupting loses nothing.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runCompact(cmd.Context(), cmd.OutOrStdout(), f)
		},
	}
	fl := c.Flags()
	f.place.registerAdmin(fl)
	fl.BoolVar(&f.all, "all", false, "every segment with anything dead in it, also where it hardly pays")
	fl.BoolVar(&f.json, "json", false, "the result as JSON")
	return c
}

// A compactResult is what a compaction came to.
type compactResult struct {
	Namespace string `json:"namespace"`
	Segments  int64  `json:"segments_removed"`
	Copied    int64  `json:"bytes_copied"`
	Freed     int64  `json:"bytes_freed"`
}

func runCompact(ctx context.Context, out io.Writer, f compactFlags) error {
	offline, err := f.store.given()
	if err != nil {
		return err
	}
	p := newBar("compact "+f.namespace, f.json, true)
	defer p.close()
	r := compactResult{Namespace: f.namespace}
	if offline {
		err = f.store.open(ctx, f.namespace, func(n *zdb.Namespace, _ bool) error {
			res, err := n.Compact(ctx, zdb.CompactOptions{All: f.all, Progress: func(x zdb.CompactProgress) { p.show(x.Done, x.Total) }})
			r.Segments, r.Copied, r.Freed = int64(res.Segments), res.Copied, res.Freed
			return err
		})
	} else {
		err = f.online(ctx, p, &r)
	}
	if err != nil {
		return err
	}
	p.close()
	if f.json {
		return writeJSON(out, r)
	}
	fmt.Fprintf(out, "%s: %d segments removed, %.1f MiB freed, %.1f MiB copied\n", r.Namespace, r.Segments, mib(r.Freed), mib(r.Copied))
	return nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func (f *compactFlags) online(ctx context.Context, p *bar, r *compactResult) error {
	c, err := f.dialAdmin(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Compact(ctx, f.namespace, f.all); err != nil {
		return err
	}
	for tick := time.NewTicker(poll); ; {
		s, err := c.CompactStatus(ctx, f.namespace)
		if err != nil {
			return err
		}
		p.show(s.Done, s.Total)
		if !s.Running {
			tick.Stop()
			r.Segments, r.Copied, r.Freed = s.Segments, s.Copied, s.Freed
			if s.Failed {
				return errors.New("the compaction failed, the log of the server has the reason")
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return ctx.Err()
		}
	}
}
