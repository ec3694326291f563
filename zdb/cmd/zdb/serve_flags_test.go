package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"qsfs/zdb/client"
	"qsfs/zdb/server"
)

func parseServe(args ...string) (serveFlags, server.Options, error) {
	var f serveFlags
	fl := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	f.register(fl)
	if err := fl.Parse(args); err != nil {
		return f, server.Options{}, err
	}
	o, err := f.options()
	return f, o, err
}

// Every flag of the original server means what it meant, or is refused with what to do instead.
func TestServeFlagsOfTheOriginal(t *testing.T) {
	for _, tc := range []struct {
		args  string
		check func(f serveFlags, o server.Options) bool
	}{
		{"--data /d --index /i", func(_ serveFlags, o server.Options) bool { return o.DataDir == "/d" && o.IndexDir == "/i" }},
		{"--mode user", func(_ serveFlags, o server.Options) bool { return o.Mode == server.ModeUser }},
		{"--datasize 1.5M", func(_ serveFlags, o server.Options) bool { return o.SegmentSize == 3<<19 }},
		{"--datasize 530432", func(_ serveFlags, o server.Options) bool { return o.SegmentSize == 530432 }},
		{"", func(f serveFlags, _ server.Options) bool { return slices.Equal(f.listen, []string{"127.0.0.1:9900"}) }},
		{"--listen ::", func(f serveFlags, _ server.Options) bool { return slices.Equal(f.listen, []string{"[::]:9900"}) }},
		{"--listen 0.0.0.0 --port 7", func(f serveFlags, _ server.Options) bool { return slices.Equal(f.listen, []string{"0.0.0.0:7"}) }},
		{"--listen tcp:h --listen tcp:h:9", func(f serveFlags, _ server.Options) bool {
			return slices.Equal(f.listen, []string{"tcp:h:9900", "tcp:h:9"})
		}},
		{"--socket /s", func(f serveFlags, _ server.Options) bool { return slices.Equal(f.listen, []string{"unix:/s"}) }},
		{"--socket /s --dualnet --port 8", func(f serveFlags, _ server.Options) bool {
			return slices.Equal(f.listen, []string{"127.0.0.1:8", "unix:/s"})
		}},
		{"--admin pw --protect", func(_ serveFlags, o server.Options) bool { return o.Admin == "pw" && o.Protect }},
		{"--maxsize 1000", func(_ serveFlags, o server.Options) bool { return o.MaxSize == 1000 }},
		{"--sync", func(_ serveFlags, o server.Options) bool { return !o.NoSync }},
		{"--sync=none", func(_ serveFlags, o server.Options) bool { return o.NoSync }},
		{"--synctime 10", func(_ serveFlags, o server.Options) bool { return o.NoSync && o.FlushInterval == 10*time.Second }},
		{"--secure", func(serveFlags, server.Options) bool { return true }},
		{"--rotate 60", func(_ serveFlags, o server.Options) bool { return o.Rotate == time.Minute }},
		{"--logfile /l", func(f serveFlags, _ server.Options) bool { return f.logFile == "/l" }},
		{"--verbose", func(f serveFlags, _ server.Options) bool { return f.verbose }},
	} {
		f, o, err := parseServe(strings.Fields(tc.args)...)
		if err != nil || !tc.check(f, o) {
			t.Errorf("%q: %v, listen %q, %+v", tc.args, err, f.listen, o)
		}
	}
	for args, want := range map[string]string{
		"--background": "systemd", "--dump": "zdb dump", "--dualnet": "--socket", "--datasize 1000": "less than",
		"--datasize 5G": "more than", "--sync --synctime 3": "exclude", "--port 70000": "not a port", "--rotate -1": "less than",
		"--tls-cert c": "belong together", "--tls-client-ca c": "needs --tls-cert", "--listen tls:h:1": "needs --tls-cert",
		"--metrics nowhere": "--metrics", "--idle-timeout -1s": "negative",
	} {
		if _, _, err := parseServe(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", args, err, want)
		}
	}
}

// A hang-up makes the server read its admin file anew and open its log anew, and go on.
func TestServeReload(t *testing.T) {
	dir := t.TempDir()
	file, log := filepath.Join(dir, "admin"), filepath.Join(dir, "log")
	hash, err := server.HashPassword("first")
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(hash)
	n := newNode(t)
	n.flags = slices.DeleteFunc(n.flags, func(a string) bool { return a == "--admin" || a == "root" })
	n.flags = append(n.flags, "--admin-file", file, "--logfile", log)
	n.start()
	login := func(password string) error {
		c, err := client.Dial(t.Context(), client.Options{Address: n.address, Admin: client.Secret(password)})
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := login("first"); err != nil {
		t.Fatal(err)
	}
	write("second")
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for login("second") != nil && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if err := login("first"); !errors.Is(err, client.ErrDenied) {
		t.Errorf("the old password after the reload: %v", err)
	}
	if code := n.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	old, err := os.ReadFile(log + ".1")
	if err != nil || !strings.Contains(string(old), "listening") {
		t.Errorf("log before the hang-up: %v\n%s", err, old)
	}
	fresh, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(fresh), "stopped") {
		t.Errorf("log after the hang-up: %v\n%s", err, fresh)
	}
}

func TestServeMetrics(t *testing.T) {
	n := newNode(t, "--metrics", "127.0.0.1:0")
	n.start()
	_, address, ok := strings.Cut(n.log.String(), "msg=metrics address=")
	if !ok {
		t.Fatalf("no address in the log:\n%s", n.log.String())
	}
	address, _, _ = strings.Cut(address, "\n")
	for path, code := range map[string]int{"/metrics": 200, "/": 404} {
		r, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != code || strings.Contains(string(body), "zdb_connections ") != (code == 200) {
			t.Errorf("%s: %v, %v\n%.300s", path, r.Status, err, body)
		}
	}
	if code := n.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, n.log.String())
	}
}
