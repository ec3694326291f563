package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"qsfs/zdb/client"
)

func passwd(t *testing.T, line string, args ...string) (out string, code int) {
	t.Helper()
	cmd := program(append([]string{"passwd", "--stdin"}, args...)...)
	cmd.Stdin = strings.NewReader(line)
	raw, err := cmd.CombinedOutput()
	return string(raw), exitOf(err)
}

func TestPasswd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "admin")
	if out, code := passwd(t, "the boss\n", "--admin-file", file); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	raw, err := os.ReadFile(file)
	if info, _ := os.Stat(file); err != nil || strings.Contains(string(raw), "boss") || info.Mode().Perm() != 0o600 {
		t.Errorf("the admin file: %v, %v\n%s", err, info.Mode(), raw)
	}
	n := newNode(t, "--namespace", "ns:first")
	n.flags = slices.DeleteFunc(n.flags, func(a string) bool { return a == "--admin" || a == "root" })
	n.flags = append(n.flags, "--admin-file", file)
	n.start()
	opens := func(password string) error {
		c, err := client.Dial(t.Context(), client.Options{Address: n.address, Namespace: "ns", Password: client.Secret(password)})
		if err == nil {
			c.Close()
		}
		return err
	}
	data := filepath.Join(n.dir, "data")
	for _, tc := range []struct {
		line string
		args []string
		code int
		text string
	}{
		{"second\n", []string{"ns", "--address", n.address, "--admin", "the boss", "--json"}, 0, `"namespace ns"`},
		{"third\n", []string{"ns", "--address", n.address, "--admin", "wrong"}, exitPassword, "denied"},
		{"third\n", []string{"ns", "--data", data}, exitInUse, "in use"},
		{"*\n", []string{"ns", "--address", n.address, "--admin", "the boss"}, exitUsage, "--clear"},
		{"\n", []string{"ns", "--address", n.address}, exitUsage, "no password"},
		{"x\n", nil, exitUsage, "want one namespace"},
		{"x\n", []string{"none", "--address", n.address, "--admin", "the boss"}, exitUsage, "not found"},
	} {
		if out, code := passwd(t, tc.line, tc.args...); code != tc.code || !strings.Contains(out, tc.text) {
			t.Errorf("%q: exit %d, want %d with %q:\n%s", tc.args, code, tc.code, tc.text, out)
		}
	}
	if err := errors.Join(opens("second")); err != nil || !errors.Is(opens("first"), client.ErrDenied) {
		t.Errorf("after the change: %v", err)
	}
	n.stop(syscall.SIGTERM)
	for _, tc := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"ns", "--data", data}, 0, "changed"},
		{[]string{"none", "--data", data}, 1, "no namespace"},
		{[]string{"default", "--data", data}, 1, "--protect"},
		{[]string{"ns", "--data", t.TempDir()}, 1, "not the data directory"},
	} {
		if out, code := passwd(t, "offline\n", tc.args...); code != tc.code || !strings.Contains(out, tc.text) {
			t.Errorf("%q: exit %d, want %d with %q:\n%s", tc.args, code, tc.code, tc.text, out)
		}
	}
	n.flags = slices.DeleteFunc(n.flags, func(a string) bool { return a == "--namespace" || a == "ns:first" })
	n.start()
	if err := opens("offline"); err != nil || !errors.Is(opens("second"), client.ErrDenied) {
		t.Errorf("after the change offline: %v", err)
	}
}
