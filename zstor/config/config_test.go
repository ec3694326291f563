package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qsfs/zstor/internal/keys"
)

// six is the default cluster: six nodes in three groups, 4-of-6.
func six() string {
	var b strings.Builder
	b.WriteString("minimal_shards = 4\nexpected_shards = 6\nredundant_groups = 1\nredundant_nodes = 0\n")
	for g := range 3 {
		fmt.Fprintf(&b, "[[groups]]\nname = \"%c\"\n", 'a'+g)
		for n := range 2 {
			fmt.Fprintf(&b, "[[groups.backends]]\naddress = \"127.0.0.1:%d\"\nnamespace = \"data\"\npassword = \"hush%d\"\n", 9901+2*g+n, 2*g+n)
		}
	}
	b.WriteString("[meta]\ntype = \"zdb\"\n[meta.config]\nprefix = \"fs\"\n")
	for n := range 6 {
		fmt.Fprintf(&b, "[[meta.config.backends]]\naddress = \"127.0.0.1:%d\"\nnamespace = \"meta\"\npassword = \"hush\"\n", 9901+n)
	}
	return b.String()
}

func TestSixNodes(t *testing.T) {
	c, err := Parse("x.toml", []byte(six()+"[qsfs]\nmin_secrecy = 3\nslice = \"auto\"\noffline_mount = \"no\"\nsync_interval = \"2s\"\n[qsfs.fallback]\nminimal_shards = 3\nexpected_shards = 4\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Nodes()) != 6 || c.Nodes()[3].ID() != "127.0.0.1:9904/data" || c.Nodes()[3].Password.Reveal() != "hush3" || c.Nodes()[3].Group != "b" {
		t.Errorf("nodes = %+v", c.Nodes())
	}
	if c.Meta.WriteQuorum != 4 || c.Meta.ReadQuorum != 3 || c.Meta.Backends[5].Group != "c" {
		t.Errorf("meta = %+v", c.Meta)
	}
	if c.QSFS.AckFloor != 5 || c.QSFS.MinSecrecy != 3 || c.QSFS.OfflineMount || c.QSFS.SyncInterval != 2*time.Second {
		t.Errorf("qsfs = %+v", c.QSFS)
	}
	if c.QSFS.CacheSize.String() != "10GiB" || c.SliceSize(4) != 256<<10 || c.SliceSize(9) != 64<<10 {
		t.Errorf("sizes: %v %v %v", c.QSFS.CacheSize, c.SliceSize(4), c.SliceSize(9))
	}
	inside := struct{ c Config }{*c}
	if s := fmt.Sprintf("%v %+v %#v %v %+v %#v", c, c, c, inside, inside, inside); strings.Contains(s, "hush") {
		t.Error("a printed configuration shows a password")
	}
}

func TestFaultsComeTogetherWithLines(t *testing.T) {
	doc := strings.Replace(six(), "redundant_nodes = 0\n", "redundant_nodes = \"none\"\nredundnat_groups = 2\n", 1) +
		"[qsfs]\nsync_interval = \"soon\"\ncache_size = true\ncolour = 1\n[qsfs.fallback]\nminimal_shards = 1\nexpected_shards = 4\n[encryption]\nkey = \"00\"\n"
	_, err := Parse("x.toml", []byte(doc))
	var list Errors
	if !errors.As(err, &list) || !errors.Is(err, ErrInvalid) {
		t.Fatalf("err = %v", err)
	}
	lines := strings.Split(doc, "\n")
	for _, want := range []struct{ key, text string }{
		{"redundant_nodes", "must be a whole number, not a string"},
		{"redundnat_groups", `did you mean "redundant_groups"`},
		{"qsfs.sync_interval", `"soon" is not a duration`},
		{"qsfs.cache_size", "must be a size"},
		{"qsfs.colour", "unknown key"},
		{"qsfs.fallback.minimal_shards", "single node read"},
		{"encryption", "key_file"},
	} {
		found := false
		for _, f := range list {
			if f.Key == want.key && strings.Contains(f.Msg, want.text) {
				found = true
				name := want.key[strings.LastIndex(want.key, ".")+1:]
				if f.Line == 0 || !strings.Contains(lines[f.Line-1], name) {
					t.Errorf("%s: line %d is %q", want.key, f.Line, lines[max(f.Line-1, 0)])
				}
			}
		}
		if !found {
			t.Errorf("no fault for %s %q in\n%v", want.key, want.text, err)
		}
	}
	if len(list) != 7 {
		t.Errorf("got %d faults, want 7:\n%v", len(list), err)
	}
}

func TestRefused(t *testing.T) {
	swap := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(six()) }
	for name, tc := range map[string]struct{ doc, want string }{
		"empty":             {"", "there are no nodes"},
		"syntax":            {"a = \n", "not valid TOML"},
		"twice":             {"socket = \"/a\"\nsocket = \"/b\"\n", "not valid TOML"},
		"k 1":               {swap("minimal_shards = 4", "minimal_shards = 1"), "at least 2"},
		"k = n":             {swap("minimal_shards = 4", "minimal_shards = 6"), "minimal_shards + 1 = 7"},
		"n > nodes":         {swap("expected_shards = 6", "expected_shards = 7"), "only 6 are configured"},
		"two groups lost":   {swap("redundant_groups = 1", "redundant_groups = 2"), "leaves 2 shards after the loss of 2 groups, and 4 are needed"},
		"node too":          {swap("redundant_nodes = 0", "redundant_nodes = 1"), "cannot be honoured"},
		"fallback secrecy":  {six() + "[qsfs.fallback]\nminimal_shards = 3\nexpected_shards = 4\n", "min_secrecy is 4"},
		"fallback size":     {six() + "[qsfs]\nmin_secrecy = 3\n[qsfs.fallback]\nminimal_shards = 3\nexpected_shards = 5\n", "only 4 are left"},
		"same node":         {swap("9902", "9901"), "two namespaces of one server are one node"},
		"meta on one site":  {swap("[[meta.config.backends]]\naddress = \"127.0.0.1:9905\"", "[[meta.config.backends]]\ngroup = \"a\"\naddress = \"127.0.0.1:9911\""), "can take 3 of 6 metadata nodes"},
		"quorum":            {swap("prefix = \"fs\"", "write_quorum = 3\nread_quorum = 3"), "must be more than the 6"},
		"bad address":       {swap("127.0.0.1:9903", "127.0.0.1"), "is not host:port"},
		"group unknown":     {swap("[[meta.config.backends]]\naddress = \"127.0.0.1:9905\"", "[[meta.config.backends]]\ngroup = \"z\"\naddress = \"127.0.0.1:9911\""), `there is no group "z"`},
		"volatile meta":     {swap("[[meta.config.backends]]\naddress = \"127.0.0.1:9905\"", "[[meta.config.backends]]\ndurable = \"never\"\naddress = \"127.0.0.1:9905\""), "cannot hold records"},
		"state under mount": {six() + "[qsfs]\nstate = \"/mnt/qsfs/state\"\n", "lies under the mount point"},
		"key path":          {six() + "[qsfs]\nkey_file = \"key\"\n", "neither an absolute path"},
		"key check":         {six() + "[qsfs]\nkey_check = \"12\"\n", "16 hex digits"},
		"slice":             {six() + "[qsfs]\nslice = \"8MiB\"\n", "a shard with its header"},
		"ack floor":         {six() + "[qsfs]\nack_floor = 4\n", "not between"},
		"age":               {six() + "[qsfs]\nmax_unshipped_age = \"2s\"\n", "always be slowed"},
		"array for table":   {six() + "[[qsfs]]\n", "must be a table"},
		"argon without":     {six() + "[[qsfs.argon2id]]\nkey_epoch = 1\n", "needs passphrase_file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("x.toml", []byte(tc.doc))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want …%s…", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Error("the message shows a password")
			}
		})
	}
}

