package server

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestWait(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	admin, w, other := ts.adminWire(), ts.dial(), ts.dial()
	w.play([]step{
		do("-Invalid arguments", "WAIT"), do("-Invalid arguments", "WAIT", "a", "b", "c"), do("-Unknown command to watch", "WAIT", "nonexisting"),
		do("-Unknown command to watch", "WAIT", "PIN"), do("-Invalid timeout", "WAIT", "PING", "99"), do("-Invalid timeout", "WAIT", "PING", "1800001"),
		do("-Invalid timeout", "WAIT", "PING", "x"), do("-Invalid timeout", "WAIT", "PING", "00000000000001000"),
	})
	waits := func(n int32) {
		t.Helper()
		eventually(t, "a WAIT has arrived", func() bool { return ts.watch.any.Load() == n })
	}
	// The command of another connection, also one that fails, and not its own.
	w.send("wait", "del")
	waits(1)
	w.want("-Key not found", "DEL", "own")
	other.want("+PONG", "PING")
	other.want("-Key not found", "del", "none")
	if got := w.reply(); got != "+DEL" {
		t.Errorf("WAIT DEL: %s", got)
	}
	other.want("-Key not found", "DEL", "none") // nobody waits any more
	w.want("+PONG", "PING")

	// Any known command; the last WAIT counts; SETX is not SET.
	for _, any := range []string{"*", ""} {
		w.send("WAIT", "SET")
		w.send("WAIT", any, "1800000")
		waits(1)
		w.want("+PONG", "PING")
		other.want("-Command not supported", "NONSENSE")
		other.want("-Unexpected arguments", "SETX")
		if got := w.reply(); got != "+SETX" {
			t.Errorf("WAIT %s: %s", any, got)
		}
	}
	// Only in the same namespace, where a SELECT leads too.
	admin.want("+OK", "NSNEW", "ns")
	w.want("+OK", "SELECT", "ns")
	w.send("WAIT", "SELECT", "1800000")
	waits(1)
	other.want("+OK", "SELECT", "default")
	other.want("+OK", "SELECT", "ns")
	if got := w.reply(); got != "+SELECT" {
		t.Errorf("WAIT SELECT: %s", got)
	}
	// The waiting connection may move, too.
	w.send("WAIT", "PING", "1800000")
	w.want("+OK", "SELECT", "default")
	other.want("+PONG", "PING")
	admin.want("+PONG", "PING")
	if got := w.reply(); got != "+PING" {
		t.Errorf("WAIT PING: %s", got)
	}
	// The time runs out, also when the namespace goes.
	begun := time.Now()
	w.send("WAIT", "PING", "100")
	if got := w.reply(); got != "-Timeout" || time.Since(begun) < 100*time.Millisecond {
		t.Errorf("WAIT PING 100: %s after %v", got, time.Since(begun))
	}
	w.want("+OK", "SELECT", "ns")
	w.send("WAIT", "PING", "300")
	waits(1)
	admin.want("+OK", "NSDEL", "ns")
	if got := w.reply(); got != "-Timeout" {
		t.Errorf("WAIT in a removed namespace: %s", got)
	}
	// A session that goes takes its WAIT along.
	last := ts.dial()
	last.send("WAIT", "PING", "1800000")
	waits(1)
	last.nc.Close()
	waits(0)
}

func TestWaitDefaultTimeout(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.dial()
	begun := time.Now()
	w.send("WAIT", "PING")
	if got := w.reply(); got != "-Timeout" || time.Since(begun) < 5*time.Second {
		t.Errorf("%s after %v", got, time.Since(begun))
	}
}

