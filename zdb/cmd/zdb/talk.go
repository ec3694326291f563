package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// writeJSON is how results go to programs.
func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// A bar shows the progress of long work on standard error, when that is a terminal and nothing is written for programs.
// Without a terminal it says once what is being done.
type bar struct {
	b     *progressbar.ProgressBar
	quiet bool
	tty   bool
	title string
	bytes bool
	name  string // of the step
	// spinning: what is counted means nothing.
	spinning bool
}

func newBar(title string, quiet, bytes bool) *bar {
	p := &bar{quiet: quiet, tty: term.IsTerminal(int(os.Stderr.Fd())), title: title, bytes: bytes}
	if !quiet && !p.tty {
		fmt.Fprintln(os.Stderr, "zdb: "+title)
	}
	return p
}

// show draws done of total; a total of −1 is not known.
func (p *bar) show(done, total int64) {
	if p.quiet || !p.tty {
		return
	}
	if p.b == nil {
		opts := []progressbar.Option{
			progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(p.title),
			progressbar.OptionThrottle(100 * time.Millisecond),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(),
		}
		if !p.spinning {
			opts = append(opts, progressbar.OptionShowCount())
		}
		if p.bytes {
			opts = append(opts, progressbar.OptionShowBytes(true))
		}
		p.b = progressbar.NewOptions64(total, opts...)
	}
	if total > 0 {
		p.b.ChangeMax64(total)
	}
	_ = p.b.Set64(done) // a bar that cannot be drawn is no reason to stop
}

// step is show for work of several steps.
func (p *bar) step(name string, done, total int64) {
	if p.b != nil && name != p.name {
		p.b.Describe(p.title + ", " + name)
	}
	p.name = name
	p.show(done, total)
}

// spin shows that something goes on whose end is not known, until what it returns is called.
func (p *bar) spin() (stop func()) {
	if p.quiet || !p.tty {
		return func() {}
	}
	p.spinning = true
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := int64(0); ; n++ {
			select {
			case <-tick.C:
				p.show(n, -1)
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (p *bar) close() {
	if p.b != nil {
		_ = p.b.Finish() // see show
		p.b = nil
	}
}
