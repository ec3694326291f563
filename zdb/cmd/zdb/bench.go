package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdb/resp"
)

type benchFlags struct {
	target
	tests    []string
	size     string
	clients  int
	pipeline int
	keys     int64
	requests int64
	duration time.Duration
	json     bool
}

func benchCommand() *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure a running server: operations per second and latencies",
		Long: `Measure a running server. Each client has a connection of its own, sends --pipeline requests, waits for all their
replies, and begins anew; the latency is that of the whole batch. SET writes distinct keys of 16 bytes with distinct
values, unless --keys bounds them; GET reads random ones of the keys that SET wrote, or, without SET, of the first --keys.
It leaves its keys (bench:…) in the namespace.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBench(cmd.Context(), cmd.OutOrStdout(), f)
		},
	}
	fl := c.Flags()
	f.target.register(fl)
	fl.StringSliceVar(&f.tests, "tests", []string{"set", "get"}, "`LIST` of set, get, ping, in their order")
	fl.StringVar(&f.size, "size", "4096", "`SIZE` of a value")
	fl.IntVar(&f.clients, "clients", 50, "connections")
	fl.IntVar(&f.pipeline, "pipeline", 1, "requests of one client under way at once")
	fl.Int64Var(&f.keys, "keys", 0, "number of keys; 0: SET makes a new one each time")
	fl.Int64Var(&f.requests, "requests", 0, "requests per test; 0: as many as fit into --duration")
	fl.DurationVar(&f.duration, "duration", 10*time.Second, "how long each test runs")
	fl.BoolVar(&f.json, "json", false, "the result as JSON")
	return c
}

// A benchResult is what one test came to. Times are in microseconds.
type benchResult struct {
	Test         string  `json:"test"`
	Clients      int     `json:"clients"`
	Pipeline     int     `json:"pipeline"`
	Size         int64   `json:"size"`
	Requests     int64   `json:"requests"`
	Seconds      float64 `json:"seconds"`
	OpsPerSecond float64 `json:"ops_per_second"`
	BytesPerSec  float64 `json:"bytes_per_second"`
	Misses       int64   `json:"misses"`
	Errors       int64   `json:"errors"`
	FirstError   string  `json:"first_error,omitempty"`
	P50          float64 `json:"p50_us"`
	P95          float64 `json:"p95_us"`
	P99          float64 `json:"p99_us"`
	P999         float64 `json:"p99_9_us"`
	Max          float64 `json:"max_us"`
}

func (f *benchFlags) validate() (size int64, err error) {
	var faults []error
	size, err = parseSize(f.size)
	if err == nil && size > resp.MaxBulk {
		err = fmt.Errorf("more than %d bytes", resp.MaxBulk)
	}
	if err != nil {
		faults = append(faults, fmt.Errorf("--size %q: %w", f.size, err))
	}
	if f.clients < 1 || f.pipeline < 1 || f.keys < 0 || f.requests < 0 || f.duration <= 0 {
		faults = append(faults, errors.New("--clients, --pipeline and --duration must be positive, --keys and --requests not negative"))
	}
	for _, test := range f.tests {
		if test != "set" && test != "get" && test != "ping" {
			faults = append(faults, fmt.Errorf("--tests %q: want set, get or ping", test))
		}
	}
	if err := checkAddress(f.address); err != nil {
		faults = append(faults, err)
	}
	if faults != nil {
		return 0, usageError{errors.Join(faults...)}
	}
	return size, nil
}

func runBench(ctx context.Context, out io.Writer, f benchFlags) error {
	size, err := f.validate()
	if err != nil {
		return err
	}
	l := &load{f: f, size: int(size)}
	if f.keys > 0 {
		l.written.Store(f.keys)
	}
	all := make([]benchResult, 0, len(f.tests))
	var failed error
	for _, test := range f.tests {
		r, err := l.run(ctx, strings.ToLower(test))
		if err != nil {
			return err
		}
		if r.Errors > 0 && failed == nil {
			failed = fmt.Errorf("%s: %d requests failed, the first: %s", test, r.Errors, r.FirstError)
		}
		all = append(all, r)
		if !f.json {
			if len(all) == 1 {
				fmt.Fprintf(out, "%-5s %8s %9s %8s %12s %10s %10s %10s %10s %10s %10s\n", "TEST", "CLIENTS", "PIPELINE", "SIZE", "OPS/S", "MiB/S", "P50 ms", "P95 ms", "P99 ms", "P99.9 ms", "MAX ms")
			}
			fmt.Fprintf(out, "%-5s %8d %9d %8d %12.0f %10.1f %10.3f %10.3f %10.3f %10.3f %10.3f\n", r.Test, r.Clients, r.Pipeline, r.Size,
				r.OpsPerSecond, r.BytesPerSec/(1<<20), r.P50/1e3, r.P95/1e3, r.P99/1e3, r.P999/1e3, r.Max/1e3)
			if r.Misses > 0 {
				fmt.Fprintf(out, "      %d of %d keys were not there\n", r.Misses, r.Requests)
			}
		}
	}
	if f.json {
		if err := writeJSON(out, all); err != nil {
			return err
		}
	}
	return failed
}
