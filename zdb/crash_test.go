package zdb

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// crashPoints are the named places of the engine.
var crashPoints = []string{
	"zdb.commit.written", "zdb.sync.before", "zdb.sync.after", "zdb.seal.synced", "zdb.seal.renamed",
	"zdb.seal.dirsynced", "zdb.apply.before", "zdb.apply.mid", "zdb.apply.after",
	"zdb.compact.copied", "zdb.compact.applied", "zdb.compact.recorded", "zdb.compact.unlinked",
}

// TestCrashPoints kills a process at each named point and looks what it left.
func TestCrashPoints(t *testing.T) {
	if dir := os.Getenv("QSFS_TEST_DIR"); dir != "" {
		crashLife(t, dir)
		return
	}
	for _, name := range crashPoints {
		for _, pass := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s@%d", name, pass), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				hits := filepath.Join(dir, "hits")
				// Twice: the second process goes on with what the first left.
				for round := range 2 {
					cmd := exec.Command(os.Args[0], "-test.run=^TestCrashPoints$")
					cmd.Env = append(os.Environ(), "QSFS_TEST_DIR="+dir, fmt.Sprintf("QSFS_CRASH=%s@%d", name, pass), "QSFS_CRASH_LOG="+hits)
					out, _ := cmd.CombinedOutput()
					if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
						t.Fatalf("round %d was not killed: %s", round, out)
					}
				}
				if text, _ := os.ReadFile(hits); string(text) != name+"\n"+name+"\n" {
					t.Fatalf("hits: %q", text)
				}
				checkCrash(t, dir)
			})
		}
	}
}

const crashValue = 3000

// crashLife commits, syncs and seals, and notes outside what was acknowledged.
func crashLife(t *testing.T, dir string) {
	db := openAt(t, dir, func(o *Options) { o.OverlayBytes = 16 << 20 })
	n := openNS(t, db, "ns", NamespaceOptions{SegmentSize: 200 << 10, InlineMax: 4096, Prewrite: true})
	log, err := os.OpenFile(filepath.Join(dir, "acked"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	start, _, err := n.Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	value := strings.Repeat("v", crashValue)
	for i := int(start); i < int(start)+10000; i += 5 { // never gets that far
		b := NewBatch()
		for k := range 5 {
			b.Set(fmt.Appendf(nil, "%07d", i+k), []byte(value))
		}
		if _, err := n.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			if err := n.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(log, i+5)
		}
		if i%1000 == 995 {
			if err := n.apply(t.Context()); err != nil {
				t.Fatal(err)
			}
			// The first half of each batch is written again, so that there is something dead.
			b := NewBatch()
			for k := start; k < int64(i); k += 2 {
				if b.Fits(7, crashValue) {
					b.Set(fmt.Appendf(nil, "%07d", k), []byte(value))
				}
			}
			if _, err := n.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// checkCrash wants all that was acknowledged, and whole batches only.
func checkCrash(t *testing.T, dir string) {
	t.Helper()
	text, _ := os.ReadFile(filepath.Join(dir, "acked"))
	acked := 0
	if lines := strings.Fields(string(text)); len(lines) > 0 {
		if _, err := fmt.Sscan(lines[len(lines)-1], &acked); err != nil {
			t.Fatal(err)
		}
	}
	n := openNS(t, openAt(t, dir, nil), "ns", NamespaceOptions{SegmentSize: 200 << 10, InlineMax: 4096})
	got := all(t, n)
	if len(got) < acked || len(got)%5 != 0 {
		t.Errorf("%d keys, acknowledged were %d", len(got), acked)
	}
	for i := range len(got) {
		if len(got[fmt.Sprintf("%07d", i)]) != crashValue {
			t.Fatalf("key %d of %d has %d bytes", i, len(got), len(got[fmt.Sprintf("%07d", i)]))
		}
	}
	if s := n.Stats(); s.Keys+int64(n.view.Load().tables[0].Len()) < int64(len(got)) {
		t.Errorf("stats %+v for %d keys", s, len(got))
	}
}
