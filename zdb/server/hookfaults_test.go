package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"qsfs/zdb"
)

// A hookScript is a shell script that is run for events; $1 is the event, $3 the first argument. What it starts with notes the
// event and its own process, which the end of the test ends.
func hookScript(t *testing.T, body string) (program string, events func() []string) {
	t.Helper()
	dir := t.TempDir()
	program, notes := filepath.Join(dir, "hook"), filepath.Join(dir, "notes")
	script := fmt.Sprintf("#!/bin/sh\necho \"$$ $1 $3\" >> %s\ncd %s\n%s\n", notes, dir, body)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	lines := func() []string {
		raw, err := os.ReadFile(notes)
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	}
	t.Cleanup(func() {
		for _, l := range lines() {
			pid, _, _ := strings.Cut(l, " ")
			if p, err := strconv.Atoi(pid); err == nil && runsIn(p, dir) {
				syscall.Kill(p, syscall.SIGKILL)
			}
		}
	})
	return program, func() []string {
		var events []string
		for _, l := range lines() {
			_, e, _ := strings.Cut(l, " ")
			events = append(events, e)
		}
		return events
	}
}

// runsIn says whether a process works in a directory, whatever it has become by exec, and is not another one that got the number
// since.
func runsIn(pid int, dir string) bool {
	at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && at == dir
}

// loseSegment writes two segments, moves the first away and starts the server with the hook.
func loseSegment(t *testing.T, ts *testServer, program string) (path, away string) {
	t.Helper()
	w := ts.adminWire()
	w.play([]step{do(`"lost"`, "SET", "lost", strings.Repeat("x", 1000)), do("+OK", "NSJUMP"), do(`"here"`, "SET", "here", "still")})
	path, _ = ts.lookup(defaultNamespace).paths(0)
	away = filepath.Join(filepath.Dir(program), "away")
	if err := ts.Close(); err != nil {
		t.Fatal(err)
	}
	<-ts.served
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	ts.o.Hook = program
	ts.open()
	return path, away
}

// A segment that the hook brings back is checked and read; the hook is asked no more.
func TestMissingDataHook(t *testing.T) {
	t.Parallel()
	program, events := hookScript(t, `[ "$1" != missing-data ] || cp away "$3"`)
	ts := start(t, nil)
	path, _ := loseSegment(t, ts, program)
	value := fmt.Sprintf("%q", strings.Repeat("x", 1000))
	w := ts.dial()
	w.play([]step{do(`"still"`, "GET", "here"), do(":1000", "LENGTH", "lost"), do(value, "GET", "lost"), do(value, "GET", "lost"), do(":1", "CHECK", "lost")})
	asked := 0
	for _, e := range events() {
		if e == "missing-data "+path {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("the hook was asked %d times: %q", asked, events())
	}
	if got := ts.adminWire().do("HOOKS"); !strings.Contains(got, fmt.Sprintf("%q [%q]", "missing-data", path)) {
		t.Errorf("HOOKS: %s", got)
	}
}

// A hook that fails, dies, brings nothing or brings something else costs an error for those who want the segment.
func TestMissingDataHookFails(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"refuses": `[ "$1" != missing-data ]`, "dies": `[ "$1" != missing-data ] || kill -9 $$`, "brings nothing": `exit 0`,
		"brings another": `[ "$1" != missing-data ] || { cp away new; printf y | dd of=new bs=1 seek=200 conv=notrunc 2>/dev/null; mv new "$3"; }`,
		"brings half":    `[ "$1" != missing-data ] || head -c 300 away > "$3"`,
	} {
		t.Run(name, func(t *testing.T) {
			program, events := hookScript(t, body)
			ts := start(t, nil)
			loseSegment(t, ts, program)
			w := ts.dial()
			w.play([]step{do("-Internal Error", "GET", "lost"), do(`"still"`, "GET", "here"), do("-Internal Error", "GET", "lost"), do(":1000", "LENGTH", "lost"), do("+PONG", "PING")})
			if got := strings.Join(events(), " "); !strings.Contains(got, "missing-data") {
				t.Errorf("the hook was not asked: %s", got)
			}
			w.want(`"lost"`, "SET", "lost", "again") // what cannot be read can be replaced
			w.want(`"again"`, "GET", "lost")
		})
	}
}

