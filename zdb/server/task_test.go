package server

import (
	"encoding/json"
	"strings"
	"testing"

	"qsfs/zdb/client"
	"qsfs/zdb/resp"
)

// TASK is for the admin, one at a time, and says how it ended; the tests of the program show what it finds and mends.
func TestTask(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	w.want("+OK", "SELECT", "ns")
	w.want(`"k"`, "SET", "k", "v")
	state := func() (s client.TaskState) {
		t.Helper()
		w.send("TASK", "ns", "STATUS")
		v, err := w.in.Read()
		if err != nil || v.Kind != resp.Bulk || json.Unmarshal(v.Data, &s) != nil {
			t.Fatalf("%s, %v", show(v), err)
		}
		return s
	}
	if s := state(); s.Task != "" || s.Running {
		t.Errorf("before the first: %+v", s)
	}
	for _, bad := range [][]string{{"TASK", "ns", "FROB"}, {"TASK", "ns", "CHECK", "x"}, {"TASK", "ns", "REINDEX", "x"}, {"TASK", "ns", "STATUS", "x"}} {
		w.want("-"+errTask, bad...)
	}
	w.want("-"+errNoNamespace, "TASK", "none", "CHECK")
	stranger := ts.dial()
	for _, sub := range []string{"CHECK", "REINDEX", "STATUS"} {
		if got := stranger.do("TASK", "ns", sub); !strings.HasPrefix(got, "-Permission denied") {
			t.Errorf("%s: %s", sub, got)
		}
	}
	w.want("+OK", "TASK", "ns", "CHECK")
	eventually(t, "the check", func() bool { return !state().Running })
	if s := state(); s.Task != "check" || s.Error != "" || s.Check == nil || s.Check.Keys != 1 || len(s.Check.Findings) != 0 {
		t.Errorf("%+v", s)
	}
	w.want("+OK", "TASK", "ns", "REINDEX", "77")
	eventually(t, "the rebuild", func() bool { return !state().Running })
	if s := state(); s.Task != "rebuild-index" || s.Error == "" || s.Check != nil {
		t.Errorf("of a segment that is not there: %+v", s)
	}

	// Another one is refused while one runs, and the end of the server ends it.
	n := ts.lookup("ns")
	n.task.mu.Lock()
	n.task.state.Running = true
	n.task.mu.Unlock()
	w.want("-"+errTaskBusy, "TASK", "ns", "CHECK")
	n.task.mu.Lock()
	n.task.state.Running = false
	n.task.mu.Unlock()
	w.want("+OK", "TASK", "ns", "REINDEX")
	ts.reopen()
	w = ts.adminWire()
	w.want("+OK", "SELECT", "ns")
	w.want(`"v"`, "GET", "k")
}
