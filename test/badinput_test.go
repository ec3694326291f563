package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/test/harness"
	"qsfs/zstor/config"
)

// Exit codes that the README documents.
const (
	codeUsage       = 2
	codeKey         = 3
	codeMountPoint  = 4
	codeUnreachable = 5
	codePassword    = 6
	codeDamaged     = 7
	codeInUse       = 8
	codeStale       = 9
)

// wantRefusal checks that a command ended with the code and one clear line.
func wantRefusal(t *testing.T, what string, r harness.Result, code int, pattern string) {
	t.Helper()
	if r.Code != code {
		t.Errorf("%s: exit code %d, want %d\n%s%s", what, r.Code, code, r.Stdout, r.Stderr)
		return
	}
	if !regexp.MustCompile("(?i)" + pattern).MatchString(r.Stderr) {
		t.Errorf("%s: it does not say %q:\n%s", what, pattern, r.Stderr)
	}
	// Log lines of a daemon carry a level; a line for the user does not. A configuration has one for each fault.
	told := 0
	for line := range strings.Lines(r.Stderr) {
		if !strings.Contains(line, " level=") && !strings.HasPrefix(line, "claim:") {
			told++
		}
	}
	if told != 1 && code != codeUsage {
		t.Errorf("%s: it takes %d lines to say so:\n%s", what, told, r.Stderr)
	}
	if strings.Contains(r.Stderr, "goroutine ") || strings.Contains(r.Stderr, "panic") {
		t.Errorf("%s: a stack trace is no message:\n%s", what, r.Stderr)
	}
}

// TestBadConfiguration: nothing needs to run to find these; both daemons refuse alike.
func TestBadConfiguration(t *testing.T) {
	c := harness.New(t, harness.Options{})
	f := c.Front
	good, err := os.ReadFile(f.Config)
	if err != nil {
		t.Fatal(err)
	}
	change := func(from, to string) string {
		if !strings.Contains(string(good), from) {
			t.Fatalf("the configuration has no %q", from)
		}
		return strings.Replace(string(good), from, to, 1)
	}
	for _, tc := range []struct{ name, config, pattern string }{
		{"unknown key", "unknown_thing = 1\n" + string(good), `:1: .*unknown_thing`},
		{"unknown key in [qsfs]", change("[qsfs]\n", "[qsfs]\nsync_intervall = \"1s\"\n"), `sync_intervall`},
		{"not TOML", "minimal_shards = = 4\n", `TOML`},
		{"n > nodes", change("expected_shards = 6", "expected_shards = 7"), `expected_shards`},
		{"k >= n", change("minimal_shards = 4", "minimal_shards = 6"), `shards`},
		{"k = 1", change("minimal_shards = 4", "minimal_shards = 1"), `minimal_shards`},
		{"groups that cannot be lost", change("redundant_groups = 1", "redundant_groups = 2"), `redundant_groups`},
		{"metadata quorum", fourMetaNodes(string(good)), `meta`},
		{"min_secrecy above the fallback", change("min_secrecy = 3", "min_secrecy = 4"), `min_secrecy`},
		{"wrong type", change("redundant_nodes = 0", "redundant_nodes = \"none\""), `redundant_nodes`},
	} {
		if err := os.WriteFile(f.Config, []byte(tc.config), 0o600); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, "zdbfs: "+tc.name, f.Command(20*time.Second, "zdbfs", "mount"), codeUsage, tc.pattern)
		wantRefusal(t, "zstor: "+tc.name, f.Command(20*time.Second, "zstor", "daemon"), codeUsage, tc.pattern)
	}
	if entries, err := os.ReadDir(f.State); err != nil || len(entries) != 0 {
		t.Errorf("a refused configuration left %d entries in the state directory, %v", len(entries), err)
	}
}

// fourMetaNodes leaves only the first four metadata nodes: two groups of two, or a lost group stops every takeover.
func fourMetaNodes(config string) string {
	parts := strings.Split(config, "[[meta.config.backends]]")
	tail := parts[len(parts)-1]
	return strings.Join(parts[:5], "[[meta.config.backends]]") + tail[strings.Index(tail, "[qsfs]"):]
}

