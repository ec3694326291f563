package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

func statusCmd(g *global) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Is my data safe right now?", Args: cobra.NoArgs,
		Long: "Prints the verdict first, then what is where. The exit code is 0 when everything is safe or on its way, 10 otherwise.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			return runStatus(cmd.Context(), c, os.Stdout, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runStatus(ctx context.Context, c *config.Config, w io.Writer, asJSON bool) error {
	cl := client.New(c.Socket)
	defer cl.Close()
	st, err := cl.Status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		err = enc.Encode(st)
	} else {
		err = printStatus(w, st)
	}
	if err != nil {
		return err
	}
	if st.Safety != client.Safe && st.Safety != client.Shipping {
		return &unsafeError{st.Safety}
	}
	return nil
}

func printStatus(out io.Writer, st *client.Status) error {
	fmt.Fprintf(out, "%s: %s\n", strings.ToUpper(string(st.Safety)), st.Headline)
	for _, a := range st.Advice {
		fmt.Fprintln(out, "  → "+a)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 2, 8, 2, ' ', 0)
	if st.Cut.Number > 0 || st.Cut.Epoch > 0 {
		fmt.Fprintf(w, "newest cut\te%d.%d, %s ago, took %s\n", st.Cut.Epoch, st.Cut.Number, short(st.Cut.Age), short(st.Cut.Took))
	} else {
		fmt.Fprintf(w, "newest cut\tnone\n")
	}
	fmt.Fprintf(w, "pending\t%s in %d sealed segments and the tails, for %s", bytesText(st.Pending.Bytes), st.Pending.Segments, short(st.Pending.Age))
	if st.Pending.ETA > 0 {
		fmt.Fprintf(w, ", %s to go", short(st.Pending.ETA))
	}
	fmt.Fprintln(w)
	o := st.Objects
	fmt.Fprintf(w, "dispersed\t%s: %d segments complete, %d degraded, %d under the fallback, %d unconfirmed\n", bytesText(o.Bytes), o.Full, o.Degraded, o.Fallback, o.Unconfirmed)
	if o.Lost > 0 {
		fmt.Fprintf(w, "LOST\t%d segments cannot be read from the nodes, %d of them are not here either\n", o.Lost, o.Gone)
	}
	fmt.Fprintf(w, "may be lost\tany %s, or %s\n", more(st.SurvivableNodes, "node"), more(st.SurvivableGroups, "whole group"))
	fmt.Fprintf(w, "policy\t%d-of-%d, %d groups and %d nodes may be lost, fallback %s\n", st.Policy.MinimalShards, st.Policy.ExpectedShards, st.Policy.RedundantGroups, st.Policy.RedundantNodes, orNone(st.Policy.Fallback))
	if st.Owner.Epoch > 0 {
		fmt.Fprintf(w, "owner\tepoch %d, since %s\n", st.Owner.Epoch, st.Owner.Since.Local().Format(time.DateTime))
	}
	fmt.Fprintf(w, "records\t%d of %d metadata nodes count; %d to write, %d to read\n", st.Quorum.Countable, st.Quorum.Nodes, st.Quorum.Write, st.Quorum.Read)
	if st.LastError != "" {
		fmt.Fprintf(w, "last error\t%s\n", st.LastError)
	}
	fmt.Fprintln(w, "\nNODE\tGROUP\tROLE\tSTATE\tLATENCY")
	for _, n := range st.Nodes {
		state := "up"
		switch {
		case !n.Up:
			state = "down " + short(n.DownFor) + " " + n.Error
		case n.NoSync && n.Role == "metadata":
			state = "does not count: runs with sync=none"
		case n.Role == "metadata" && !n.Counts:
			state = "does not count: " + n.Error
		case n.Renewed:
			state = fmt.Sprintf("up, was wiped or replaced: %d objects to look at", n.Unchecked)
		case n.Role == "data" && n.Durable != "on-ack":
			state = "up, " + n.Durable
			if n.NoSync {
				state += " (runs with sync=none)"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n.ID, n.Group, n.Role, state, short(n.Latency))
	}
	return w.Flush()
}

func more(n int, what string) string {
	if n == 1 {
		return "1 more " + what
	}
	return fmt.Sprintf("%d more %ss", n, what)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func short(d time.Duration) string {
	switch {
	case d == 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond / 10).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func bytesText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/(1<<10), 0
	for ; f >= 1024 && unit < 4; unit++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %s", f, []string{"KiB", "MiB", "GiB", "TiB", "PiB"}[unit])
}

func flushCmd(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "flush", Short: "Ship everything now and wait for it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			cl := client.New(c.Socket)
			defer cl.Close()
			b := newBar()
			defer b.close()
			return cl.Flush(cmd.Context(), b.show)
		},
	}
}

func formatCmd(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "format", Short: "Make the nodes ready for a new filesystem owned by this machine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			cl := client.New(c.Socket)
			defer cl.Close()
			o, err := cl.Format(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "zstor: formatted; this machine owns epoch %d\n", o.Epoch)
			return nil
		},
	}
}
