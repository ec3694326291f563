package systemd

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qsfs/test/harness"
	"qsfs/zstor/config"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m.Run)) }

// TestUnits starts the whole installation as an administrator would, kills each daemon while it works, and stops it.
func TestUnits(t *testing.T) {
	m := boot(t, "../..")
	configure(t, m)
	m.start()

	m.run("systemctl", "start", "zdb@0", "zdb@1", "zdb@2", "zdb@3", "zdb@4", "zdb@5")
	m.run("systemctl", "start", "qsfs.target")
	for _, unit := range []string{"qsfs-zstor", "qsfs-zdbfs"} {
		if got := m.show(unit, "ActiveState"); got != "active" {
			t.Fatalf("%s is %s after the target started\n%s", unit, got, m.logs())
		}
	}
	sum := m.writeFile(t, "before", 3<<20)

	for _, unit := range []string{"qsfs-zdbfs", "qsfs-zstor", "zdb@2"} {
		old := m.show(unit, "MainPID")
		m.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", unit)
		m.waitRestarted(t, unit, old)
		m.wantFile(t, "before", sum)
	}
	after := m.writeFile(t, "after", 1<<20)

	// The stop flushes, ships and leaves nothing: the daemons end by themselves within their time.
	started := time.Now()
	m.run("systemctl", "stop", "qsfs.target")
	harness.Eventually(t, 2*time.Minute, "both daemons to end", func() (bool, string) {
		state := m.show("qsfs-zdbfs", "ActiveState") + " " + m.show("qsfs-zstor", "ActiveState")
		return state == "inactive inactive", state
	})
	t.Logf("the stop took %v", time.Since(started).Round(10*time.Millisecond))
	for _, unit := range []string{"qsfs-zdbfs", "qsfs-zstor"} {
		if result, status := m.show(unit, "Result"), m.show(unit, "ExecMainStatus"); result != "success" || status != "0" {
			t.Errorf("%s ended with result %s, status %s; want success, 0\n%s", unit, result, status, m.logs())
		}
	}
	if out, err := m.try("mountpoint", "-q", "/mnt/qsfs"); err == nil {
		t.Errorf("/mnt/qsfs is still mounted after the stop: %s", out)
	}

	m.run("systemctl", "start", "qsfs.target")
	m.wantFile(t, "before", sum)
	m.wantFile(t, "after", after)
	m.run("systemctl", "stop", "qsfs.target", "zdb@0", "zdb@1", "zdb@2", "zdb@3", "zdb@4", "zdb@5")
}

// TestUnitsSayWhatIsWrong: a fault that a restart cannot mend ends the unit instead of looping.
func TestUnitsSayWhatIsWrong(t *testing.T) {
	m := boot(t, "../..")
	configure(t, m)
	key := filepath.Join(m.image, "root/etc/qsfs/key")
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	m.start()
	if out, err := m.try("systemctl", "start", "qsfs-zdbfs"); err == nil {
		t.Fatalf("the mount started with a key that its group can read: %s", out)
	}
	for _, unit := range []string{"qsfs-zdbfs", "qsfs-zstor"} {
		harness.Eventually(t, 20*time.Second, unit+" to give up", func() (bool, string) {
			state := m.show(unit, "ActiveState")
			return state == "failed", state
		})
		if restarts := m.show(unit, "NRestarts"); restarts != "0" {
			t.Errorf("%s was restarted %s times; a key with wrong permissions does not heal", unit, restarts)
		}
		if status := m.show(unit, "ExecMainStatus"); status != "3" {
			t.Errorf("%s exit status %s, want 3 (key file)\n%s", unit, status, m.logs())
		}
	}
}

// configure writes what an administrator writes: settings of six nodes, the configuration and a key.
func configure(t *testing.T, m *machine) {
	t.Helper()
	etc := filepath.Join(m.image, "root/etc/qsfs")
	var groups, meta strings.Builder
	for i := range 6 {
		address, group := harness.FreeAddress(t), string(rune('a'+i/2))
		m.write(filepath.Join(etc, fmt.Sprintf("zdb-%d.env", i)), fmt.Sprintf(
			"ZDB_LISTEN=%s\nZDB_OPTIONS=--namespace data:secret%d --namespace meta:secret%d\n", address, i, i))
		if i%2 == 0 {
			fmt.Fprintf(&groups, "[[groups]]\nname = %q\n", group)
		}
		fmt.Fprintf(&groups, "[[groups.backends]]\naddress = %q\nnamespace = \"data\"\npassword = \"secret%d\"\n", address, i)
		fmt.Fprintf(&meta, "[[meta.config.backends]]\naddress = %q\nnamespace = \"meta\"\npassword = \"secret%d\"\ngroup = %q\n",
			address, i, group)
	}
	check, err := config.GenerateKey(filepath.Join(etc, "key"))
	if err != nil {
		t.Fatal(err)
	}
	m.write(filepath.Join(etc, "qsfs.toml"), "minimal_shards = 4\nexpected_shards = 6\nredundant_groups = 1\nredundant_nodes = 0\n"+
		"socket = \"/run/qsfs/zstor.sock\"\n"+groups.String()+"[meta]\ntype = \"zdb\"\n[meta.config]\nprefix = \"qsfs\"\n"+meta.String()+
		fmt.Sprintf("[qsfs]\nkey_check = %q\nstate = \"/var/lib/qsfs\"\nmount = \"/mnt/qsfs\"\nkey_file = \"/etc/qsfs/key\"\nsync_interval = \"500ms\"\n"+
			"segment_size_data = \"1MiB\"\ncache_size = \"1GiB\"\n", check))
}

// writeFile writes random bytes into the mount, fsyncs them and gives their sum.
func (m *machine) writeFile(t *testing.T, name string, size int) [32]byte {
	t.Helper()
	content := make([]byte, size)
	rng := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", name))))
	_, _ = rng.Read(content)
	m.write(filepath.Join(m.image, name), string(content))
	m.run("dd", "if=/run/image/"+name, "of=/mnt/qsfs/"+name, "bs=128k", "conv=fsync", "status=none")
	return sha256.Sum256(content)
}

// wantFile compares a file of the mount with the sum it was written with.
func (m *machine) wantFile(t *testing.T, name string, sum [32]byte) {
	t.Helper()
	got, _, _ := strings.Cut(m.run("sha256sum", "/mnt/qsfs/"+name), " ")
	if want := fmt.Sprintf("%x", sum); got != want {
		t.Errorf("sha256 of %s: got %s, want %s", name, got, want)
	}
}

// waitRestarted waits until the unit runs again as another process and the mount answers.
func (m *machine) waitRestarted(t *testing.T, unit, old string) {
	t.Helper()
	harness.Eventually(t, time.Minute, unit+" to be back", func() (bool, string) {
		state, pid := m.show(unit, "ActiveState"), m.show(unit, "MainPID")
		if state != "active" || pid == old || pid == "0" {
			return false, state + " " + pid + " (was " + old + ")"
		}
		out, err := m.try("stat", "-f", "/mnt/qsfs")
		return err == nil, out
	})
	if restarts := m.show(unit, "NRestarts"); restarts == "0" {
		t.Errorf("%s: NRestarts is 0 after a kill", unit)
	}
}