func TestBadKey(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	f := c.Front
	writeSynced(t, f.Path("file"), []byte("content"))
	f.Ship(shipLimit)
	f.Down()
	key, err := os.ReadFile(f.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	both := func(what, pattern string) {
		t.Helper()
		wantRefusal(t, "zstor, "+what, f.Command(30*time.Second, "zstor", "daemon"), codeKey, pattern)
		wantRefusal(t, "zdbfs, "+what, f.Command(30*time.Second, "zdbfs", "mount"), codeKey, pattern)
	}
	if err := os.Chmod(f.KeyFile, 0o640); err != nil {
		t.Fatal(err)
	}
	both("key that its group can read", `chmod|0640|others|group`)
	if err := os.Remove(f.KeyFile); err != nil {
		t.Fatal(err)
	}
	both("no key file", `key`)
	if err := os.WriteFile(f.KeyFile, []byte("not a key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	both("damaged key file", `key`)
	if err := os.Remove(f.KeyFile); err != nil {
		t.Fatal(err)
	}
	if _, err := config.GenerateKey(f.KeyFile); err != nil {
		t.Fatal(err)
	}
	// Another key is a good key file; only the records tell that it is the wrong one.
	r := f.Command(30*time.Second, "zstor", "daemon")
	wantRefusal(t, "another key", r, codeKey, `key`)

	if err := os.WriteFile(f.KeyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	f.Up()
	if b, err := os.ReadFile(f.Path("file")); err != nil || string(b) != "content" {
		t.Errorf("with the right key again: %q, %v", b, err)
	}
}

func TestBadMountPoint(t *testing.T) {
	c := harness.New(t, harness.Options{})
	c.StartNodes()
	f := c.Front
	f.UpZstor()
	occupied := filepath.Join(f.Mountpoint, "somebody's file")
	if err := os.WriteFile(occupied, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "not empty", f.Command(30*time.Second, "zdbfs", "mount"), codeMountPoint, `empty`)
	if err := os.Remove(occupied); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(harness.TempDir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "a file", f.Command(30*time.Second, "zdbfs", "mount", "--mount", file), codeMountPoint, `director`)

	// A mount left behind by a kill is no obstacle.
	f.Mount()
	writeSynced(t, f.Path("file"), []byte("content"))
	f.Zdbfs.Kill9()
	if _, err := os.Stat(f.Mountpoint); err == nil {
		t.Error("the mount is not stale: this proves nothing")
	}
	f.Mount()
	if b, err := os.ReadFile(f.Path("file")); err != nil || string(b) != "content" {
		t.Errorf("over a stale mount: %q, %v", b, err)
	}

	// Two mounts of one state directory, and two daemons.
	elsewhere := harness.TempDir(t)
	wantRefusal(t, "second mount of the state", f.Command(30*time.Second, "zdbfs", "mount", "--mount", elsewhere), codeInUse, `use|lock|already`)
	wantRefusal(t, "second zstor on the state", f.Command(30*time.Second, "zstor", "daemon"), codeInUse, `use|lock|already|runs`)
	if err := trySynced(f.Path("file"), []byte("still mine")); err != nil {
		t.Errorf("the first mount after the second was refused: %v", err)
	}
	// Another filesystem on the mount point.
	f.Unmount()
	if err := unix.Mount("tmpfs", f.Mountpoint, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	r := f.Command(30*time.Second, "zdbfs", "mount")
	if err := unix.Unmount(f.Mountpoint, 0); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "busy mount point", r, codeMountPoint, `mount`)
}

func TestBadNodes(t *testing.T) {
	c := harness.New(t, harness.Options{})
	f := c.Front
	// Nobody listens.
	f.UpZstor()
	wantRefusal(t, "first mount, no node", f.Command(time.Minute, "zdbfs", "mount"), codeUnreachable, `node`)
	wantRefusal(t, "recover, no node", f.Command(time.Minute, "zdbfs", "recover"), codeUnreachable, `node`)
	f.Zstor.Stop(time.Minute)

	c.StartNodes()
	for _, n := range c.Nodes {
		n.Password += " and a mistake"
	}
	f.Configure()
	wantRefusal(t, "wrong node password", f.Command(time.Minute, "zstor", "daemon"), codePassword, `password`)
	for _, n := range c.Nodes {
		n.Password = strings.TrimSuffix(n.Password, " and a mistake")
	}
	f.Configure()
	f.Up()
	writeSynced(t, f.Path("file"), []byte("content"))
	f.Ship(shipLimit)

	// A mount works on local data while no node answers, and says that it is not verified.
	f.Down()
	for _, n := range c.Nodes {
		n.Kill9()
	}
	f.Up()
	if b, err := os.ReadFile(f.Path("file")); err != nil || string(b) != "content" {
		t.Errorf("without any node: %q, %v", b, err)
	}
	if s := f.MountStatus(); s.Safe || s.Mount.Verdict == "verified" {
		t.Errorf("without any node the status says %q, verdict %q", s.Answer, s.Mount.Verdict)
	}
	for _, n := range c.Nodes {
		n.Up()
	}
	f.WaitSafe(shipLimit)
}

// TestDamagedRecords flips records on the metadata nodes: on one of them it is a bad answer among good ones, on all of them a
// recovery says that they are damaged, and touches nothing.
func TestDamagedRecords(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	f := c.Front
	w := newWriting(t, f.Path(), 61)
	w.start()
	w.waitAcks(50, time.Minute)
	if err := w.pause(); err != nil {
		t.Fatal(err)
	}
	f.Ship(shipLimit)
	f.Down()
	damageRecords(t, c.Nodes[0])
	second := c.NewFront("second", "", "")
	second.Recover(shipLimit)
	w.check(second.Path())
	second.Ship(shipLimit)
	second.Kill9()

	for _, n := range c.Nodes {
		damageRecords(t, n)
	}
	third := c.NewFront("third", "", "")
	third.UpZstor()
	wantRefusal(t, "recover from damaged records", third.Command(time.Minute, "zdbfs", "recover"), codeDamaged, `damaged|verif`)
}

// damageRecords flips a bit in every record of a node, but not in its epoch key and its mark, which lie under fixed names.
func damageRecords(t *testing.T, n *harness.Node) {
	t.Helper()
	changed := 0
	for key, value := range n.Records() {
		if strings.HasSuffix(key, "/epoch") || strings.HasSuffix(key, "/complete") {
			continue
		}
		b := []byte(value)
		b[len(b)/2] ^= 4
		n.SetRecord(key, string(b))
		changed++
	}
	if changed == 0 {
		t.Fatalf("%s holds no record", n.Name)
	}
}

// TestStaleState: an old copy of the state directory comes back. It is not mounted, and loses nothing.
//
// Then it is brought up to date in place, while zstor runs on.
func TestStaleState(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	f := c.Front
	writeSynced(t, f.Path("first"), []byte("1"))
	f.Ship(shipLimit)
	f.Down()
	copied := f.State + ".yesterday"
	harness.MustRun(t, time.Minute, "cp", "-a", f.State, copied)
	harness.MustRun(t, time.Minute, "cp", "-a", f.State, copied+".too")
	f.Up()
	writeSynced(t, f.Path("second"), []byte("2"))
	f.Ship(shipLimit)
	f.Down()
	if err := os.Rename(f.State, f.State+".today"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, f.State); err != nil {
		t.Fatal(err)
	}
	f.UpZstor()
	wantRefusal(t, "yesterday's state", f.Command(time.Minute, "zdbfs", "mount"), codeStale, `recover`)
	f.Zstor.Stop(time.Minute)
	if err := os.RemoveAll(f.State); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.State+".today", f.State); err != nil {
		t.Fatal(err)
	}
	f.Up()
	bothAreThere := func() {
		t.Helper()
		for name, want := range map[string]string{"first": "1", "second": "2"} {
			if b, err := os.ReadFile(f.Path(name)); err != nil || string(b) != want {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
	}
	bothAreThere()

	f.Down()
	if err := os.RemoveAll(f.State); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied+".too", f.State); err != nil {
		t.Fatal(err)
	}
	f.UpZstor()
	wantRefusal(t, "yesterday's state again", f.Command(time.Minute, "zdbfs", "mount"), codeStale, `recover`)
	if r := f.Command(shipLimit, "zdbfs", "recover"); r.Code != 0 {
		t.Fatalf("recover: exit code %d\n%s", r.Code, r.Stderr)
	}
	f.Mount()
	bothAreThere()
	writeSynced(t, f.Path("third"), []byte("3"))
	f.Ship(shipLimit)
}
