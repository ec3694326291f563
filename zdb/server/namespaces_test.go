package server

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNamespaceCommands(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	long := strings.Repeat("n", 128)
	w := ts.adminWire()
	w.play([]step{
		do("+OK", "NSNEW", "a"), do("-This namespace is not available", "NSNEW", "a"), do("+OK", "NSNEW", long), do("+OK", "SELECT", long),
		do("-Namespace too long", "NSNEW", long+"n"), do("-Namespace too long", "SELECT", long+"n"), do("-Namespace too long", "NSDEL", long+"n"),
		do("-This name is not allowed", "NSNEW", "../../hello"), do("-This name is not allowed", "NSNEW", "."), do("-This name is not allowed", "NSNEW", ".."),
		do("-This name is not allowed", "NSNEW", "default"), do("-This name is not allowed", "NSNEW", "a\x00b"), do("-This name is not allowed", "NSNEW", "\xff"),
		do("+OK", "NSNEW", "with blank"), do("+OK", "NSNEW", "ünïcödé"), do("+OK", "NSNEW", "namespaces.json"), do("+OK", "NSNEW", ".namespaces.json"), do("+OK", "NSNEW", ".lock"),
		do("-Invalid argument", "NSNEW", ""), do("-Unexpected arguments", "NSNEW"), do("-Unexpected arguments", "NSNEW", "a", "b"),
		do("+OK", "SELECT", "a"), do(`"k"`, "SET", "k", "in a"), do("+OK", "SELECT", "default"), do("nil", "GET", "k"), do(`"k"`, "SET", "k", "in default"),
		do("+OK", "SELECT", "a"), do(`"in a"`, "GET", "k"), do(":1", "DBSIZE"),
		do("-Namespace not found", "SELECT", "none"), do("-Namespace not found", "SELECT", ""), do("-Invalid argument", "SELECT"), do(`"in a"`, "GET", "k"),

		do("-Cannot remove namespace you're currently using.", "NSDEL", "a"), do("-Cannot remove default namespace", "NSDEL", "default"),
		do("-This namespace doesn't exists", "NSDEL", "none"), do("+OK", "SELECT", "default"), do("+OK", "NSDEL", "a"),
		do("-This namespace doesn't exists", "NSDEL", "a"), do("-Namespace not found", "SELECT", "a"), do("-Namespace not found", "NSINFO", "a"),
		do("+OK", "NSNEW", "a"), do("+OK", "SELECT", "a"), do("nil", "GET", "k"), do(":0", "DBSIZE"), do("+OK", "NSDEL", "with blank"),
	})
	ts.reopen()
	w = ts.adminWire()
	w.want(`["default" ".lock" ".namespaces.json" "a" "namespaces.json" "`+long+`" "ünïcödé"]`, "NSLIST")
	w.want(`"in default"`, "GET", "k")
	if gone, _ := filepath.Glob(filepath.Join(ts.o.DataDir, "with*")); len(gone) > 0 {
		t.Errorf("files of a removed namespace: %v", gone)
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	admin := ts.adminWire()
	admin.play([]step{do("+OK", "NSNEW", "ns"), do("+OK", "NSSET", "ns", "password", "secret")})
	for _, reopened := range []bool{false, true} {
		w := ts.dial()
		w.play([]step{
			do("+OK", "SELECT", "ns"), do("-Namespace is in read-only mode", "SET", "k", "v"), do("-Namespace is in read-only mode", "DEL", "k"),
			do("-Namespace is in read-only mode", "CAS", "k", "v"), do(":0", "EXISTS", "k"),
			do("-Access denied", "SELECT", "ns", "wrong"), do("-Access denied", "SELECT", "ns", "secre"), do("-Access denied", "SELECT", "ns", "secretx"),
			do("-Access denied", "SELECT", "ns", ""), do("-Password too long", "SELECT", "ns", strings.Repeat("x", 511)),
			do("-Too many arguments", "SELECT", "ns", "a", "b", "c"), do("-Only SECURE extra method supported", "SELECT", "ns", "SEC", strings.Repeat("0", 40)),
			do("-No CHALLENGE requested, secure authentication not available", "SELECT", "ns", "SECURE", strings.Repeat("0", 40)),
		})
		if reopened { // only the hash is known
			nonce := strings.TrimPrefix(w.do("AUTH", "SECURE", "CHALLENGE"), "+")
			w.want("-Secure authentication not available before the password was sent once", "SELECT", "ns", "SECURE", challengeResponse(nonce, "secret"))
		}
		w.play([]step{do("+OK", "SELECT", "ns", "secret"), do(`"k"`, "SET", "k", "v"), do("+OK", "DEL", "k")})
		nonce := strings.TrimPrefix(w.do("AUTH", "SECURE", "CHALLENGE"), "+")
		w.play([]step{
			do("+OK", "SELECT", "default"), do("-Invalid hash length", "SELECT", "ns", "SECURE", "short"),
			do("+OK", "SELECT", "ns", "SECURE", challengeResponse(nonce, "secret")), do(`"k"`, "SET", "k", "v"), do("+OK", "DEL", "k"),
			// The nonce is used up.
			do("-No CHALLENGE requested, secure authentication not available", "SELECT", "ns", "SECURE", challengeResponse(nonce, "secret")),
		})
		nonce = strings.TrimPrefix(w.do("AUTH", "SECURE", "CHALLENGE"), "+")
		w.play([]step{
			do("-Access denied", "SELECT", "ns", "SECURE", challengeResponse(nonce, "wrong")),
			do("-No CHALLENGE requested, secure authentication not available", "SELECT", "ns", "SECURE", challengeResponse(nonce, "secret")),
		})
		raw, err := os.ReadFile(filepath.Join(ts.o.DataDir, registryName))
		if err != nil || bytes.Contains(raw, []byte("secret")) {
			t.Errorf("the password lies in clear in %s, %v", registryName, err)
		}
		if info, err := os.Stat(filepath.Join(ts.o.DataDir, registryName)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", registryName, info.Mode(), err)
		}
		if !reopened {
			ts.reopen()
		}
	}
	admin = ts.adminWire()
	w := ts.dial()
	w.want("+OK", "SELECT", "ns")
	admin.want("+OK", "NSSET", "ns", "public", "0")
	w.want("-Namespace protected and private", "SELECT", "ns")
	w.want("nil", "GET", "k") // the session from before keeps its rights
	w.want("+OK", "SELECT", "ns", "secret")
	admin.want("+OK", "NSSET", "ns", "password", "other")
	w.want("-Access denied", "SELECT", "ns", "secret")
	w.want("+OK", "SELECT", "ns", "other")
	admin.want("+OK", "NSSET", "ns", "password", "*")
	w.want("+OK", "SELECT", "ns")
	w.want(`"k"`, "SET", "k", "v")
}

func TestGuessingEndsTheConnection(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.dial()
	for range maxFailures - 1 {
		w.want("-Access denied", "AUTH", "guess")
	}
	w.want("-Access denied, too many attempts", "AUTH", "guess")
	w.closed()
}

func TestAdminChallenge(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.dial()
	nonce := strings.TrimPrefix(w.do("AUTH", "SECURE", "CHALLENGE"), "+")
	response := challengeResponse(nonce, adminPassword)
	w.want("+OK", "AUTH", "SECURE", response)
	w.want("-No CHALLENGE requested, secure authentication not available", "AUTH", "SECURE", response)
	w.want("+OK", "NSNEW", "x")
}

func TestWithoutAdminPassword(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Admin = "" })
	ts.dial().play([]step{
		do("-Authentication disabled", "AUTH", "x"), do("-Authentication disabled", "AUTH", ""), do("+OK", "NSNEW", "x"),
		do("~\\+[0-9a-f]{16}", "AUTH", "SECURE", "CHALLENGE"), do("-Authentication disabled", "AUTH", "SECURE", strings.Repeat("0", 40)),
	})
}

