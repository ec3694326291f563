package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/config"
)

const envMain = "QSFS_TEST_MAIN"

// TestMain lets this binary be the program.
func TestMain(m *testing.M) {
	if os.Getenv(envMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

type result struct {
	code   exit.Code
	stdout string
	stderr string
}

func run(t *testing.T, args ...string) result {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), envMain+"=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{exit.Code(cmd.ProcessState.ExitCode()), out.String(), errs.String()}
}

func initArgs(base string, more ...string) []string {
	return append([]string{
		"init", "--config", base + "/etc/qsfs.toml", "--key-file", base + "/etc/key", "--state", base + "/state",
		"--mount", base + "/mnt", "--socket", base + "/zstor.sock",
		"--group", "a=10.0.0.1:9900,10.0.0.2:9900", "--group", "b=10.0.1.1:9900,10.0.1.2:9900", "--group", "c=10.0.2.1:9900,10.0.2.2:9900",
	}, more...)
}

// A configuration that names a key is not given another one.
func TestInitKeyIsNamed(t *testing.T) {
	base := t.TempDir()
	if r := run(t, initArgs(base)...); r.code != exit.OK {
		t.Fatalf("code %d: %s", r.code, r.stderr)
	}
	if err := os.Rename(base+"/etc/key", base+"/moved"); err != nil {
		t.Fatal(err)
	}
	r := run(t, "init", "--config", base+"/etc/qsfs.toml")
	if r.code != exit.Key || !strings.Contains(r.stderr, "recovery kit") {
		t.Errorf("code %d: %s", r.code, r.stderr)
	}
	if _, err := os.Stat(base + "/etc/key"); !os.IsNotExist(err) {
		t.Errorf("a second key was made: %v", err)
	}
}

func TestInit(t *testing.T) {
	base := t.TempDir()
	pw := filepath.Join(base, "pw")
	if err := os.WriteFile(pw, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, initArgs(base, "--password-file", pw, "--fallback", "3-of-4")...)
	if r.code != exit.OK {
		t.Fatalf("code %d: %s", r.code, r.stderr)
	}
	cfg, err := config.Load(base + "/etc/qsfs.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Nodes()) != 6 || len(cfg.Meta.Backends) != 6 || cfg.Meta.WriteQuorum != 4 || cfg.QSFS.Fallback == nil || cfg.QSFS.MinSecrecy != 3 {
		t.Errorf("configuration %+v", cfg)
	}
	if cfg.Nodes()[0].Password.Reveal() != "hush" || len(cfg.Warnings) != 0 {
		t.Errorf("password or mode is wrong, warnings %q", cfg.Warnings)
	}
	if _, check, err := cfg.CheckKey(); err != nil || cfg.QSFS.KeyCheck == "" || check != cfg.QSFS.KeyCheck {
		t.Errorf("key check %q, configured %q: %v", check, cfg.QSFS.KeyCheck, err)
	}
	key, err := os.ReadFile(base + "/etc/key")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(base + "/etc/qsfs.toml")
	if err != nil {
		t.Fatal(err)
	}
	// The kit holds both, whole.
	if !strings.Contains(r.stdout, string(key)) || !strings.Contains(r.stdout, string(text)) || !strings.Contains(r.stdout, "zdbfs recover") {
		t.Error("the recovery kit is not complete")
	}
	if strings.Contains(r.stderr, "hush") {
		t.Error("the password is in the talk")
	}

	// Nothing is ever replaced.
	for _, args := range [][]string{initArgs(base), {"init", "--config", base + "/etc/qsfs.toml"}} {
		r := run(t, args...)
		if r.code == exit.OK {
			t.Errorf("a second init: code %d, %s", r.code, r.stderr)
		}
	}
	if now, _ := os.ReadFile(base + "/etc/key"); !bytes.Equal(now, key) {
		t.Error("the key was replaced")
	}
}

func TestInitForAConfigurationThatIsThere(t *testing.T) {
	base := t.TempDir()
	if r := run(t, initArgs(base)...); r.code != exit.OK {
		t.Fatal(r.stderr)
	}
	if err := os.Remove(base + "/etc/key"); err != nil {
		t.Fatal(err)
	}
	// Written by hand: it names no key.
	path := base + "/etc/qsfs.toml"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, regexp.MustCompile("(?m)^key_check.*\n").ReplaceAll(text, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	kit := base + "/kit"
	r := run(t, "init", "--config", path, "--kit", kit)
	if r.code != exit.OK || r.stdout != "" || !strings.Contains(r.stderr, "key_check = ") {
		t.Fatalf("code %d, %q, %s", r.code, r.stdout, r.stderr)
	}
	key, err := os.ReadFile(base + "/etc/key")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(kit)
	if err != nil || !bytes.Contains(b, key) {
		t.Errorf("kit file: %v", err)
	}
	if fi, err := os.Stat(kit); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode of the kit: %v, %v", fi.Mode(), err)
	}
}

// TestRefusals: bad input gets its code, a message on the standard error, and nothing is made.
func TestRefusals(t *testing.T) {
	base := t.TempDir()
	if r := run(t, initArgs(base)...); r.code != exit.OK {
		t.Fatal(r.stderr)
	}
	conf := base + "/etc/qsfs.toml"
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	bad := base + "/bad.toml"
	if err := os.WriteFile(bad, append([]byte("minimal_chards = 3\n"), bytes.Replace(text, []byte("expected_shards = 6"), []byte("expected_shards = 9"), 1)...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code exit.Code
		want []string
	}{
		{"no command", nil, exit.Usage, []string{"no command"}},
		{"unknown command", []string{"mont"}, exit.Usage, []string{"mont"}},
		{"unknown flag", []string{"mount", "--fast"}, exit.Usage, []string{"--fast"}},
		{"argument", []string{"status", "x"}, exit.Usage, []string{"x"}},
		{"no configuration", []string{"mount", "--config", base + "/none"}, exit.Usage, []string{"no such configuration"}},
		{"two faults at once", []string{"mount", "--config", bad}, exit.Usage, []string{"bad.toml:1", "minimal_chards", "expected_shards"}},
		{"no mount runs", []string{"sync", "--config", conf}, exit.Unreachable, []string{"no zdbfs mount is running"}},
		{"nothing to evict", []string{"evict", "--config", conf}, exit.Unreachable, []string{"no zdbfs mount is running"}},
		{"log level", []string{"status", "--config", conf, "--log-level", "loud"}, exit.Usage, []string{"loud"}},
		{"too few nodes for the policy", []string{"init", "--config", base + "/n.toml", "--key-file", base + "/n.key", "--group", "a=h:1,h2:1"}, exit.Usage, []string{"expected_shards"}},
		{"salvage of nothing", []string{"salvage", "--config", conf}, exit.Usage, []string{"put aside"}},
	} {
		r := run(t, c.args...)
		if r.code != c.code {
			t.Errorf("%s: code %d, want %d: %s", c.name, r.code, c.code, r.stderr)
		}
		for _, w := range c.want {
			if !strings.Contains(r.stderr, w) {
				t.Errorf("%s: %q is not in %q", c.name, w, r.stderr)
			}
		}
	}
	for _, f := range []string{"n.toml", "n.key"} {
		if _, err := os.Stat(filepath.Join(base, f)); err == nil {
			t.Errorf("%s was made by a refused command", f)
		}
	}
}

func TestStatusWithNothingRunning(t *testing.T) {
	base := t.TempDir()
	if r := run(t, initArgs(base)...); r.code != exit.OK {
		t.Fatal(r.stderr)
	}
	conf := base + "/etc/qsfs.toml"
	r := run(t, "status", "--config", conf)
	if r.code != exit.Unsafe || !strings.Contains(r.stdout, "Is my data safe right now?  Unknown") || r.stderr != "" {
		t.Errorf("code %d\n%s\n%s", r.code, r.stdout, r.stderr)
	}
	r = run(t, "status", "--config", conf, "--json")
	var st control.Status
	if err := json.Unmarshal([]byte(r.stdout), &st); err != nil || st.Safe || r.code != exit.Unsafe {
		t.Errorf("code %d, %v, %+v", r.code, err, st)
	}
}
