package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qsfs/zdb/client"
	"qsfs/zdb/server"
)

// tool runs the program and returns what it wrote and its exit code.
func tool(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := program(args...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), talk.String(), cmd.ProcessState.ExitCode()
}

// must runs the program, which succeeds, and returns what it wrote.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, talk, code := tool(t, args...)
	if code != exitOK {
		t.Fatalf("%q: exit code %d\n%s%s", args, code, out, talk)
	}
	return out
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// at are the flags for a running server, of are those for its directories.
func (n *node) at(args ...string) []string {
	return append(args, "--address", n.address, "--admin", "root")
}

func (n *node) of(args ...string) []string {
	return append(args, "--data", filepath.Join(n.dir, "data"), "--index", filepath.Join(n.dir, "index"))
}

// filled starts a node with 300 values of 1000 bytes, ten of them replaced and five deleted, in several segments.
func filled(t *testing.T) (*node, *client.Client) {
	n := newNode(t, "--namespace", "ns:secret", "--segment-size", "512KiB", "--keep-deleted", "1d")
	n.start()
	c := n.client(client.Options{Namespace: "ns", Password: "secret"})
	set := func(i int, b byte) {
		if _, err := c.Set(t.Context(), fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{b}, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 600 {
		set(i, byte(i))
	}
	for i := range 10 {
		set(i, 'n')
	}
	for i := range 5 {
		if err := c.Del(t.Context(), fmt.Appendf(nil, "key %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	return n, c
}

// damage flips a byte in the middle of the only run of b in d0, and says in which file.
func damage(t *testing.T, n *node, b byte) {
	t.Helper()
	path := filepath.Join(n.dir, "data", "ns", "d0")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(raw, bytes.Repeat([]byte{b}, 1000))
	if at < 0 {
		t.Fatal("the value is not in d0")
	}
	flip(t, path, int64(at)+500)
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var p [1]byte
	if _, err := f.ReadAt(p[:], at); err != nil {
		t.Fatal(err)
	}
	p[0] ^= 1
	if _, err := f.WriteAt(p[:], at); err != nil {
		t.Fatal(err)
	}
}

// Damage is found by a running server and in the directories, with the key that is concerned; index segments are mended.
func TestCheck(t *testing.T) {
	n, _ := filled(t)
	for _, extra := range [][]string{nil, {"--json"}, {"--repair"}} {
		if out, talk, code := tool(t, n.at(append([]string{"check", "--namespace", "ns"}, extra...)...)...); code != exitOK || extra == nil && out != "" {
			t.Errorf("%q of a sound namespace: exit code %d\n%s%s", extra, code, out, talk)
		}
	}
	r := decode[client.CheckReport](t, must(t, n.at("check", "--namespace", "ns", "--json")...))
	if r.Keys != 595 || r.Entries != 615 || r.Segments < 2 || len(r.Findings) != 0 {
		t.Errorf("%+v", r)
	}
	keys := []string{"check", "--keys", "--address", n.address, "--namespace", "ns", "--password", "secret"}
	if out := must(t, keys...); out != "" {
		t.Errorf("--keys: %s", out)
	}

	// An index segment is written again from its data segment.
	index := filepath.Join(n.dir, "index", "ns", "i0")
	info, err := os.Stat(index)
	if err != nil {
		t.Fatal(err)
	}
	seen := func(where string, args []string, file string, concerned string, unrepaired int64) {
		t.Helper()
		out, talk, code := tool(t, append(args, "--json")...)
		if want := map[bool]int{true: exitDamaged, false: exitOK}[unrepaired > 0]; code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", where, code, want, out, talk)
		}
		r := decode[client.CheckReport](t, out)
		if len(r.Findings) != 1 || r.Unrepaired != unrepaired || filepath.Base(r.Findings[0].File) != file || fmt.Sprintf("%s", r.Findings[0].Keys) != concerned {
			t.Errorf("%s: %s", where, out)
		}
	}
	flip(t, index, info.Size()/2)
	seen("index segment, online", n.at("check", "--namespace", "ns"), "i0", "[]", 1)
	seen("index segment, online repair", n.at("check", "--namespace", "ns", "--repair"), "i0", "[]", 0)
	must(t, n.at("check", "--namespace", "ns")...)

	// The directories are the server's until it ends.
	if _, talk, code := tool(t, n.of("check", "--namespace", "ns")...); code != exitInUse || strings.Count(talk, "zdb: the directories are in use") != 1 {
		t.Errorf("beside the server: exit code %d\n%s", code, talk)
	}
	n.stop(syscall.SIGTERM)
	flip(t, index, info.Size()/2)
	seen("index segment, offline", n.of("check", "--namespace", "ns"), "i0", "[]", 1)
	seen("index segment, offline repair", n.of("check", "--namespace", "ns", "--repair"), "i0", "[]", 0)
	must(t, n.of("check", "--namespace", "ns")...)

	// What a data segment has lost stays lost.
	damage(t, n, 77)
	seen("data, offline", n.of("check", "--namespace", "ns"), "d0", "[key 77]", 1)
	seen("data, offline repair", n.of("check", "--namespace", "ns", "--repair"), "d0", "[key 77]", 1)
	n.start()
	if out, _, code := tool(t, keys...); out != "\"key 77\"\n" || code != exitDamaged {
		t.Errorf("--keys: exit code %d, %q", code, out)
	}
	seen("data, online", n.at("check", "--namespace", "ns", "--repair"), "d0", "[key 77]", 1)
	if out, _, code := tool(t, n.at("check", "--namespace", "ns")...); code != exitDamaged || strings.Count(out, "\n") != 1 || !strings.Contains(out, `"key 77"`) {
		t.Errorf("as text: exit code %d\n%s", code, out)
	}
}

// dump lists all of the log of a stopped server, and the present entries of a running one.
func TestDump(t *testing.T) {
	n, _ := filled(t)
	lines := func(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }
	served := lines(must(t, "dump", "--address", n.address, "--namespace", "ns", "--password", "secret", "--json", "--values"))
	if len(served) != 595 {
		t.Errorf("%d present entries", len(served))
	}
	for _, text := range served {
		l := decode[dumpLine](t, text)
		want := bytes.Repeat([]byte{'n'}, 1000)
		var i int
		if _, err := fmt.Sscanf(string(l.Key), "key %d", &i); err != nil {
			t.Fatal(err)
		}
		if i >= 10 {
			want = bytes.Repeat([]byte{byte(i)}, 1000)
		}
		if !bytes.Equal(l.Value, want) || l.Length != 1000 || l.Time.IsZero() {
			t.Fatalf("%s: %d bytes", l.Key, l.Length)
		}
	}
	if got := lines(must(t, "dump", "--address", n.address, "--namespace", "ns", "--password", "secret", "--prefix", "key 59")); len(got) != 11 {
		t.Errorf("with a prefix: %d lines", len(got))
	}
	if _, _, code := tool(t, n.of("dump", "--namespace", "ns")...); code != exitInUse {
		t.Errorf("beside the server: exit code %d", code)
	}
	n.kill() // dump needs no recovery and makes none
	before := snapshot(t, n.dir)
	stored := lines(must(t, n.of("dump", "--namespace", "ns", "--json")...))
	deletes, key7 := 0, 0
	for _, text := range stored {
		l := decode[dumpLine](t, text)
		if l.Deleted {
			deletes++
		}
		if string(l.Key) == "key 7" {
			key7++
		}
		if l.Segment == nil || l.Seq == "" || l.Damaged != "" {
			t.Fatal(text)
		}
	}
	if len(stored) != 615 || deletes != 5 || key7 != 2 {
		t.Errorf("%d entries, %d deletes, %d of one key", len(stored), deletes, key7)
	}
	if after := snapshot(t, n.dir); after != before {
		t.Errorf("dump changed files:\n%s\n%s", before, after)
	}
	damage(t, n, 77)
	out, _, code := tool(t, n.of("dump", "--namespace", "ns")...)
	if code != exitDamaged || strings.Count(out, "\tdamaged\t") != 1 || !strings.Contains(out, `"key 78"`) {
		t.Errorf("of a damaged log: exit code %d, %d lines", code, strings.Count(out, "\n"))
	}
	// Where an entry's key is not known, nobody can say that it had another prefix.
	index := filepath.Join(n.dir, "index", "ns", "i0")
	raw, err := os.ReadFile(index)
	if err != nil || os.WriteFile(index, nil, 0o600) != nil {
		t.Fatal(err)
	}
	if out, _, code := tool(t, n.of("dump", "--namespace", "ns", "--prefix", "key 599")...); code != exitDamaged || strings.Count(out, "\n") != 2 {
		t.Errorf("with a prefix, of damage without a key: exit code %d\n%s", code, out)
	}
	if err := os.WriteFile(index, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start() // it gives all values but one
	out, talk, code := tool(t, "dump", "--address", n.address, "--namespace", "ns", "--password", "secret", "--values")
	if code != exitDamaged || strings.Count(out, "\n") != 595 || strings.Count(out, "\tdamaged\t") != 1 {
		t.Errorf("of a server with a damaged value: exit code %d, %d lines\n%s", code, strings.Count(out, "\n"), talk)
	}
}

// snapshot lists files with their lengths and times.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// history shows versions and deleted keys at a running server and in the directories, and what is kept of a removed
// namespace.
func TestHistory(t *testing.T) {
	n, _ := filled(t)
	look := func(where []string) {
		t.Helper()
		with := func(args ...string) []string {
			return append(append([]string{"history", "--namespace", "ns"}, args...), where...)
		}
		list := decode[[]versionLine](t, must(t, with("key 3", "--json")...))
		if len(list) != 3 || !list[0].Deleted || list[1].Deleted || list[2].Length != 1000 {
			t.Fatalf("%+v", list)
		}
		for i, want := range []byte{'n', 3} {
			if got := must(t, with("key 3", "--get", list[i+1].Seq)...); got != strings.Repeat(string(rune(want)), 1000) {
				t.Errorf("version %d: %.20q", i, got)
			}
		}
		if got := must(t, with("6b65792037", "--hex")...); strings.Count(got, "\n") != 2 {
			t.Errorf("in hex: %s", got)
		}
		gone := decode[[]deletedLine](t, must(t, with("--deleted", "--json")...))
		if len(gone) != 5 || string(gone[4].Key) != "key 4" || gone[4].Length != 1000 {
			t.Errorf("%+v", gone)
		}
		if _, talk, code := tool(t, with("no such key")...); code != exitInternal || !strings.Contains(talk, "nothing is kept") {
			t.Errorf("of nothing: exit code %d, %s", code, talk)
		}
	}
	look(n.at())
	if _, _, code := tool(t, "history", "--address", n.address, "--namespace", "ns", "key 3"); code != exitPassword {
		t.Errorf("without the admin password: exit code %d", code)
	}
	n.stop(syscall.SIGTERM)
	look(n.of())
	n.start()
	if err := n.client(client.Options{Admin: "root"}).NSDel(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	removed := decode[[]removedLine](t, must(t, n.at("history", "--removed", "--json")...))
	if len(removed) != 1 || !strings.HasPrefix(removed[0].Name, "ns/") {
		t.Fatalf("%+v", removed)
	}
	if got := must(t, n.at("history", "--namespace", removed[0].Name, "--deleted")...); strings.Count(got, "\n") != 600 {
		t.Errorf("%d keys of the removed namespace", strings.Count(got, "\n"))
	}
	for _, bad := range [][]string{{"history"}, {"history", "a", "b"}, {"history", "a", "--deleted"}, {"history", "--hex", "x"}} {
		if _, talk, code := tool(t, n.at(bad...)...); code != exitUsage || strings.Count(talk, "\n") != 1 {
			t.Errorf("%q: exit code %d\n%s", bad, code, talk)
		}
	}
}

// The index and an index segment are built again, at a running server and in the directories.
func TestRebuildIndex(t *testing.T) {
	n, c := filled(t)
	index := filepath.Join(n.dir, "index", "ns")
	whole, err := os.ReadFile(filepath.Join(index, "i0"))
	if err != nil {
		t.Fatal(err)
	}
	made := func() time.Time { // this file is written once
		t.Helper()
		files, err := filepath.Glob(filepath.Join(index, "badger", "*", "KEYREGISTRY"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%q, %v", files, err)
		}
		info, err := os.Stat(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	rebuild := func(where []string) {
		t.Helper()
		flip(t, filepath.Join(index, "i0"), int64(len(whole)/2))
		r := decode[rebuildResult](t, must(t, append([]string{"rebuild-index", "--namespace", "ns", "--segment", "0", "--json"}, where...)...))
		if r.Segment == nil || *r.Segment != 0 {
			t.Errorf("%+v", r)
		}
		if again, err := os.ReadFile(filepath.Join(index, "i0")); err != nil || !bytes.Equal(again, whole) {
			t.Errorf("i0 differs: %d bytes, %d before, %v", len(again), len(whole), err)
		}
		before := made()
		must(t, append([]string{"rebuild-index", "--namespace", "ns"}, where...)...)
		if after := made(); !after.After(before) {
			t.Errorf("the index is the old one: %v, %v", before, after)
		}
		if _, talk, code := tool(t, append([]string{"rebuild-index", "--namespace", "ns", "--segment", "99"}, where...)...); code != exitInternal || strings.Count(talk, "zdb: ") != 2 {
			t.Errorf("no such segment: exit code %d\n%s", code, talk)
		}
	}
	rebuild(n.at())
	if v, err := c.Get(t.Context(), []byte("key 9")); err != nil || len(v) != 1000 {
		t.Errorf("after it: %d bytes, %v", len(v), err)
	}
	if _, _, code := tool(t, n.of("rebuild-index", "--namespace", "ns")...); code != exitInUse {
		t.Errorf("beside the server: exit code %d", code)
	}
	n.stop(syscall.SIGTERM)
	rebuild(n.of())
	must(t, n.of("check", "--namespace", "ns")...)
}

// compact gives space back, at a running server and in the directories.
func TestCompact(t *testing.T) {
	n := newNode(t, "--namespace", "ns", "--compaction", "off", "--segment-size", "512KiB")
	n.start()
	c := n.client(client.Options{Namespace: "ns"})
	fill := func() {
		for round := range 4 {
			for i := range 300 {
				if _, err := c.Set(t.Context(), fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{byte(round), byte(i)}, 1000)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	compact := func(where []string) {
		t.Helper()
		r := decode[compactResult](t, must(t, append([]string{"compact", "--namespace", "ns", "--all", "--json"}, where...)...))
		if r.Segments < 2 || r.Freed < 1<<20 {
			t.Errorf("%+v", r)
		}
	}
	fill()
	compact(n.at())
	fill()
	if _, _, code := tool(t, n.of("compact", "--namespace", "ns")...); code != exitInUse {
		t.Errorf("beside the server: exit code %d", code)
	}
	n.stop(syscall.SIGTERM)
	compact(n.of())
	must(t, n.of("check", "--namespace", "ns")...)
	n.start()
	for i := range 300 {
		if v, err := c.Get(t.Context(), fmt.Appendf(nil, "key %d", i)); err != nil || !bytes.Equal(v, bytes.Repeat([]byte{3, byte(i)}, 1000)) {
			t.Fatalf("key %d: %d bytes, %v", i, len(v), err)
		}
	}
}

// stat says the same of a running server and of its directories.
func TestStat(t *testing.T) {
	n, _ := filled(t)
	fields := []string{"name", "mode", "entries", "data_size_bytes", "incarnation", "keep_last", "keep_deleted"}
	online := decode[[]client.Info](t, must(t, "stat", "--address", n.address, "--json", "ns"))[0]
	n.stop(syscall.SIGTERM)
	offline := decode[[]client.Info](t, must(t, n.of("stat", "--json", "ns")...))[0]
	for _, name := range fields {
		if online[name] == "" || online[name] != offline[name] {
			t.Errorf("%s: %q online, %q offline", name, online[name], offline[name])
		}
	}
	if online["entries"] != "595" || online["data_size_bytes"] != "595000" || offline.Int("disk_used_bytes") < 600_000 || offline.Int("log_dead_bytes") < 5000 {
		t.Errorf("%v", offline)
	}
	if out := must(t, n.of("stat")...); !strings.Contains(out, "ns ") || !strings.Contains(out, " 595 ") {
		t.Errorf("as text:\n%s", out)
	}
	// One whose files cannot be looked at is not left out.
	dir := filepath.Join(n.dir, "data", "ns")
	if err := errors.Join(os.Rename(dir, dir+".away"), os.Symlink("ns", dir)); err != nil {
		t.Fatal(err)
	}
	if out, talk, code := tool(t, n.of("stat")...); code != exitInternal || !strings.Contains(talk, "ns") {
		t.Errorf("with a directory that cannot be read: exit code %d\n%s%s", code, out, talk)
	}
}

// Ids of a sequential namespace look the same online and offline.
func TestToolsSequential(t *testing.T) {
	n := newNode(t, "--mode", "seq", "--namespace", "ns")
	n.start()
	c := n.client(client.Options{Namespace: "ns"})
	for i := range 3 {
		if _, err := c.Do(t.Context(), "SET", nil, fmt.Appendf(nil, "value %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			if l := decode[dumpLine](t, line); len(l.Key) == 8 {
				all = append(all, fmt.Sprintf("%x=%s", l.Key, l.Value))
			}
		}
		return all
	}
	want := "[0000000000000000=value 0 0100000000000000=value 1 0200000000000000=value 2]"
	if got := keys(must(t, n.at("dump", "--namespace", "ns", "--json", "--values")...)); fmt.Sprint(got) != want {
		t.Errorf("online: %v", got)
	}
	must(t, n.at("check", "--keys", "--namespace", "ns")...)
	n.stop(syscall.SIGTERM)
	if got := keys(must(t, n.of("dump", "--namespace", "ns", "--json", "--values")...)); fmt.Sprint(got) != want {
		t.Errorf("offline: %v", got)
	}
	if got := must(t, n.of("history", "--namespace", "ns", "--hex", "0100000000000000")...); strings.Count(got, "\n") != 1 {
		t.Errorf("history: %s", got)
	}
	if got := decode[[]client.Info](t, must(t, n.of("stat", "--json", "ns")...)); got[0]["entries"] != "3" {
		t.Errorf("%v", got)
	}
}

// What goes wrong is one line, and the exit code says what kind of thing it is.
func TestToolErrors(t *testing.T) {
	dir := t.TempDir()
	listing := func(text string) string { // a data directory with such a list of namespaces
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ".namespaces.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	broken, newer := listing(`{"version":2,"names`), listing(`{"version":9,"namespaces":{}}`)
	n := newNode(t)
	n.start()
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"stat", "--address", "127.0.0.1:1"}, exitUnreachable, "refused"},
		{[]string{"stat", "--address", "nowhere"}, exitUsage, "nowhere"},
		{[]string{"check", "--address", n.address, "--admin", "wrong"}, exitPassword, "denied"},
		{[]string{"check", "--address", n.address}, exitPassword, "denied"},
		{n.at("check", "--namespace", "none"), exitUsage, "not found"},
		{n.at("compact", "--namespace", "none"), exitUsage, "not found"},
		{[]string{"dump", "--data", dir}, exitUsage, "--index"},
		{[]string{"dump", "--data", dir, "--index", filepath.Join(dir, "none")}, exitUsage, "none"},
		{[]string{"dump", "--data", dir, "--index", dir, "--namespace", "none"}, exitUsage, `no namespace "none"`},
		{[]string{"check", "--data", dir, "--index", dir, "--keys"}, exitUsage, "--keys"},
		{[]string{"rebuild-index", "--segment", "-2"}, exitUsage, "--segment"},
		{[]string{"stat", "--data", dir, "--index", dir}, exitUsage, "name the namespaces"},
		{[]string{"stat", "--data", broken, "--index", dir}, exitDamaged, "is damaged"},
		{[]string{"stat", "--data", newer, "--index", dir}, exitInternal, "version 9"},
		{[]string{"frob"}, exitUsage, "frob"},
	} {
		out, talk, code := tool(t, tc.args...)
		var last string
		for line := range strings.Lines(talk) {
			last = line
		}
		if code != tc.code || out != "" || !strings.HasPrefix(last, "zdb: ") || !strings.Contains(last, tc.says) || strings.Count(talk, "\n") > 2 {
			t.Errorf("%q: exit code %d, want %d\n%s%s", tc.args, code, tc.code, out, talk)
		}
	}
	if names, found, err := server.Names(dir); err != nil || found || len(names) != 0 {
		t.Errorf("%v, %v, %v", names, found, err)
	}
}
