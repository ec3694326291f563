package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qsfs/zdb/client"
	"qsfs/zdb/resp"
)

// pipeWire is a session without a socket, which fits into a bubble with a clock of its own.
func pipeWire(t *testing.T, s *Server) *wire {
	here, there := net.Pipe()
	s.admit(there)
	return &wire{t, here, resp.NewDecoder(here, resp.ReplyLimits{})}
}

// What is deleted and overwritten stays readable to the admin for as long as keep_deleted says, whatever anybody without
// the admin's password does, and goes when its time is over. The clock is that of the bubble.
func TestKeepDeleted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := Options{DataDir: filepath.Join(dir, "d"), IndexDir: filepath.Join(dir, "i"), Admin: adminPassword, Ballast: -1, KeepDeleted: time.Hour}
		srv, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer srv.Close()
		admin := pipeWire(t, srv)
		defer admin.nc.Close()
		admin.want("+OK", "AUTH", adminPassword)
		admin.want("+OK", "NSNEW", "ns")
		admin.want("+OK", "NSSET", "ns", "password", "secret")
		admin.want("+OK", "NSSET", "ns", "public", "0")

		front := pipeWire(t, srv) // has the password of the namespace, and no more
		defer front.nc.Close()
		front.want("+OK", "SELECT", "ns", "secret")
		began := time.Now()
		front.want(`"a"`, "SET", "a", "first")
		front.want(`"b"`, "SET", "b", "kept")
		time.Sleep(10 * time.Minute)
		front.want(`"a"`, "SET", "a", "second")
		front.want("+OK", "DEL", "b")

		// Nothing that the front machine can do makes it shorter.
		for _, attack := range [][]string{
			{"FLUSH"}, {"NSDEL", "ns"}, {"NSSET", "ns", "keep_deleted", "0"}, {"NSSET", "ns", "keep_last", "1"}, {"RELOAD", "ns"}, {"NSJUMP"},
			{"SET", "a", "x", "1"}, {"DEL", "a", "1"}, {"COMPACT", "ns", "ALL"}, {"KEPT", "KEYS", "ns"}, {"KEPT", "VERSIONS", "ns", "b"}, {"KEPT", "GET", "ns", "b", "1"},
		} {
			if got := front.do(attack...); !strings.HasPrefix(got, "-Permission denied") {
				t.Errorf("%q: %s", attack, got)
			}
		}
		front.want(`"b"`, "SET", "b", "ransom")
		front.want("+OK", "DEL", "b")
		front.want("+OK", "DEL", "a")
		time.Sleep(30 * time.Minute)
		admin.want("+OK", "COMPACT", "ns", "ALL")
		settled(admin, "ns")

		versions := func(key string) (all []string) {
			t.Helper()
			admin.send("KEPT", "VERSIONS", "ns", key)
			admin.nc.SetReadDeadline(time.Now().Add(time.Minute))
			v, err := admin.in.Read()
			if err != nil || v.Kind != resp.Array {
				t.Fatalf("versions of %s: %s, %v", key, show(v), err)
			}
			for _, e := range v.Array {
				if e.Array[2].Int == 1 {
					all = append(all, "deleted")
					continue
				}
				all = append(all, admin.do("KEPT", "GET", "ns", key, string(e.Array[0].Data)))
			}
			return all
		}
		for key, want := range map[string]string{"a": `[deleted "second" "first"]`, "b": `[deleted "ransom" deleted "kept"]`} {
			if got := fmt.Sprint(versions(key)); got != want {
				t.Errorf("%s: got %s, want %s", key, got, want)
			}
		}
		if got, want := admin.do("KEPT", "KEYS", "ns"), fmt.Sprintf(`[nil [["a" :%d :%d :6] ["b" :%d :%d :6]]]`,
			began.Add(10*time.Minute).UnixMilli(), began.Add(10*time.Minute).UnixMilli(), began.Add(10*time.Minute).UnixMilli(), began.Add(10*time.Minute).UnixMilli()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := admin.do("KEPT", "KEYS", "ns", "", "", "1"); !strings.HasPrefix(got, `["a" [["a" `) {
			t.Errorf("a page of one: %s", got)
		}
		if got := admin.do("KEPT", "KEYS", "ns", "b"); !strings.HasPrefix(got, `[nil [["b" `) {
			t.Errorf("with a prefix: %s", got)
		}
		front.want("nil", "GET", "b")

		// The time is over: an hour after the ten minutes.
		time.Sleep(31 * time.Minute)
		if got := fmt.Sprint(versions("a")) + fmt.Sprint(versions("b")); strings.Contains(got, "first") || strings.Contains(got, "kept") {
			t.Errorf("after an hour: %s", got)
		}
		admin.want("[nil []]", "KEPT", "KEYS", "ns")
		time.Sleep(10 * time.Minute)           // a sixteenth of the time passes until what is over is looked for
		front.want(`"c"`, "SET", "c", "later") // a segment is compacted once there is something behind it
		admin.want("+OK", "COMPACT", "ns", "ALL")
		settled(admin, "ns")
	})
	// The bytes are gone from the disk too.
	files, err := filepath.Glob(filepath.Join(dir, "d", "ns", "d*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"first", "ransom"} {
			if strings.Contains(string(raw), value) {
				t.Errorf("%s still holds %q", f, value)
			}
		}
	}
}