func TestProtectedDefault(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Protect = true })
	for range 2 {
		w := ts.dial()
		w.play([]step{
			do("-Namespace is in read-only mode", "SET", "k", "v"), do("+OK", "AUTH", adminPassword), do("-Namespace is in read-only mode", "SET", "k", "v"),
			do("+OK", "SELECT", "default", adminPassword), do("+OK", "NSSET", "default", "lock", "0"), do(`"k"`, "SET", "k", "v"), do("+OK", "DEL", "k"),
		})
		ts.reopen()
	}
	raw, err := os.ReadFile(filepath.Join(ts.o.DataDir, registryName))
	if err != nil || bytes.Contains(raw, []byte("hash")) {
		t.Errorf("the admin password's hash was saved: %s, %v", raw, err)
	}
}

func TestProperties(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	user := ts.dial()
	w.want("+OK", "NSNEW", "ns")
	user.want("+OK", "SELECT", "ns")
	user.want(`"k"`, "SET", "k", "v")
	w.play([]step{
		do("-Namespace not found", "NSSET", "none", "worm", "1"), do("-Invalid property", "NSSET", "ns", "what", "1"), do("-Invalid property", "NSSET", "ns", "WORM", "1"),
		do("-Cannot update default namespace", "NSSET", "default", "worm", "1"), do("-Cannot update default namespace", "NSSET", "default", "what", "1"),
		do("-Unexpected arguments", "NSSET", "ns", "worm"), do("-Invalid argument", "NSSET", "ns", "worm", ""), do("-Namespace too long", "NSSET", strings.Repeat("x", 129), "worm", "1"),
		do("-Argument too long", "NSSET", "ns", "worm", strings.Repeat("1", 64)), do("-Argument too long", "NSSET", "ns", strings.Repeat("x", 257), "1"),
		do("-Invalid argument", "NSSET", "ns", "maxsize", "1M"), do("-Cannot change mode of used namespace", "NSSET", "ns", "mode", "user"), do("-Invalid property value (expected: user, seq)", "NSSET", "ns", "mode", "x"),
		do("-Cannot change mode of used namespace", "NSSET", "ns", "mode", "seq"),
	})
	locked, frozen := "-Namespace is temporarily locked (read-only)", "-Namespace is temporarily frozen (read-write disabled)"
	w.want("+OK", "NSSET", "ns", "lock", "1")
	user.play([]step{do(locked, "SET", "k", "x"), do(locked, "DEL", "k"), do(locked, "CAS", "k", "x"), do(`"v"`, "GET", "k")})
	ts.reopen()
	w, user = ts.adminWire(), ts.dial()
	user.want("+OK", "SELECT", "ns")
	user.want(locked, "SET", "k", "x")
	w.want("+OK", "NSSET", "ns", "freeze", "1")
	user.play([]step{
		do(frozen, "SET", "k", "x"), do(frozen, "DEL", "k"), do(frozen, "GET", "k"), do(frozen, "MGET", "k"), do(frozen, "EXISTS", "k"), do(frozen, "CHECK", "k"),
		do(frozen, "SCAN"), do(frozen, "PSCAN", ""), do(":1", "DBSIZE"), do("+OK", "SELECT", "ns"),
	})
	w.want("+OK", "NSSET", "ns", "lock", "0")
	w.want("+OK", "NSSET", "ns", "worm", "1")
	user.play([]step{
		do("-Namespace is protected by worm mode", "SET", "k", "x"), do("-Namespace is protected by worm mode", "SET", "k", "v"),
		do("-Cannot delete a key when namespace is in worm mode", "DEL", "k"), do("-Key not found", "DEL", "none"),
		do("-Namespace is protected by worm mode", "CAS", "k", "x", "v"), do(":1", "CAS", "new", "x"), do(`"l"`, "SET", "l", "x"), do(`"v"`, "GET", "k"),
	})
	w.want("+OK", "NSSET", "ns", "worm", "0")
	user.want("+OK", "DEL", "k")
}

