package main

import (
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"qsfs/zdb/client"
)

func TestBench(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	n := newNode(t, "--namespace", "ns:secret", "--listen", "unix:"+socket)
	n.start()
	for _, address := range []string{n.address, "unix:" + socket} {
		out, err := program("bench", "--address", address, "--namespace", "ns", "--password", "secret", "--tests", "set,get,ping",
			"--clients", "4", "--pipeline", "8", "--requests", "1003", "--size", "100", "--json").Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", address, err, out)
		}
		var all []benchResult
		if err := json.Unmarshal(out, &all); err != nil || len(all) != 3 {
			t.Fatalf("%v: %s", err, out)
		}
		for _, r := range all {
			if r.Requests != 1003 || r.Errors != 0 || r.Misses != 0 || r.OpsPerSecond <= 0 || r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.Max {
				t.Errorf("%s: %+v", address, r)
			}
		}
	}
	// The duration ends a test, and what the server refuses is said.
	began := time.Now()
	cmd := program("bench", "--address", n.address, "--namespace", "default", "--tests", "get", "--keys", "10", "--duration", "200ms")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "were not there") || time.Since(began) > 10*time.Second {
		t.Errorf("get of nothing: %v\n%s", err, out)
	}
	cmd = program("bench", "--address", n.address, "--namespace", "ns", "--password", "secret", "--tests", "set", "--size", "9M")
	if out, err := cmd.CombinedOutput(); exitOf(err) != exitUsage || !strings.Contains(string(out), "--size") {
		t.Errorf("too large: %v\n%s", err, out)
	}
	if err := n.client(client.Options{Admin: "root"}).NSSet(t.Context(), "ns", "lock", "1"); err != nil {
		t.Fatal(err)
	}
	cmd = program("bench", "--address", n.address, "--namespace", "ns", "--password", "secret", "--tests", "set", "--requests", "5")
	if out, err := cmd.CombinedOutput(); exitOf(err) != exitInternal || !strings.Contains(string(out), "locked") {
		t.Errorf("set in a locked namespace: %v\n%s", err, out)
	}
}

func exitOf(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return 0
}

func TestHistogram(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var all []float64
	for range 10000 {
		d := time.Duration(rng.ExpFloat64() * 1e6)
		h.record(d)
		all = append(all, float64(d)/1e3)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.99, 0.999} {
		got, want := h.quantile(q), all[int(q*10000)]
		if got < want || got > want*(1+1.0/32)+0.001 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	for i := range 50 * subBuckets {
		if top := bucketTop(i); bucketOf(top) != i || bucketOf(top+1) != i+1 {
			t.Fatalf("bucket %d ends at %d", i, top)
		}
	}
}
