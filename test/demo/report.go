package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"qsfs/test/harness"
)

// report is what the demo prints: what it did, and for each claim whether it held.
type report struct {
	p      *harness.Program
	out    io.Writer
	file   *os.File
	start  time.Time
	failed int
	held   int
}

func newReport(p *harness.Program, path string) *report {
	f, err := os.Create(path)
	if err != nil {
		p.Fatalf("open the report: %v", err)
	}
	return &report{p: p, file: f, out: io.MultiWriter(os.Stdout, f), start: time.Now()}
}

func (r *report) close() {
	if err := r.file.Close(); err != nil {
		r.p.Errorf("write the report: %v", err)
	}
}

// step begins a section.
func (r *report) step(format string, args ...any) {
	fmt.Fprintf(r.out, "\n[%6.1fs] %s\n", time.Since(r.start).Seconds(), fmt.Sprintf(format, args...))
}

// fact states a measurement.
func (r *report) fact(format string, args ...any) {
	fmt.Fprintf(r.out, "           %s\n", fmt.Sprintf(format, args...))
}

// claim states something that must hold.
func (r *report) claim(holds bool, format string, args ...any) {
	mark := "ok    "
	if holds {
		r.held++
	} else {
		mark = "FAILED"
		r.failed++
		r.p.Errorf("a claim failed")
	}
	fmt.Fprintf(r.out, "  %s   %s\n", mark, fmt.Sprintf(format, args...))
}

// took gives the duration since t, for a fact.
func took(t time.Time) string { return fmt.Sprintf("%.1f s", time.Since(t).Seconds()) }

// size prints bytes for people.
func size(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// percent of a whole.
func percent(n, of int64) string { return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(max(1, of))) }