func TestQuota(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	full := "-No space left on this namespace"
	w.play([]step{
		do("+OK", "NSNEW", "ns"), do("+OK", "NSSET", "ns", "maxsize", "16"), do("+OK", "SELECT", "ns"),
		do(full, "SET", "a", "0123456789abcdefX"), do(`"a"`, "SET", "a", "0123456789abcdef"), do(full, "SET", "b", "x"), do(`"b"`, "SET", "b", ""),
		do(`"a"`, "SET", "a", "fedcba9876543210"), do(full, "SET", "a", "0123456789abcdefX"), do(full, "CAS", "c", "x"),
		do(`"a"`, "SET", "a", "012345"), do(`"c"`, "SET", "c", "0123456789"), do(full, "SET", "d", "x"),
		do("+OK", "DEL", "c"), do(`"d"`, "SET", "d", "x"), do(full, "SET", "c", "0123456789"),
		do("+OK", "NSSET", "ns", "maxsize", "2"), do(`"a"`, "SET", "a", "0123"), do(full, "SET", "a", "01234"), do("+OK", "DEL", "a"), do(`"a"`, "SET", "a", "0"),
	})
	ts.reopen()
	w = ts.adminWire()
	w.play([]step{do("+OK", "SELECT", "ns"), do(full, "SET", "x", "x"), do("+OK", "DEL", "d"), do(`"x"`, "SET", "x", "x"), do(":3", "DBSIZE")})
	if got := ts.info(w, "ns"); got["space_available"] != "0" || got["data_size_bytes"] != "2" || got["data_limits_bytes"] != "2" {
		t.Errorf("space %q, size %q, limit %q", got["space_available"], got["data_size_bytes"], got["data_limits_bytes"])
	}
}