// settled waits for a compaction.
func settled(admin *wire, namespace string) {
	admin.t.Helper()
	for range 1000 {
		if got := admin.do("COMPACT", namespace, "STATUS"); strings.HasPrefix(got, "[:0 ") {
			if !strings.HasSuffix(got, ":0]") {
				admin.t.Errorf("the compaction failed: %s", got)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	admin.t.Fatal("the compaction does not end")
}

func TestKeepSettings(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	for _, bad := range []string{"x", "-1d", "30", "200000d", "1.5d", "d"} {
		w.want("-"+errKeepDeleted, "NSSET", "ns", "keep_deleted", bad)
	}
	for _, bad := range []string{"0", "-1", "x", "99999999"} {
		w.want("-"+errKeepLast, "NSSET", "ns", "keep_last", bad)
	}
	w.want("-"+errUpdateDefault, "NSSET", "default", "keep_deleted", "1d")
	w.want("+OK", "NSSET", "ns", "keep_deleted", "30d")
	w.want("+OK", "NSSET", "ns", "keep_last", "3")
	check := func() {
		t.Helper()
		info := w.do("NSINFO", "ns")
		if !strings.Contains(info, `\nkeep_last: 3\n`) || !strings.Contains(info, `\nkeep_deleted: 30d\n`) {
			t.Errorf("NSINFO: %s", info)
		}
		if r := ts.lookup("ns").eng.Load().Retention(); r.KeepLast != 3 || r.KeepFor != 30*day {
			t.Errorf("the engine keeps %+v", r)
		}
	}
	check()
	ts.reopen()
	w = ts.adminWire()
	check()
	// Where everybody is admin nothing can be promised.
	w.want("+OK", "NSSET", "ns", "keep_deleted", "0")
	ts.o.Admin = ""
	ts.reopen()
	w = ts.dial()
	w.want("-"+errKeepNeedsAdmin, "NSSET", "ns", "keep_deleted", "1h")
	if err := (Options{DataDir: "d", IndexDir: "i", KeepDeleted: time.Hour}).Validate(); err == nil || !strings.Contains(err.Error(), "admin password") {
		t.Errorf("keeping without an admin password: %v", err)
	}
}

// A server without an admin password, where everybody is admin, does not open what promises to keep what is deleted. With
// any password it does, and without one again when nothing is kept any more.
func TestKeepDeletedNeedsAdmin(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ts.adminWire().play([]step{
		do("+OK", "NSNEW", "keeps"), do("+OK", "NSSET", "keeps", "keep_deleted", "1d"),
		do("+OK", "NSNEW", "gone"), do("+OK", "NSSET", "gone", "keep_deleted", "1d"), do("+OK", "NSDEL", "gone"), do("+OK", "NSNEW", "plain"),
	})
	refused := func(what string, names ...string) {
		t.Helper()
		ts.Close()
		o := ts.o
		o.Admin = ""
		srv, err := Open(t.Context(), o)
		if err == nil {
			srv.Close()
		}
		if !errors.Is(err, ErrKeepNeedsAdmin) {
			t.Fatalf("%s, without a password: %v", what, err)
		}
		for _, name := range []string{"keeps", "gone/", "plain"} {
			if strings.Contains(err.Error(), name) != slices.Contains(names, name) {
				t.Errorf("%s: the error names other namespaces than %q: %v", what, names, err)
			}
		}
		<-ts.served
		ts.o.Admin = "another"
		ts.open()
		w := ts.dial()
		w.want("+OK", "AUTH", "another")
		switch what {
		case "both":
			w.want("+OK", "NSSET", "keeps", "keep_deleted", "0")
		case "one is set aside":
			for _, n := range ts.allRemoved() {
				w.want("+OK", "KEPT", "DROP", n.name)
			}
		}
	}
	refused("both", "keeps", "gone/")
	refused("one is set aside", "gone/")
	ts.o.Admin = ""
	ts.reopen()
	ts.dial().want(`["default" "keeps" "plain"]`, "NSLIST")
}

func TestAges(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "30d": 30 * day, "2w": 14 * day, "12h": 12 * time.Hour, "90m": 90 * time.Minute, "1h30m": 90 * time.Minute,
	} {
		got, err := ParseAge(text)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
		if again, err := ParseAge(FormatAge(got)); err != nil || again != got {
			t.Errorf("%v is written %q and read %v, %v", got, FormatAge(got), again, err)
		}
	}
}

// The client's side of what only the admin sees.
func TestKeptClient(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	w.want("+OK", "NSSET", "ns", "keep_deleted", "1d")
	w.want("+OK", "SELECT", "ns")
	for i := range 25 {
		w.do("SET", fmt.Sprintf("k%02d", i), "value "+strconv.Itoa(i))
		w.want("+OK", "DEL", fmt.Sprintf("k%02d", i))
	}
	c, err := client.Dial(t.Context(), client.Options{Address: ts.address, Admin: adminPassword})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var cursor []byte
	n := 0
	for {
		keys, next, err := c.DeletedKeys(t.Context(), "ns", []byte("k"), cursor, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			versions, err := c.Versions(t.Context(), "ns", k.Key, 0)
			if err != nil || len(versions) != 2 || !versions[0].Deleted || versions[1].Deleted || time.Since(k.Deleted) > time.Minute {
				t.Fatalf("%s: %+v, %v", k.Key, versions, err)
			}
			value, err := c.VersionValue(t.Context(), "ns", k.Key, versions[1].Seq)
			if want := "value " + strconv.Itoa(n); err != nil || string(value) != want || int64(len(want)) != k.Length {
				t.Errorf("%s: %q, %v; want %q of %d", k.Key, value, err, want, k.Length)
			}
			n++
		}
		if cursor = next; next == nil {
			break
		}
	}
	if n != 25 {
		t.Errorf("%d deleted keys", n)
	}
	if err := c.Compact(t.Context(), "ns", true); err != nil {
		t.Error(err)
	}
	for {
		s, err := c.CompactStatus(t.Context(), "ns")
		if err != nil || s.Failed {
			t.Fatalf("%+v, %v", s, err)
		}
		if !s.Running {
			break
		}
	}
}
