package quorum

import (
	"os"
	"strconv"
	"testing"
	"time"

	"qsfs/zstor/internal/record"
)

type fixedKeys struct{}

func (fixedKeys) KeyEpochs() []uint32 { return []uint32{1} }
func (fixedKeys) RecordKey(e uint32) ([32]byte, bool) {
	return [32]byte{31: 7}, e == 1
}

func testSealer(t testing.TB) *record.Sealer {
	t.Helper()
	s, err := record.NewSealer(fixedKeys{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func long() bool { return os.Getenv("QSFS_LONG") == "1" }

// TestSimulation runs seeded schedules over the unchanged code: no acknowledged cut is lost, no epoch has two owners,
// no version is used twice, nothing that was deleted comes back, and the last recovery is never stuck.
func TestSimulation(t *testing.T) {
	sealer := testSealer(t)
	n := max(2000, firstSeed(t)+1)
	if long() {
		n = 200_000
	}
	var seen simSeen
	begin := time.Now()
	for seed := firstSeed(t); seed < n; seed++ {
		fault, w := simulate(t, seed, noRule, sealer, false)
		if fault != "" {
			_, w = simulate(t, seed, noRule, sealer, true)
			for _, l := range w.check.trace {
				t.Log(l)
			}
			t.Fatalf("seed %d: %s", seed, fault)
		}
		seen.add(w.seen)
	}
	t.Logf("%d schedules in %v: %+v", n, time.Since(begin).Round(time.Millisecond), seen)
}

// firstSeed lets a single schedule be looked at: QSFS_SEED=n starts with that one.
func firstSeed(t *testing.T) uint64 {
	v := os.Getenv("QSFS_SEED")
	if v == "" {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
