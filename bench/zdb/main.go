// Command zdb measures the engine and the server, side by side with the original C server when its binary is given.
//
//	go run ./bench/zdb [--original PATH] [--out bench/results/zdb.md] [--only ROW] [--quick]
//
// One run produces every row of both tables of targets. What is compared is run in turns, ours, theirs, ours, …, and the
// medians count. A row that cannot run says why and counts as missed. The state lies in a temporary directory of --dir,
// which should be on the disk that matters and not in memory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.original, "original", "", "`PATH` of the original server's binary; without it what is relative to it counts as missed")
	flag.StringVar(&o.ours, "ours", "", "`PATH` of our zdb; default: built from the tree")
	flag.StringVar(&o.out, "out", "", "`FILE` for the report in Markdown, beside standard output")
	flag.StringVar(&o.only, "only", "", "comma-separated `ROWS` to run; default all")
	flag.StringVar(&o.dir, "dir", defaultDir(), "`DIR` for the state, on a real disk")
	flag.BoolVar(&o.quick, "quick", false, "small amounts, at most two minutes: shows that it works, not how fast")
	flag.DurationVar(&o.limit, "limit", 25*time.Minute, "the whole run takes at most this `TIME`; what is left then counts as missed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/zdb:", err)
		code = 1
	}
	os.Exit(code)
}

type options struct {
	original, ours, out, only, dir string
	quick                          bool
	limit                          time.Duration
}

// defaultDir is on a disk on most machines, where the usual place for temporary files is often in memory.
func defaultDir() string {
	if info, err := os.Stat("/var/tmp"); err == nil && info.IsDir() {
		return "/var/tmp"
	}
	return os.TempDir()
}

// run measures and reports. The code is 1 when something failed to run, or when a full run misses more than allowed.
func run(ctx context.Context, o options) (code int, err error) {
	if o.quick && o.limit > 2*time.Minute {
		o.limit = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	dir, err := os.MkdirTemp(o.dir, "bench-zdb-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{ctx: ctx, o: o, dir: dir, scale: full}
	if o.quick {
		b.scale = quick
	}
	if b.ours, err = program(ctx, o.ours, dir); err != nil {
		return 1, err
	}
	if o.original != "" {
		if b.theirs, err = filepath.Abs(o.original); err != nil {
			return 1, err
		}
		if _, err := os.Stat(b.theirs); err != nil {
			return 1, fmt.Errorf("the original server: %w", err)
		}
	}
	rep := newReport(o, b)
	if err := b.measure(rep); err != nil {
		return 1, err
	}
	rep.end()
	fmt.Print(rep.text())
	if o.out != "" {
		if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
			return 1, err
		}
		if err := os.WriteFile(o.out, []byte(rep.text()), 0o644); err != nil {
			return 1, err
		}
	}
	return rep.code(), nil
}

// A bench is one run: where its state is and what it compares.
type bench struct {
	ctx          context.Context
	o            options
	dir          string
	ours, theirs string // programs; theirs may be empty
	scale        scale
}

// rounds counts the rounds of a group, one at least, and ends them early when one more would not fit its share of the time: all
// groups together have to end within the limit.
func (b *bench) rounds(share time.Duration) iter.Seq[int] {
	return func(yield func(int) bool) {
		began := time.Now()
		for i := range b.scale.rounds {
			if i > 0 && time.Since(began)*time.Duration(i+1)/time.Duration(i) > share || !yield(i) {
				return
			}
		}
	}
}

// A group measures some rows together, because they share what it takes to get there.
type group struct {
	rows []*row
	run  func(b *bench, rows map[string]*row) error
}

// measure runs all groups that have a wanted row. The failure of one is noted in its rows and does not end the others.
func (b *bench) measure(rep *report) error {
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(b.o.only, ",") {
		if name != "" {
			wanted[name] = true
		}
	}
	all := groups()
	for name := range wanted {
		if !known(all, name) {
			return fmt.Errorf("no row %q; there are: %s", name, strings.Join(names(all), ", "))
		}
	}
	for _, g := range all {
		rows := map[string]*row{}
		for _, r := range g.rows {
			if len(wanted) == 0 || wanted[r.name] {
				rows[r.name] = r
				rep.rows = append(rep.rows, r)
			}
		}
		if len(rows) == 0 {
			continue
		}
		began := time.Now()
		err := b.ctx.Err()
		if err == nil {
			err = g.run(b, rows)
		}
		for _, r := range rows {
			if err != nil && r.fault == nil && len(r.ours) == 0 {
				r.fault = err
			}
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", strings.Join(names([]group{g}), ", "), err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f s\n", strings.Join(names([]group{g}), ", "), time.Since(began).Seconds())
		for _, r := range g.rows {
			if rows[r.name] != nil {
				fmt.Fprintln(os.Stderr, "  "+r.line())
			}
		}
	}
	return nil
}

func known(all []group, name string) bool {
	for _, n := range names(all) {
		if n == name {
			return true
		}
	}
	return false
}

func names(all []group) []string {
	var out []string
	for _, g := range all {
		for _, r := range g.rows {
			out = append(out, r.name)
		}
	}
	return out
}
