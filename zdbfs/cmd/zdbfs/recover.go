package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/service"
	"qsfs/zstor/client"
)

func newRecover(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "recover",
		Short: "Bring the filesystem back from the nodes, with only configuration and key",
		Long: `Bring the filesystem back from the nodes into the state directory, with nothing
but the configuration and the key. Another machine that still writes is fenced:
it notices before anything more is acknowledged.

Metadata is brought back at once, file content when it is read. A state that is
older than the newest cut is put aside below the state directory, never removed;
zdbfs salvage copies files from it. A recovery that was killed goes on when it is
run again. Afterwards: zdbfs mount.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.start()
			if err != nil {
				return err
			}
			start := time.Now()
			show := newProgress()
			r, err := service.Recover(cmd.Context(), service.RecoverOptions{
				Config: cfg, ConfigPath: g.config, Progress: show.line, Log: log,
			})
			show.end()
			if err != nil {
				return err
			}
			printRecovered(r, time.Since(start))
			return nil
		},
	}
}

func printRecovered(r *service.Recovered, took time.Duration) {
	if r.Aside != "" {
		fmt.Printf("the older state was put aside: %s\n", r.Aside)
	}
	if r.Cut != nil {
		fmt.Printf("recovered in %s: epoch %d, cut %d of %s\n", control.Ago(took), r.Owner.Epoch, r.Cut.Number, r.Cut.Time.Local().Format(time.DateTime))
	} else {
		fmt.Printf("recovered in %s: epoch %d\n", control.Ago(took), r.Owner.Epoch)
	}
	fmt.Printf("%d files and directories; their content is fetched when it is read\nnow run: zdbfs mount\n", r.Files)
}

// progress shows a long operation: one line that changes on a terminal, one line per phase elsewhere.
type progress struct {
	terminal bool
	phase    string
	started  time.Time // of the phase
	open     bool      // a line without its end is on the screen
}

func newProgress() *progress {
	return &progress{terminal: term.IsTerminal(int(os.Stderr.Fd()))}
}

func (p *progress) line(l client.Progress) {
	if l.Done {
		return
	}
	if l.Phase != p.phase {
		p.end()
		p.phase, p.started = l.Phase, time.Now()
	} else if !p.terminal {
		return
	}
	text := l.Phase
	if l.Message != "" {
		text += ": " + l.Message
	}
	switch {
	case l.BytesTotal > 0:
		text += fmt.Sprintf("  %s of %s", control.Bytes(l.Bytes), control.Bytes(l.BytesTotal)) + p.eta(l.Bytes, l.BytesTotal)
	case l.ItemsTotal > 0:
		text += fmt.Sprintf("  %d of %d", l.Items, l.ItemsTotal) + p.eta(l.Items, l.ItemsTotal)
	}
	if p.terminal {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s", text)
		p.open = true
		return
	}
	fmt.Fprintln(os.Stderr, text)
}

func (p *progress) eta(done, all int64) string {
	took := time.Since(p.started)
	if done <= 0 || done >= all || took < time.Second {
		return ""
	}
	return ", about " + control.Ago(time.Duration(float64(took)/float64(done)*float64(all-done)).Round(time.Second))
}

func (p *progress) end() {
	if p.open {
		fmt.Fprintln(os.Stderr)
		p.open = false
	}
}