func TestIncarnation(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	seen := map[string]bool{}
	for range 3 {
		w.want("+OK", "NSNEW", "ns")
		w.want("+OK", "SELECT", "ns")
		id := w.do("INCARNATION")
		if len(id) != 34 || seen[id] {
			t.Fatalf("incarnation %s, earlier ones %v", id, seen)
		}
		seen[id] = true
		if got := ts.info(w, "ns")["incarnation"]; `"`+got+`"` != id {
			t.Errorf("NSINFO says incarnation %s, INCARNATION says %s", got, id)
		}
		w.want(`"k"`, "SET", "k", "v")
		ts.reopen()
		w = ts.adminWire()
		w.want("+OK", "SELECT", "ns")
		w.want(id, "INCARNATION")
		w.want("+OK", "SELECT", "default")
		w.want("+OK", "NSDEL", "ns")
	}
	w.want("-Unexpected arguments", "INCARNATION", "x")

	// Wiped directories are another incarnation, with the same settings.
	w.want("+OK", "NSNEW", "ns")
	w.want("+OK", "NSSET", "ns", "password", "secret")
	w.want("+OK", "SELECT", "ns", "secret")
	id := w.do("INCARNATION")
	ts.Close()
	for _, dir := range []string{ts.o.DataDir, ts.o.IndexDir} {
		if err := os.RemoveAll(filepath.Join(dir, "ns")); err != nil {
			t.Fatal(err)
		}
	}
	ts.open()
	w = ts.dial()
	w.want("+OK", "SELECT", "ns", "secret")
	if again := w.do("INCARNATION"); again == id || len(again) != 34 {
		t.Errorf("after the wipe the incarnation is %s, before %s", again, id)
	}
}

// Sessions in a namespace that is removed are told, and closed.
func TestRemovalDetachesSessions(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	removed := "-Your active namespace is not available anymore (probably removed)."
	var users []*wire
	for range 3 {
		u := ts.dial()
		u.want("+OK", "SELECT", "ns")
		u.want(`"k"`, "SET", "k", u.nc.LocalAddr().String())
		users = append(users, u)
	}
	// One of them writes without pause while the namespace goes away.
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for { // until the connection is closed
			if _, err := users[0].nc.Write(request("SET", "k", "v")); err != nil {
				return
			}
		}
	}()
	eventually(t, "replies flow", func() bool { return users[0].reply() == `"k"` || true })
	w.want("+OK", "NSDEL", "ns")
	var last []string
	for i := 0; ; i++ {
		got := users[0].reply()
		last = append(last[max(0, len(last)-6):], got)
		if got == removed {
			break
		}
		if strings.HasPrefix(got, "broken") {
			t.Errorf("the writing session ended with %s after %d: %q", got, i, last)
			break
		}
	}
	users[0].nc.Close()
	<-stop
	users[1].want(removed, "PING")
	users[1].closed()
	users[2].raw(append(request("SELECT", "default"), request("PING")...))
	for range 2 {
		if got := users[2].reply(); got != removed {
			t.Errorf("got %s", got)
		}
	}
	users[2].closed()
	w.want("+OK", "NSNEW", "ns")
	w.want("+OK", "SELECT", "ns")
	w.want(":0", "DBSIZE")
}

