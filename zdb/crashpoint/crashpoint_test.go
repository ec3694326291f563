package crashpoint

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func TestParse(t *testing.T) {
	got := parse("a@1, b@3,,c,d@0,e@x")
	if len(got) != 2 || got["a"].left.Load() != 1 || got["b"].left.Load() != 3 {
		t.Errorf("parse found %d points, want a@1 and b@3", len(got))
	}
}

// TestKill runs this test binary again with a point armed.
func TestKill(t *testing.T) {
	if os.Getenv("QSFS_CRASH") != "" {
		for range 3 {
			Hit("test.other")
			Hit("test.point")
		}
		return
	}
	for _, tt := range []struct {
		at   string
		dies bool
	}{{"test.point@3", true}, {"test.point@4", false}} {
		log := filepath.Join(t.TempDir(), "log")
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "QSFS_CRASH="+tt.at, "QSFS_CRASH_LOG="+log)
		err := cmd.Run()
		killed := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if killed != tt.dies {
			t.Fatalf("%s: killed %v, want %v (%v)", tt.at, killed, tt.dies, err)
		}
		text, _ := os.ReadFile(log)
		if want := map[bool]string{true: "test.point\n", false: ""}[tt.dies]; string(text) != want {
			t.Errorf("%s: log %q, want %q", tt.at, text, want)
		}
	}
}