// A hook that hangs holds up who wants that segment, until the timeout, and nobody else: neither other readers nor
// writers, nor who asks an admin's questions of the same namespace.
func TestMissingDataHookHangs(t *testing.T) {
	t.Parallel()
	const hang = 8 * time.Second
	program, events := hookScript(t, `[ "$1" != missing-data ] || exec sleep 100`)
	ts := start(t, func(o *Options) { o.Engine = func(e *zdb.Options) { e.FetchTimeout = hang } })
	loseSegment(t, ts, program)
	stuck, began := ts.dial(), time.Now()
	stuck.send("GET", "lost")
	eventually(t, "the hook runs", func() bool { return strings.Contains(strings.Join(events(), " "), "missing-data") })
	admin := ts.adminWire()
	admin.play([]step{
		do(`"still"`, "GET", "here"), do(`"new"`, "SET", "new", "1"), do("-Cannot change mode of used namespace", "NSSET", "default", "mode", "seq"),
		do("+OK", "NSNEW", "other"), do("+OK", "NSDEL", "other"), do(`"still"`, "GET", "here"),
	})
	if took := time.Since(began); took > hang {
		t.Errorf("the others waited for the hook: %v", took)
	}
	if got := stuck.reply(); got != "-Internal Error" {
		t.Errorf("the reader got %s", got)
	}
	stuck.want("+PONG", "PING")
}

// Events that nobody waits for do not hold up the server, however many there are and however long the programs take; they
// are told in their order, and those that ever end are not lost.
func TestManyHooks(t *testing.T) {
	t.Parallel()
	program, events := hookScript(t, `[ "$1" != namespace-updated ] || sleep 0.1`)
	ts := start(t, func(o *Options) { o.Hook = program })
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	const many = 60
	began := time.Now()
	for i := range many {
		w.want("+OK", "NSSET", "ns", "lock", strconv.Itoa(i%2))
	}
	t.Logf("%d changes took %v", many, time.Since(began))
	w.want("+PONG", "PING")
	if err := ts.Close(); err != nil { // waits for those on their way
		t.Fatal(err)
	}
	told := 0
	for _, e := range events() {
		if e == "namespace-updated ns" {
			told++
		}
	}
	if told != many {
		t.Errorf("%d of %d events were told", told, many)
	}
}

// Hooks that never end take their places and no more: the server serves, asks other hooks, and stops in time.
func TestHooksThatHang(t *testing.T) {
	t.Parallel()
	program, events := hookScript(t, `[ "$1" != namespace-updated ] || exec sleep 100`)
	ts := start(t, func(o *Options) { o.Hook = program })
	ts.hooks.goodbye = 200 * time.Millisecond
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	for range hooksAtOnce {
		w.want("+OK", "NSSET", "ns", "worm", "1")
	}
	for range hooksPending + 50 { // more than may wait: the rest is lost, and logged. Without the list, which takes two fsyncs each
		ts.hooks.tell(hookUpdated, "ns")
	}
	w.want("+OK", "NSSET", "ns", "worm", "0")
	eventually(t, "all places are taken", func() bool { return strings.Count(strings.Join(events(), " "), "updated") == hooksAtOnce })
	w.play([]step{do("+OK", "NSNEW", "more"), do(`"k"`, "SET", "k", "v"), do("+OK", "NSJUMP"), do(`"v"`, "GET", "k")})
	if got := w.do("HOOKS"); strings.Count(got, "namespace-updated") != hooksAtOnce {
		t.Errorf("HOOKS: %.300s", got)
	}
	began := time.Now()
	if err := ts.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if got := events(); !strings.HasPrefix(got[len(got)-1], "close") {
		t.Errorf("the hook was not asked to close: %q", got[len(got)-1])
	}
	select { // what waits for its turn is not started when the server is gone
	case <-ts.hooks.done:
	case <-time.After(20 * time.Second):
		t.Error("events are still told")
	}
}

// A program that cannot be run refuses the start as one that fails does; told events do nothing.
func TestHookThatIsNoProgram(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	ts := start(t, func(o *Options) { o.Hook = path })
	if err := ts.Ready(t.Context()); err == nil {
		t.Error("a hook that cannot run did not count")
	}
	w := ts.adminWire()
	w.play([]step{do("+OK", "NSNEW", "ns"), do("+OK", "NSDEL", "ns"), do("+PONG", "PING")})
	eventually(t, "HOOKS shows the failure", func() bool { return strings.Contains(w.do("HOOKS"), fmt.Sprintf(":%d]", hookFailed)) })
}