// A fault names the place and never the text that stands there: it may be a
// password with a typing error in it.
func TestSyntaxErrorsShowNoText(t *testing.T) {
	for _, doc := range []string{
		"password = \"hush\n", "password = hush\n", "password = \"hush\" x\n", "password = 'hush\x01'\n", "password = \"hush\\q\"\n",
		"password = \"a\"\npassword = \"hush\"\n", "password = 3hush\n", "password = \"hush\xff\"\n", "hush\n",
		"[[groups]]\n[[groups.backends]]\npassword = [\"hush\"]\naddress = {a = \"hush\"}\nnamespace = 3\n",
	} {
		_, err := Parse("x.toml", []byte(doc))
		if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "x.toml:") {
			t.Errorf("%q: %v", doc, err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "none"))
	if !errors.Is(err, ErrInvalid) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	p := filepath.Join(dir, "qsfs.toml")
	if err := os.WriteFile(p, []byte(six()), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "chmod 600") {
		t.Errorf("warnings = %q", c.Warnings)
	}
}

func TestOlderKeysKeepTheirMeaning(t *testing.T) {
	doc := "zdbfs_mountpoint = \"/data\"\nmax_zdb_data_dir_size = 2048\n" + six() + "[compression]\nalgorithm = \"snappy\"\n"
	c, err := Parse("x.toml", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	if c.QSFS.Mount != "/data" || c.QSFS.CacheSize != 2<<30 || c.Compression != CompressionZstd {
		t.Errorf("got %q %v %q", c.QSFS.Mount, c.QSFS.CacheSize, c.Compression)
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]Size{"10GiB": 10 << 30, "64 MiB": 64 << 20, "500MB": 500e6, "7": 7, "0B": 0, "1TiB": 1 << 40} {
		if got, err := ParseSize(in); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "-1", "1.5GiB", "9999999999TiB", "MiB"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %d", in, got)
		}
	}
}

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	c, err := Parse("x.toml", []byte(six()+"[qsfs]\nkey_file = \""+path+"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.CheckKey(); !errors.Is(err, ErrKey) || !errors.Is(err, ErrKeyMissing) {
		t.Errorf("no key file: %v", err)
	}
	want, err := GenerateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if epoch, check, err := c.CheckKey(); err != nil || epoch != 1 || check != want {
		t.Errorf("CheckKey = %d %s %v, want 1 %s", epoch, check, err, want)
	}
	c.QSFS.KeyCheck = strings.ToUpper(want)
	if _, _, err := c.CheckKey(); err != nil {
		t.Errorf("right key_check: %v", err)
	}
	c.QSFS.KeyCheck = "0011223344556677"
	if _, _, err := c.CheckKey(); !errors.Is(err, ErrKeyWrong) || !errors.Is(err, ErrKey) {
		t.Errorf("another key_check: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.CheckKey(); !errors.Is(err, ErrKeyPermissions) {
		t.Errorf("group-readable: %v", err)
	}
}

func TestPassphraseKeys(t *testing.T) {
	pass := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(pass, []byte("a phrase\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := keys.NewArgon2id(1, []byte("a phrase"))
	if err != nil {
		t.Fatal(err)
	}
	doc := fmt.Sprintf("%s[qsfs]\npassphrase_file = %q\n[[qsfs.argon2id]]\nkey_epoch = 1\nsalt = \"%x\"\ntime = %d\nmemory = %d\nthreads = %d\ncheck = %q\n",
		six(), pass, a.Salt, a.Time, a.Memory, a.Threads, a.Check)
	c, err := Parse("x.toml", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	if _, check, err := c.CheckKey(); err != nil || check != a.Check.String() {
		t.Errorf("CheckKey = %s, %v", check, err)
	}
	if err := os.WriteFile(pass, []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.CheckKey(); !errors.Is(err, ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
}
