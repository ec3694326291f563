package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qsfs/zdb"
	"qsfs/zdb/client"
)

// What a namespace with keep_deleted had is readable to the admin after FLUSH and after NSDEL, over restarts too, to
// nobody else, and gone after DROP.
func TestKeepRemoved(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	for _, args := range [][]string{
		{"NSNEW", "ns"}, {"NSSET", "ns", "password", "secret"}, {"NSSET", "ns", "public", "0"}, {"NSSET", "ns", "keep_deleted", "1d"}, {"SELECT", "ns", "secret"},
	} {
		w.want("+OK", args...)
	}
	w.want(`"a"`, "SET", "a", "one")
	w.want(`"b"`, "SET", "b", "two")
	w.want("+OK", "DEL", "a")
	w.want(`"c"`, "SET", "c", "three")
	incarnation := w.do("INCARNATION")
	w.want("+OK", "FLUSH")
	w.want(":0", "DBSIZE")
	w.want("nil", "GET", "b")
	if w.do("INCARNATION") == incarnation {
		t.Error("the emptied namespace has the old incarnation")
	}
	w.want(`"b"`, "SET", "b", "after")
	c, err := client.Dial(t.Context(), client.Options{Address: ts.address, Admin: adminPassword})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	removed := func(n int) []client.RemovedNamespace {
		t.Helper()
		list, err := c.RemovedNamespaces(t.Context())
		if err != nil || len(list) != n {
			t.Fatalf("%d removed namespaces: %+v, %v", n, list, err)
		}
		return list
	}
	first := removed(1)[0]
	if !strings.HasPrefix(first.Name, "ns/") || time.Since(first.Removed) > time.Minute || first.Until.Sub(first.Removed).Round(time.Minute) != 24*time.Hour || first.Bytes == 0 {
		t.Errorf("%+v", first)
	}
	read := func(name string) (all []string) {
		t.Helper()
		var cursor []byte
		for {
			keys, next, err := c.DeletedKeys(t.Context(), name, nil, cursor, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keys {
				versions, err := c.Versions(t.Context(), name, k.Key, 0)
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range versions {
					if !v.Deleted {
						value, err := c.VersionValue(t.Context(), name, k.Key, v.Seq)
						if err != nil {
							t.Fatal(err)
						}
						all = append(all, fmt.Sprintf("%s=%s", k.Key, value))
					}
				}
			}
			if cursor = next; next == nil {
				return all
			}
		}
	}
	const had = "[a=one b=two c=three]"
	if got := fmt.Sprint(read(first.Name)); got != had {
		t.Errorf("after FLUSH: got %s, want %s", got, had)
	}
	w.want("+OK", "SELECT", "default")
	w.want("+OK", "NSDEL", "ns")
	w.want("-"+errNoNamespace, "SELECT", "ns", "secret")
	w.want("+OK", "NSNEW", "ns") // begins anew beside what is kept
	w.want("+OK", "SELECT", "ns")
	w.want(":0", "DBSIZE")
	w.want(`"x"`, "SET", "x", "new")

	for range 2 {
		list := removed(2)
		for i, want := range []string{had, "[b=after]"} {
			if got := fmt.Sprint(read(list[i].Name)); got != want {
				t.Errorf("%s: got %s, want %s", list[i].Name, got, want)
			}
		}
		stranger := ts.dial()
		for _, attack := range [][]string{{"KEPT", "LIST"}, {"KEPT", "KEYS", first.Name}, {"KEPT", "DROP", first.Name}} {
			if got := stranger.do(attack...); !strings.HasPrefix(got, "-Permission denied") {
				t.Errorf("%q: %s", attack, got)
			}
		}
		for _, attack := range [][]string{{"SELECT", first.Name}, {"NSINFO", first.Name}} {
			stranger.want("-"+errNoNamespace, attack...)
		}
		w.want("-"+errUnknownToDrop, "NSDEL", first.Name)
		w.want("-"+errNoNamespace, "NSSET", first.Name, "keep_deleted", "0")
		w.want("-"+errNameRefused, "NSNEW", first.Name)
		w.want("-"+errNotRemoved, "KEPT", "DROP", "ns")
		ts.reopen()
		w = ts.adminWire()
		c.Close()
		if c, err = client.Dial(t.Context(), client.Options{Address: ts.address, Admin: adminPassword}); err != nil {
			t.Fatal(err)
		}
	}
	w.want("+OK", "SELECT", "ns")
	w.want(`"new"`, "GET", "x")
	if err := c.DropRemoved(t.Context(), first.Name); err != nil {
		t.Fatal(err)
	}
	removed(1)
	w.want("-"+errNoNamespace, "KEPT", "KEYS", first.Name)
	if _, err := os.Stat(filepath.Join(ts.o.DataDir, "ns")); !os.IsNotExist(err) {
		t.Errorf("the files are still there: %v", err)
	}
	// Without keep_deleted nothing is set aside.
	w.want("+OK", "SELECT", "default")
	w.want("+OK", "NSDEL", "ns")
	removed(1)
}

// A crash between the change of the registry and the making of what takes the place of an emptied namespace leaves it empty,
// and what it had readable.
func TestSetAsideIsWhole(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	for _, args := range [][]string{
		{"NSNEW", "ns"}, {"NSSET", "ns", "password", "secret"}, {"NSSET", "ns", "public", "0"}, {"NSSET", "ns", "keep_deleted", "1d"}, {"SELECT", "ns", "secret"},
	} {
		w.want("+OK", args...)
	}
	w.want(`"a"`, "SET", "a", "one")
	w.want("+OK", "FLUSH")
	ts.Close()
	dir, err := zdb.DirName(ts.lookup("ns").store())
	if err != nil || dir == "ns" {
		t.Fatalf("the emptied namespace is in %q, %v", dir, err)
	}
	for _, parent := range []string{ts.o.DataDir, ts.o.IndexDir} {
		if err := os.RemoveAll(filepath.Join(parent, dir)); err != nil {
			t.Fatal(err)
		}
	}
	ts.reopen()
	w = ts.adminWire()
	w.want("+OK", "SELECT", "ns", "secret")
	w.want(":0", "DBSIZE")
	w.want(`"b"`, "SET", "b", "two")
	name := ts.allRemoved()[0].name
	if got := w.do("KEPT", "KEYS", name); !strings.HasPrefix(got, `[nil [["a" `) {
		t.Errorf("what it had: %s", got)
	}
}

// What was set aside goes when its time is over, and not before.
func TestRemovedExpires(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := Options{DataDir: filepath.Join(dir, "d"), IndexDir: filepath.Join(dir, "i"), Admin: adminPassword, Ballast: -1, KeepDeleted: time.Hour}
		srv, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer srv.Close()
		w := pipeWire(t, srv)
		defer w.nc.Close()
		w.want("+OK", "AUTH", adminPassword)
		w.want("+OK", "NSNEW", "ns")
		w.want("+OK", "SELECT", "ns")
		w.want(`"a"`, "SET", "a", "one")
		w.want("+OK", "SELECT", "default")
		began := time.Now()
		w.want("+OK", "NSDEL", "ns")
		name := srv.allRemoved()[0].name
		time.Sleep(time.Until(began.Add(time.Hour - time.Second)))
		if got := w.do("KEPT", "KEYS", name); !strings.HasPrefix(got, `[nil [["a" `) {
			t.Errorf("within the hour: %s", got)
		}
		time.Sleep(2*time.Second + removedCheck)
		w.want("[]", "KEPT", "LIST")
		w.want("-"+errNoNamespace, "KEPT", "KEYS", name)
	})
	if left, err := filepath.Glob(filepath.Join(dir, "?", "*ns*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestRemovedIsRenewed: the moment of a removal is one of the present opening soon after each start, for those of very many openings are not remembered.
func TestRemovedIsRenewed(t *testing.T) {
	ts := start(t, nil)
	w := ts.adminWire()
	for _, args := range [][]string{{"NSNEW", "ns"}, {"NSSET", "ns", "keep_deleted", "30d"}, {"NSDEL", "ns"}} {
		w.want("+OK", args...)
	}
	was := ts.allRemoved()[0].set.Load().RemovedAt
	ts.reopen()
	now := was
	for range 1000 { // the server does it, too
		ts.forgetOld()
		if now = ts.allRemoved()[0].set.Load().RemovedAt; now != was {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, ok := ts.db.Passed(now); !ok || now[:33] == was[:33] || now[33:] != was[33:] {
		t.Errorf("%q became %q", was, now)
	}
	ts.admin.Lock()
	defer ts.admin.Unlock()
	all, _, err := loadRegistry(ts.o.DataDir)
	if name := ts.allRemoved()[0].name; err != nil || all[name] == nil || all[name].RemovedAt != now {
		t.Errorf("%+v is in the list, %v", all[name], err)
	}
}

// TestRemovedBesideTheClock: what was set aside is not old because the clock on the wall says so.
func TestRemovedBesideTheClock(t *testing.T) {
	ts := start(t, nil)
	w := ts.adminWire()
	for _, args := range [][]string{{"NSNEW", "ns"}, {"NSSET", "ns", "keep_deleted", "30d"}, {"NSDEL", "ns"}} {
		w.want("+OK", args...)
	}
	n := ts.allRemoved()[0]
	set := *n.set.Load()
	set.Removed = set.Removed.Add(-365 * 24 * time.Hour) // as if the clock had jumped
	n.set.Store(&set)
	ts.forgetOld()
	if len(ts.allRemoved()) != 1 {
		t.Fatal("it is gone")
	}
	for _, at := range []string{"", strings.Repeat("ab", 16) + ":5", set.RemovedAt + "000"} { // of an earlier server, of a clock that was lost, of a later day
		set := set
		set.RemovedAt = at
		n.set.Store(&set)
		ts.forgetOld()
		all, _, err := loadRegistry(ts.o.DataDir)
		if err != nil || len(ts.allRemoved()) != 1 {
			t.Fatalf("it is gone, %v", err)
		}
		anew := n.set.Load().RemovedAt
		if _, ok := ts.db.Passed(anew); !ok || all[n.name] == nil || all[n.name].RemovedAt != anew {
			t.Fatalf("of %q became %q, and %+v in the list", at, anew, all[n.name])
		}
		ts.forgetOld()
		if got := n.set.Load().RemovedAt; got != anew {
			t.Fatalf("%q became %q", anew, got)
		}
	}
}
