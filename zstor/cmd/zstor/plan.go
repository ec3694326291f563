package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"qsfs/zstor/config"
	"qsfs/zstor/internal/placement"
)

func planCmd(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "plan", Short: "Say what the configured policy promises, and to whom", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			return runPlan(c, os.Stdout)
		},
	}
}

// anyOf says how many of something may be picked freely.
func anyOf(n int, what string) string {
	if n == 1 {
		return "any 1 " + what
	}
	return fmt.Sprintf("any %d %ss", n, what)
}

// runPlan computes everything from the configuration alone; no node is asked.
func runPlan(c *config.Config, out io.Writer) error {
	w := tabwriter.NewWriter(out, 2, 8, 2, ' ', 0)
	fmt.Fprintf(w, "nodes\t%d in %d groups\n", len(c.Nodes()), len(c.Groups))
	planCode(w, c, "main", c.Policy())
	lowest := c.MinimalShards
	if f := c.FallbackPolicy(); f != nil {
		fmt.Fprintln(w)
		planCode(w, c, "fallback", placement.Policy{K: f.K, N: f.N})
		lowest = min(lowest, f.K)
	}
	fmt.Fprintln(w)
	fmt.Fprintf(w, "lowest k of any data\t%d: so many nodes, and the keys, are needed to read anything\n", lowest)
	fmt.Fprintf(w, "min_secrecy\t%d\n", c.QSFS.MinSecrecy)
	fmt.Fprintf(w, "counts as stored from\t%d shards on\n", c.QSFS.AckFloor)
	m := len(c.Meta.Backends)
	fmt.Fprintf(w, "metadata nodes\t%d; %d to write, %d to read, %d to take over\n", m, c.Meta.WriteQuorum, c.Meta.ReadQuorum, max(c.Meta.WriteQuorum, c.Meta.ReadQuorum))
	fmt.Fprintf(w, "\tlosing %d stops writing, losing %d stops reading of records\n", m-c.Meta.WriteQuorum+1, m-c.Meta.ReadQuorum+1)
	return w.Flush()
}

func planCode(w io.Writer, c *config.Config, name string, p placement.Policy) {
	sizes := make([]int, len(c.Groups))
	for i, g := range c.Groups {
		sizes[i] = len(g.Backends)
	}
	counts, left, _ := placement.Counts(p, sizes)
	fmt.Fprintf(w, "%s code\t%s, %.0f %% more space than the data\n", name, p, 100*float64(p.N-p.K)/float64(p.K))
	for i, n := range counts {
		fmt.Fprintf(w, "\tgroup %s gets %d of its %d nodes\n", c.Groups[i].Name, n, sizes[i])
	}
	losses := placement.Survivable(p.K, counts)
	fmt.Fprintf(w, "\tsurvives the loss of %s, or of %s\n", anyOf(losses.Shards, "node"), anyOf(losses.Groups, "group"))
	if p.RedundantGroups > 0 || p.RedundantNodes > 0 {
		fmt.Fprintf(w, "\tafter the loss that the policy names, %d shards are left of %d needed\n", left, p.K)
	}
	r, d := placement.CanRead(p.K, counts), placement.CanDestroy(p.K, counts)
	fmt.Fprintf(w, "\tto read with all keys: %d nodes, or %d groups; to destroy: %d nodes, or %d groups\n", r.Nodes, r.Groups, d.Nodes, d.Groups)
}
