// Package systemd runs the units under a real systemd, which is PID 1 of a PID and mount namespace of its own.
package systemd

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"qsfs/test/harness"
)

//go:embed testdata/boot.sh
var bootScript string

// machine is a booted systemd with the project installed on it.
type machine struct {
	t     harness.TB
	image string
	outer *harness.Process // unshare, whose child is PID 1
	init  string           // PID 1's number outside
}

// stockTargets are the units that systemd and the default dependencies of services ask for.
var stockTargets = []string{
	"sysinit", "basic", "local-fs", "network-online", "multi-user", "shutdown", "umount", "final", "exit", "poweroff", "idle",
}

// boot installs the programs and units with `make install DESTDIR=` and starts a systemd that knows only them.
func boot(t harness.TB, root string) *machine {
	t.Helper()
	image := harness.TempDir(t)
	m := &machine{t: t, image: image}
	for _, dir := range []string{"units", "upper", "work", "log"} {
		m.mkdir(filepath.Join(image, dir))
	}
	install := exec.Command("make", "-s", "-C", root, "install", "DESTDIR="+filepath.Join(image, "root"))
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	installed, err := filepath.Glob(filepath.Join(image, "root/usr/lib/systemd/system/*"))
	if err != nil || len(installed) == 0 {
		t.Fatalf("make install wrote no units: %v", err)
	}
	for _, from := range installed {
		name := filepath.Base(from)
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatalf("read unit: %v", err)
		}
		m.write(filepath.Join(image, "units", name), string(text))
		if strings.HasSuffix(name, ".service") {
			// There is no journal here; what a unit says goes to a file.
			m.mkdir(filepath.Join(image, "units", name+".d"))
			m.write(filepath.Join(image, "units", name+".d", "log.conf"),
				"[Service]\nStandardOutput=append:/run/image/log/%n.log\nStandardError=append:/run/image/log/%n.log\n")
		}
	}
	for _, name := range stockTargets {
		m.write(filepath.Join(image, "units", name+".target"), "[Unit]\nDescription="+name+"\nDefaultDependencies=no\n")
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the units said:\n%s", m.logs())
		}
	})
	m.outer = harness.NewProcess(t, filepath.Join(image, "log"), "systemd",
		"unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--uts", "--ipc", "--cgroup",
		"bash", "-c", bootScript, "boot.sh", image)
	return m
}

// start boots PID 1 and waits until it answers.
func (m *machine) start() {
	m.t.Helper()
	m.outer.Start()
	harness.Eventually(m.t, 30*time.Second, "systemd to run", func() (bool, string) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", m.outer.Pid()))
		if err != nil || len(strings.Fields(string(b))) != 1 {
			return false, fmt.Sprintf("children of unshare: %q, %v", b, err)
		}
		m.init = strings.Fields(string(b))[0]
		out, _ := m.try("systemctl", "is-system-running")
		out = strings.TrimSpace(out)
		return out == "running" || out == "degraded", out
	})
}

// try runs a command in the machine.
func (m *machine) try(args ...string) (string, error) {
	cmd := exec.CommandContext(m.t.Context(), "nsenter", append([]string{"-t", m.init, "-a"}, args...)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run is try for what must work.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("%v: %v\n%s\n%s", args, err, out, m.logs())
	}
	return out
}

// show gives one property of a unit.
func (m *machine) show(unit, property string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("systemctl", "show", "--value", "-p", property, unit))
}

// logs gives the end of what each unit printed.
func (m *machine) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(m.image, "log", "*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		if len(text) > 4000 {
			text = text[len(text)-4000:]
		}
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(f), text)
	}
	return b.String()
}

func (m *machine) mkdir(dir string) {
	m.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatalf("make directory: %v", err)
	}
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatalf("write: %v", err)
	}
}