func TestEnsureNamespace(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ctx := t.Context()
	for _, tc := range []struct {
		name, password string
		ok             bool
	}{
		{"a", "pw", true}, {"a", "pw", true}, {"a", "", true}, {"a", "other", false}, {"b", "", true}, {"b", "pw", false}, {"default", "", true},
		{"default", "pw", false}, {"../x", "", false}, {"c", strings.Repeat("x", 64), false},
	} {
		if err := ts.EnsureNamespace(ctx, tc.name, tc.password); (err == nil) != tc.ok {
			t.Errorf("EnsureNamespace(%q, %q): %v", tc.name, tc.password, err)
		}
	}
	w := ts.dial()
	w.play([]step{do("-Namespace protected and private", "SELECT", "a"), do("+OK", "SELECT", "a", "pw"), do("+OK", "SELECT", "b")})
}

// Without its registry a data directory is not served, and a damaged one is not guessed at.
func TestRegistryFaults(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ts.adminWire().play([]step{do("+OK", "NSNEW", "ns"), do("+OK", "NSSET", "ns", "password", "secret")})
	ts.Close()
	path := filepath.Join(ts.o.DataDir, registryName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, content := range map[string]string{
		"empty": "", "cut": string(good[:len(good)-5]), "of another version": `{"version":3,"namespaces":{}}`, "without namespaces": `{"version":1}`,
		"with a null": `{"version":1,"namespaces":{"ns":null}}`, "with a bad hash": `{"version":1,"namespaces":{"ns":{"password":{"time":0}}}}`, "missing": "-",
	} {
		if content == "-" {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if srv, err := Open(context.Background(), ts.o); err == nil {
			srv.Close()
			t.Errorf("a registry that is %s was taken", what)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	ts.open()
	ts.dial().want("+OK", "SELECT", "ns", "secret")
}

// A crash in the middle of making or removing a namespace is finished by the next start.
func TestInterruptedChanges(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	for _, name := range []string{"stays", "going"} {
		w.play([]step{do("+OK", "NSNEW", name), do("+OK", "SELECT", name), do(`"k"`, "SET", "k", "v")})
	}
	ts.Close()
	all, _, err := loadRegistry(ts.o.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	all["going"].Removing = true
	all["coming"] = &settings{MaxSize: 7}
	if err := saveRegistry(ts.o.DataDir, all); err != nil {
		t.Fatal(err)
	}
	ts.open()
	w = ts.adminWire()
	w.play([]step{
		do(`["default" "coming" "stays"]`, "NSLIST"), do("-Namespace not found", "SELECT", "going"), do("+OK", "SELECT", "stays"), do(`"v"`, "GET", "k"),
		do("+OK", "SELECT", "coming"), do(":0", "DBSIZE"), do("-No space left on this namespace", "SET", "k", "12345678"),
		do("+OK", "NSNEW", "going"), do("+OK", "SELECT", "going"), do("nil", "GET", "k"),
	})
	// A directory that nobody listed is neither served nor overwritten.
	ts.Close()
	delete(all, "stays")
	delete(all, "going")
	if err := saveRegistry(ts.o.DataDir, all); err != nil {
		t.Fatal(err)
	}
	ts.open()
	w = ts.adminWire()
	w.play([]step{do("-Namespace not found", "SELECT", "stays"), do("-Could not create namespace", "NSNEW", "stays")})
	if _, err := os.Stat(filepath.Join(ts.o.DataDir, "stays")); err != nil {
		t.Error(err)
	}
}

func FuzzRegistry(f *testing.F) {
	f.Add([]byte(`{"version":1,"namespaces":{"default":{},"ns":{"maxsize":16,"private":true,"worm":true,"locked":true,"removing":true}}}`))
	f.Add([]byte(`{"version":1,"namespaces":{"ns":{"password":{"time":1,"memory_kib":16384,"threads":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA==","hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}}}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":2,"namespaces":{"ns":{"keep_last":3,"keep_deleted":"30d","sequential":true}}}`))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`not JSON`))
	f.Add([]byte(`{"version":1,"namespaces":{"ns":{"password":{"time":0}}}}`))
	f.Add([]byte(`{"version":1,"namespaces":{"ns":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := decodeRegistry(raw)
		if err != nil {
			return
		}
		dir := t.TempDir()
		if err := saveRegistry(dir, all); err != nil {
			t.Fatal(err)
		}
		if _, found, err := loadRegistry(dir); err != nil || !found {
			t.Fatalf("what was saved does not load: %v", err)
		}
	})
}
