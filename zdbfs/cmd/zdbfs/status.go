package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zdbfs/internal/service"
	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

func newStatus(g *global) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say whether the data is safe right now, and what to do if it is not",
		Long: `Say whether the data is safe right now.

Exit code 0: safe, or on its way within the configured time. 10: not safe, or
not known to be.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := g.start()
			if err != nil {
				return err
			}
			st, err := status(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(os.Stdout)
				enc.SetIndent("", "  ")
				if err := enc.Encode(st); err != nil {
					return fmt.Errorf("write: %w", err)
				}
			} else {
				printStatus(os.Stdout, st)
			}
			if !st.Safe {
				return quiet{exit.Unsafe}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// status asks the mount, and zstor alone when no mount runs.
func status(ctx context.Context, cfg *config.Config) (*control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	st, err := daemon(cfg).Status(ctx)
	if err == nil {
		return st, nil
	}
	if !errors.Is(err, control.ErrDown) {
		return nil, fmt.Errorf("ask the mount: %w", err)
	}
	st = &control.Status{Time: time.Now(), Word: client.Offline, Mount: control.Mount{State: cfg.QSFS.State}}
	st.Advice = []string{"start the mount: systemctl start qsfs-zdbfs (or zdbfs mount)"}
	z := client.New(cfg.Socket)
	defer z.Close()
	zst, err := z.Status(ctx)
	if err != nil {
		st.ZstorError = err.Error()
		st.Answer = "Unknown: neither the mount nor zstor runs on this machine"
		return st, nil
	}
	st.Zstor = zst
	st.AtRisk = control.AtRisk{Bytes: zst.Pending.Bytes, Since: zst.Pending.Since, Age: zst.Pending.Age, ETA: zst.Pending.ETA}
	st.Word, st.Answer = zst.Safety, zst.Headline+" (the filesystem is not mounted)"
	st.Safe = zst.Safety == client.Safe || zst.Safety == client.Shipping
	st.Advice = append(st.Advice, zst.Advice...)
	if service.Undispersed(cfg.QSFS.State) {
		st.AtRisk.Unknown = true
		st.Answer = "Not known: the mount ended before everything was dispersed, and only a mount can tell what is left on this machine. Of what zstor was told: " + zst.Headline
		if st.Safe {
			st.Safe, st.Word = false, client.Offline
		}
	}
	return st, nil
}

func printStatus(w io.Writer, st *control.Status) {
	p := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "Is my data safe right now?  %s\n\n", st.Answer)
	if st.Mount.Running || st.Zstor != nil {
		p("at risk", "%s", atRisk(st.AtRisk))
	} else {
		p("at risk", "unknown")
	}
	if m := st.Mount; m.Running {
		line := fmt.Sprintf("%s (%s), up %s", m.Dir, m.Transport, control.Ago(time.Since(m.Started)))
		if m.ReadOnly {
			line += ", READ-ONLY"
		}
		p("mount", "%s", line)
		p("state", "%s, epoch %d, %s", m.State, m.Epoch, m.Verdict)
		printCache(p, st.Cache)
	} else {
		p("mount", "not running")
	}
	if z := st.Zstor; z != nil {
		printZstor(p, z)
	} else {
		p("zstor", "%s", st.ZstorError)
	}
	for i, a := range st.Advice {
		if i == 0 {
			fmt.Fprintln(w, "\nWhat to do:")
		}
		fmt.Fprintf(w, "  - %s\n", a)
	}
}

func atRisk(r control.AtRisk) string {
	switch {
	case r.Unknown && r.Bytes == 0:
		return "unknown"
	case r.Unknown:
		return "at least " + control.Bytes(r.Bytes)
	case r.Bytes == 0 && r.Unsynced == 0:
		return "nothing"
	}
	s := control.Bytes(r.Bytes) + " only on this machine"
	if !r.Since.IsZero() {
		s += fmt.Sprintf(", since %s (%s)", r.Since.Format(time.DateTime), control.Ago(r.Age))
	}
	if r.ETA > 0 {
		s += ", dispersed in about " + control.Ago(r.ETA)
	}
	return s
}

func printCache(p func(string, string, ...any), c control.Cache) {
	p("cache", "%s of %s (%s in segments, %s in stripes), %s not dispersed, %d of %d segments evicted",
		control.Bytes(c.Used), control.Bytes(c.Budget), control.Bytes(c.SegmentBytes), control.Bytes(c.StripeBytes),
		control.Bytes(c.Undispersed), c.Evicted, c.Segments)
	if c.EvictedWeak > 0 {
		p("", "%d segments were evicted that were not at full strength, to make room", c.EvictedWeak)
	}
	if c.Full {
		p("", "FULL: new data is refused until something is dispersed")
	} else if c.Throttled {
		p("", "writers are being slowed down")
	}
}

func printZstor(p func(string, string, ...any), z *client.Status) {
	p("dispersed", "%d segments full, %d degraded, %d under the fallback policy; %s", z.Objects.Full, z.Objects.Degraded, z.Objects.Fallback, control.Bytes(z.Objects.Bytes))
	p("pending", "%s in %d segments%s", control.Bytes(z.Pending.Bytes), z.Pending.Segments, because(z.Pending.Problem))
	cut := "none yet"
	if !z.Cut.Time.IsZero() {
		cut = fmt.Sprintf("%d, %s ago", z.Cut.Number, control.Ago(time.Since(z.Cut.Time)))
	}
	p("newest cut", "%s", cut)
	p("survives", "the loss of %d more nodes, or %d more groups", z.SurvivableNodes, z.SurvivableGroups)
	var down []string
	up, all := map[string]int{}, map[string]int{}
	for _, n := range z.Nodes {
		all[n.Role]++
		if n.Up {
			up[n.Role]++
			continue
		}
		down = append(down, fmt.Sprintf("%s (%s, group %s, for %s%s)", n.ID, n.Role, n.Group, control.Ago(n.DownFor), because(n.Error)))
	}
	p("nodes", "%d of %d for data up, %d of %d for metadata", up["data"], all["data"], up["metadata"], all["metadata"])
	if len(down) > 0 {
		p("down", "%s", strings.Join(down, "; "))
	}
	if z.LastError != "" {
		p("last error", "%s (%s ago)", z.LastError, control.Ago(time.Since(z.LastErrorTime)))
	}
}

func because(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}
