package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qsfs/zdb/client"
)

func TestServeStopsOnSignals(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		n := newNode(t, "--namespace", "ns:secret", "--json")
		n.start()
		c := n.client(client.Options{Namespace: "ns", Password: "secret"})
		if _, err := c.Set(t.Context(), []byte("k"), []byte("v")); err != nil {
			t.Fatal(err)
		}
		if code := n.stop(s); code != 0 {
			t.Errorf("%v: exit code %d\n%s", s, code, n.log.String())
		}
		if strings.Contains(n.log.String(), "secret") || strings.Contains(n.log.String(), "root") {
			t.Errorf("the log shows passwords:\n%s", n.log.String())
		}
		n.start() // with the same namespace on the command line
		if v, err := c.Get(t.Context(), []byte("k")); err != nil || string(v) != "v" {
			t.Errorf("after the restart: %q, %v", v, err)
		}
	}
}

func TestServeNotifiesSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	states := make(chan string, 100)
	go func() {
		buf := make([]byte, 1000)
		for {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			states <- string(buf[:n])
		}
	}()
	n := newNode(t)
	n.start("NOTIFY_SOCKET="+path, "WATCHDOG_USEC=100000")
	wait := func(want string) {
		t.Helper()
		for deadline := time.After(10 * time.Second); ; {
			select {
			case got := <-states:
				if got == want {
					return
				}
			case <-deadline:
				t.Fatalf("systemd was not told %s", want)
			}
		}
	}
	wait("READY=1")
	wait("WATCHDOG=1")
	n.stop(syscall.SIGTERM)
	wait("STOPPING=1")
}

func TestServeFaults(t *testing.T) {
	n := newNode(t, "--namespace", "ns:secret")
	n.start()
	data, index := filepath.Join(n.dir, "data"), filepath.Join(n.dir, "index")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, keeps := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(keeps, ".namespaces.json"), []byte(`{"version":2,"namespaces":{"ns":{"keep_deleted":"30d"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args string
		code int
		text string
	}{
		{"", 2, "no command"},
		{"what", 2, "unknown command"},
		{"serve extra", 2, "unexpected argument"},
		{"serve --nonsense", 2, "unknown flag"},
		{"serve --mode hash", 2, "want user, seq or mixed"},
		{"serve --sync=sometimes --segment-size 1 --ballast 1X --listen a:b:c", 2, "--sync"},
		{"serve --admin a --admin-file b", 2, "admin"},
		{"serve --admin-file " + empty, 2, "empty"},
		{"serve --admin-file /nonexistent/file", 2, "no such file"},
		{"serve --protect", 2, "admin password"},
		{"serve --listen 127.0.0.1:0 --data " + data + " --index " + index, 8, "in use"},
		{"serve --listen " + n.address + " --data " + other + "/d --index " + other + "/i", 1, "address already in use"},
		{"serve --listen 127.0.0.1:0 --data " + other + "/d --index " + other + "/i --namespace a/b", 2, "a/b"},
		{"serve --listen 127.0.0.1:0 --data " + keeps + " --index " + keeps + "/i", 2, "keep_deleted needs an admin password: ns keep"},
		{"stat --address 127.0.0.1:1", exitUnreachable, "refused"},
		{"stat --address nowhere", 2, "nowhere"},
		{"stat --address " + n.address + " none", exitUsage, "none"},
	} {
		out, err := program(strings.Fields(tc.args)...).CombinedOutput()
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		if code != tc.code || !strings.Contains(string(out), tc.text) {
			t.Errorf("zdb %s: exit %d, want %d with %q:\n%s", tc.args, code, tc.code, tc.text, out)
		}
	}
	out, err := program("stat", "--address", n.address).Output()
	if err != nil || !strings.Contains(string(out), "ns ") || !strings.Contains(string(out), "password, private") {
		t.Errorf("zdb stat: %v\n%s", err, out)
	}
	out, err = program("stat", "--address", n.address, "--json", "ns").Output()
	if err != nil || !strings.Contains(string(out), `"incarnation"`) {
		t.Errorf("zdb stat --json: %v\n%s", err, out)
	}
}

// The ordinary command line client works.
func TestRedisCLI(t *testing.T) {
	path, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Fatal("redis-cli is missing; make test-tools installs it")
	}
	n := newNode(t)
	n.start()
	host, port, _ := net.SplitHostPort(n.address)
	cli := exec.Command(path, "-h", host, "-p", port)
	cli.Stdin = strings.NewReader("AUTH root\nNSNEW ns\nSELECT ns\nSET key value\nGET key\nMGET key none\nEXISTS key\nDEL key\nGET key\nNSLIST\n")
	out, err := cli.CombinedOutput()
	if got, want := string(out), "OK\nOK\nOK\nkey\nvalue\nvalue\n\n1\nOK\n\ndefault\nns\n"; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "7": 7, "7B": 7, "1K": 1 << 10, "1KiB": 1 << 10, "64MiB": 64 << 20, "2G": 2 << 30, "1TiB": 1 << 40,
		"": -1, "K": -1, "-1": -1, "1X": -1, "1MB": -1, "1KK": -1, "9999999999999T": -1,
	} {
		got, err := parseSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
}
