package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Of a full run so many rows may miss, and by no more than this share.
const (
	allowedMisses    = 2
	allowedShortfall = 0.2
)

// A report collects the rows and what the machine was.
type report struct {
	quick, partial bool
	rows           []*row
	began          time.Time
	before, after  string // load averages
	machine        []string
}

func newReport(o options, b *bench) *report {
	r := &report{quick: o.quick, partial: o.only != "", began: time.Now(), before: load()}
	r.machine = []string{
		fmt.Sprintf("%d cores, %s", runtime.NumCPU(), cpu()),
		fmt.Sprintf("Linux %s, %s, %s", first("/proc/sys/kernel/osrelease"), runtime.Version(), memory()),
		"state on " + filesystem(b.dir),
	}
	if b.theirs == "" {
		r.machine = append(r.machine, "the original server was not given: what is relative to it counts as missed")
	}
	return r
}

func (r *report) end() { r.after = load() }

func (r *report) missed() (n, far, failed int) {
	for _, row := range r.rows {
		if row.ok() {
			continue
		}
		n++
		if !row.nearly() {
			far++
		}
		if row.fault != nil {
			failed++
		}
	}
	return n, far, failed
}

func (r *report) code() int {
	missed, far, failed := r.missed()
	if failed > 0 || !r.quick && !r.partial && (far > 0 || missed > allowedMisses) {
		return 1
	}
	return 0
}

// text is the whole report in Markdown.
func (r *report) text() string {
	var b strings.Builder
	b.WriteString("# zdb: figures\n\n")
	fmt.Fprintf(&b, "%s, %.0f s; load average %s before, %s after.\n\n", r.began.UTC().Format("2006-01-02 15:04 UTC"), time.Since(r.began).Seconds(), r.before, r.after)
	if r.quick {
		b.WriteString("**Quick form: small amounts, few rounds; the figures only show that the command works.**\n\n")
	}
	for _, m := range r.machine {
		fmt.Fprintf(&b, "- %s\n", m)
	}
	b.WriteString("\nFigures are medians (lowest–highest) of runs in turns; \"ratio\" is ours to what the row compares with.\n\n")
	b.WriteString("| row | compared with | ours | ratio | target | |\n|---|---|---|---|---|---|\n")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", row.title, row.figure(row.theirs), row.figure(row.ours), row.share(), row.target, row.verdict())
	}
	missed, far, _ := r.missed()
	fmt.Fprintf(&b, "\n%d of %d rows held; of the others %d missed by more than %.0f %%.\n\n", len(r.rows)-missed, len(r.rows), far, 100*allowedShortfall)
	for _, row := range r.rows {
		if n := len(row.ours); n > 0 {
			fmt.Fprintf(&b, "- %s: rounds of ours %d, of theirs %d\n", row.name, n, len(row.theirs))
		}
		for _, m := range row.more {
			fmt.Fprintf(&b, "- %s: %s\n", row.name, m)
		}
	}
	return b.String()
}

func first(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(raw))
}

func load() string {
	f := strings.Fields(first("/proc/loadavg"))
	return strings.Join(f[:min(3, len(f))], " ")
}

// field finds the value of the first line that begins with a name.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, " \t:"))
		}
	}
	return "unknown"
}

func cpu() string    { return field(first("/proc/cpuinfo"), "model name") }
func memory() string { return field(first("/proc/meminfo"), "MemTotal") + " of memory" }

// filesystem names the type and device that hold a directory: the longest mount point above it.
func filesystem(dir string) string {
	best, what := -1, "unknown"
	for line := range strings.Lines(first("/proc/mounts")) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		at := strings.TrimSuffix(f[1], "/")
		if (at == "" || dir == at || strings.HasPrefix(dir, at+"/")) && len(at) >= best {
			best, what = len(at), f[2]+" ("+f[0]+")"
		}
	}
	return what
}
