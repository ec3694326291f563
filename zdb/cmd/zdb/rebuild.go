package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdb"
	"qsfs/zdb/client"
)

type rebuildFlags struct {
	place
	segment int64
	json    bool
}

func rebuildCommand() *cobra.Command {
	var f rebuildFlags
	c := &cobra.Command{
		Use:   "rebuild-index",
		Short: "Build the index of a namespace anew from its log, or one index segment from its data segment",
		Long: `Build the index of a namespace anew from its segments alone, or, with --segment N, the index segment i<N> from the data
segment d<N>. A running server goes on meanwhile; reads of what it has not in memory wait. Neither is ever needed by
itself: a server builds an index that is missing or does not check. Nothing is lost when it is interrupted.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runRebuild(cmd.Context(), cmd.OutOrStdout(), f)
		},
	}
	fl := c.Flags()
	f.place.registerAdmin(fl)
	fl.Int64Var(&f.segment, "segment", -1, "`N` of the one index segment to write")
	fl.BoolVar(&f.json, "json", false, "the result as JSON")
	return c
}

// A rebuildResult says what was built, and how long that took.
type rebuildResult struct {
	Namespace string  `json:"namespace"`
	Segment   *uint32 `json:"segment,omitempty"`
	Seconds   float64 `json:"seconds"`
}

func runRebuild(ctx context.Context, out io.Writer, f rebuildFlags) error {
	offline, err := f.store.given()
	if err != nil {
		return err
	}
	if f.segment < -1 || f.segment > 1<<32-1 {
		return usageError{fmt.Errorf("--segment %d is no segment", f.segment)}
	}
	r := rebuildResult{Namespace: f.namespace}
	what := "index of " + f.namespace
	if f.segment >= 0 {
		id := uint32(f.segment)
		r.Segment = &id
		what = fmt.Sprintf("i%d of %s", id, f.namespace)
	}
	b := newBar("rebuild the "+what, f.json, false)
	defer b.close()
	stop := b.spin()
	began := time.Now()
	if offline {
		err = f.store.open(ctx, f.namespace, func(n *zdb.Namespace, _ bool) error {
			if r.Segment != nil {
				return n.RebuildIndexSegment(ctx, zdb.SegmentID(*r.Segment))
			}
			return n.RebuildIndex(ctx)
		})
	} else {
		err = f.online(ctx, b, r.Segment)
	}
	stop()
	if err != nil {
		return err
	}
	b.close()
	r.Seconds = time.Since(began).Seconds()
	if f.json {
		return writeJSON(out, r)
	}
	_, err = fmt.Fprintf(out, "rebuilt the %s in %.1f s\n", what, r.Seconds)
	return err
}

func (f *rebuildFlags) online(ctx context.Context, b *bar, segment *uint32) error {
	c, err := f.dialAdmin(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.StartRebuild(ctx, f.namespace, segment); err != nil {
		return err
	}
	_, err = await(ctx, c, f.namespace, b)
	return err
}

// poll is how often a running server is asked how far it is.
const poll = 100 * time.Millisecond

// await waits for the task of a namespace and returns how it ended.
func await(ctx context.Context, c *client.Client, namespace string, b *bar) (client.TaskState, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		s, err := c.TaskStatus(ctx, namespace)
		if err != nil {
			return s, err
		}
		if !s.Running {
			if s.Error != "" {
				err = errors.New(strings.ReplaceAll(s.Error, "\n", "; "))
			}
			return s, err
		}
		if s.Total > 0 {
			b.step(s.Step, s.Done, s.Total)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, fmt.Errorf("%w; the server goes on with it", ctx.Err())
		}
	}
}