func TestMirror(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ts.dial().want("-Permission denied", "MIRROR")
	ts.adminWire().want("-MASTER is not supported, this server has no owner ids", "MASTER")
	m := ts.adminWire()
	m.want("+Starting mirroring", "MIRROR")
	m.want("+PONG", "PING") // its own commands are not shown to it
	w := ts.dial()
	mirrored := func(args ...string) string {
		var quoted []string
		for _, a := range args {
			quoted = append(quoted, fmt.Sprintf("%q", a))
		}
		return strings.Join(quoted, " ")
	}
	for _, tc := range []struct{ args, shown []string }{
		{[]string{"SET", "k", "v\r\n\x00"}, nil}, {[]string{"get", "k"}, nil}, {[]string{"DEL", "none"}, nil}, {[]string{"GET"}, nil}, {[]string{"NSNEW", "x"}, nil},
		{[]string{"CAS", "k", "w", "v"}, nil}, {[]string{"SET", "", ""}, nil},
		{[]string{"AUTH", "wrong secret"}, []string{"AUTH", "***"}}, {[]string{"AUTH", "a", "b", "c"}, []string{"AUTH", "***", "***", "***"}},
		{[]string{"auth", "secure", "challenge"}, nil}, {[]string{"AUTH", "SECURE", strings.Repeat("0", 40)}, []string{"AUTH", "SECURE", "***"}},
		{[]string{"AUTH", adminPassword}, []string{"AUTH", "***"}}, {[]string{"NSNEW", "ns"}, nil},
		{[]string{"NSSET", "ns", "password", "topsecret"}, []string{"NSSET", "ns", "password", "***"}},
		{[]string{"NSSET", "ns", "PASSWORD", "topsecret"}, []string{"NSSET", "ns", "PASSWORD", "***"}},
		{[]string{"NSSET", "ns", "password", "topsecret", "x"}, []string{"NSSET", "ns", "password", "***", "***"}},
		{[]string{"NSSET", "ns", "public", "0"}, nil},
		{[]string{"SELECT", "ns", "topsecret"}, []string{"SELECT", "ns", "***"}},
		{[]string{"SELECT", "ns", "secure", "topsecret"}, []string{"SELECT", "ns", "secure", "***"}},
		{[]string{"SELECT", "ns", "a", "b", "c"}, []string{"SELECT", "ns", "***", "***", "***"}},
	} {
		w.do(tc.args...)
		want := tc.shown
		if want == nil {
			want = tc.args
		}
		ns := "default"
		if strings.EqualFold(tc.args[0], "SELECT") {
			ns = "ns" // the first of them moves there
		}
		got := m.reply()
		if !strings.HasPrefix(got, "[:1") || !strings.HasSuffix(got, mirrored(want...)+"]") || !strings.Contains(got, fmt.Sprintf(" %q :", ns)) {
			t.Errorf("%q is mirrored as %s", tc.args, got)
		}
	}
	w.do("NONSENSE", "topsecret") // not a command: not shown
	w.do("PING")
	if got := m.reply(); !strings.HasSuffix(got, `"PING"]`) {
		t.Errorf("after an unknown command: %s", got)
	}
	// A mirroring connection may wait as well; what it waited for comes once.
	w.want("+OK", "SELECT", "default")
	m.reply()
	m.send("WAIT", "PING", "1800000")
	eventually(t, "the WAIT has arrived", func() bool { return ts.watch.any.Load() == 2 })
	w.want("+PONG", "PING")
	w.do("TIME")
	if got := m.reply(); got != "+PING" {
		t.Errorf("WAIT while mirroring: %s", got)
	}
	if got := m.reply(); !strings.HasSuffix(got, `"TIME"]`) {
		t.Errorf("after the WAIT: %s", got)
	}
}

// The changes of a key come in the order in which they took effect.
func TestMirrorOrder(t *testing.T) {
	ts := start(t, func(o *Options) { o.NoSync = true })
	m := ts.adminWire()
	m.want("+Starting mirroring", "MIRROR")
	const writers, each = 4, 250
	done := make(chan struct{}, writers)
	for i := range writers {
		w := ts.dial()
		go func() {
			for n := range each {
				w.do("SET", "k", fmt.Sprintf("%d of %d", n, i))
			}
			done <- struct{}{}
		}()
	}
	last := ""
	for range writers * each {
		v, err := m.in.Read()
		if err != nil {
			t.Fatal(err)
		}
		last = string(v.Array[5].Data)
	}
	for range writers {
		<-done
	}
	ts.dial().want(fmt.Sprintf("%q", last), "GET", "k")
}

// A mirror that does not read costs a bounded amount of memory and then its connection; nobody waits for it.
func TestSlowMirrorIsCutOff(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.NoSync = true })
	m := ts.adminWire()
	m.want("+Starting mirroring", "MIRROR")
	w := ts.dial()
	value := strings.Repeat("v", 1<<20)
	for i := range 64 {
		begun := time.Now()
		w.want(`"k"`, "SET", "k", fmt.Sprint(i)+value)
		if d := time.Since(begun); d > 10*time.Second {
			t.Errorf("a SET took %v", d)
		}
	}
	eventually(t, "the mirror is cut off", func() bool { return ts.watch.any.Load() == 0 && ts.Connections() == 1 })
	m.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := io.Copy(io.Discard, m.nc); err == nil && n >= 64<<20 {
		t.Errorf("the mirror got %d bytes", n)
	}
	w.want("+PONG", "PING")
}

// Messages do not tear replies that leave piece by piece.
func TestMirrorBetweenReplies(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.NoSync = true })
	m := ts.adminWire()
	value := strings.Repeat("x", 3<<20)
	m.want(`"big"`, "SET", "big", value)
	m.want("+Starting mirroring", "MIRROR")
	w := ts.dial()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				w.do("PING")
			}
		}
	}()
	for range 20 {
		m.send("GET", "big")
		for {
			v, err := m.in.Read()
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Array) == 4 && string(v.Array[3].Data) == "PING" {
				continue
			}
			if string(v.Data) != value {
				t.Fatalf("a value of %d bytes", len(v.Data))
			}
			break
		}
	}
	close(stop)
	<-done
}
