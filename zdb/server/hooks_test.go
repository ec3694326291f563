package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hookProgram writes a program that notes its arguments, and ends with 1 for the event in the file refuse.
func hookProgram(t *testing.T) (program, notes string) {
	t.Helper()
	dir := t.TempDir()
	program, notes = filepath.Join(dir, "hook"), filepath.Join(dir, "notes")
	script := "#!/bin/sh\necho \"$@\" >> " + notes + "\n[ \"$1\" != \"$(cat " + dir + "/refuse 2>/dev/null)\" ]\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, notes
}

func TestHooks(t *testing.T) {
	t.Parallel()
	program, notes := hookProgram(t)
	ts := start(t, func(o *Options) { o.Hook, o.Instance = program, "tcp://here:1" })
	seen := func() string {
		raw, err := os.ReadFile(notes)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if err := ts.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(notes), "refuse"), []byte("ready"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ts.Ready(t.Context()); err == nil {
		t.Error("the hook's refusal did not count")
	}
	ts.dial().want("-Permission denied", "HOOKS")
	w := ts.adminWire()
	w.play([]step{
		do("+OK", "NSNEW", "ns"), do("+OK", "NSSET", "ns", "lock", "1"), do("+OK", "RELOAD", "ns"), do("+OK", "NSDEL", "ns"),
		do(`"k"`, "SET", "k", "1"), do(`"k"`, "SET", "k", "2"), do("+OK", "NSJUMP"),
	})
	eventually(t, "the jump is told", func() bool { return strings.Contains(seen(), "jump-data") })
	w.want("[]", "INDEX", "DIRTY") // status 0 took it off the list
	if got := w.do("HOOKS"); !strings.Contains(got, `["namespace-created" ["ns"] :`) {
		t.Errorf("HOOKS: %s", got)
	}
	if err := ts.Close(); err != nil {
		t.Fatal(err)
	}
	d0, i0 := filepath.Join(ts.o.DataDir, "default", "d0"), filepath.Join(ts.o.IndexDir, "default", "i0")
	d1, i1 := strings.TrimSuffix(d0, "0")+"1", strings.TrimSuffix(i0, "0")+"1"
	for _, want := range []string{
		"namespaces-init tcp://here:1 " + ts.o.IndexDir + " " + ts.o.DataDir, "ready tcp://here:1", "namespace-created tcp://here:1 ns",
		"namespace-updated tcp://here:1 ns", "namespace-reloaded tcp://here:1 ns", "namespace-deleted tcp://here:1 ns",
		"jump-index tcp://here:1 " + i0 + " " + i1 + " 0", "jump-data tcp://here:1 " + d0 + " " + d1, "close tcp://here:1",
		"namespace-closing tcp://here:1 default " + i1 + " " + d1,
	} {
		if !strings.Contains(seen(), want) {
			t.Errorf("%q is missing in\n%s", want, seen())
		}
	}
}
