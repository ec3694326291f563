package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"qsfs/zdb"
)

// history follows the cursors from the present version on.
func (w *wire) history(key string) (values []string) {
	w.t.Helper()
	args := []string{"HISTORY", key}
	for {
		w.send(args...)
		v, err := w.in.Read()
		if err != nil {
			w.t.Fatal(err)
		}
		if len(v.Array) != 3 {
			return append(values, show(v))
		}
		values = append(values, fmt.Sprintf("%.30s", v.Array[2].Data))
		if next := v.Array[0].Data; len(next) != 8 {
			return values
		}
		args = []string{"HISTORY", key, string(v.Array[0].Data)}
	}
}

// keepLast sets what NSSET does not take for the default namespace.
func keepLast(t *testing.T, ts *testServer, n int) {
	t.Helper()
	if err := ts.changeSettings(ts.lookup(defaultNamespace), func(set *settings) { set.KeepLast = n }, nil); err != nil {
		t.Fatal(err)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w, admin := ts.dial(), ts.adminWire()
	w.play([]step{
		do("-Key not found", "HISTORY", "k"), do(`"k"`, "SET", "k", "one"), do(`~\[nil "1[0-9]{9}" "one"\]`, "HISTORY", "k"),
		do(`"k"`, "SET", "k", "two"), do(`~\[nil "1[0-9]{9}" "two"\]`, "HISTORY", "k"), // nothing is kept unless told
		do("-Invalid arguments", "HISTORY"), do("-Invalid arguments", "HISTORY", "k", "1", "2"), do("-Invalid arguments", "HISTORY", "k", "1234567"),
		do("-No more history", "HISTORY", "k", strings.Repeat("\x00", 8)), do("-Invalid arguments (index query)", "HISTORY", "k", strings.Repeat("\xff", 8)),
		do("-Key not found", "HISTORY", ""), do("-Invalid arguments", "HISTORY", strings.Repeat("k", 256)),
	})
	keepLast(t, ts, 3)
	big := strings.Repeat("3 is large ", 60_000)
	for _, v := range []string{big, "4", "5"} {
		w.want(`"k"`, "SET", "k", v)
	}
	for _, c := range []*wire{w, admin} {
		if got := fmt.Sprintf("%.80s", c.history("k")); got != "[5 4 "+big[:30]+"]" {
			t.Errorf("history: %s", got)
		}
	}
	// A cursor outlives a change of the key and a restart, and is good for its key only.
	w.send("HISTORY", "k")
	v, err := w.in.Read()
	if err != nil {
		t.Fatal(err)
	}
	cursor := string(v.Array[0].Data)
	w.want(`"k"`, "SET", "k", "6")
	w.want(`"l"`, "SET", "l", "other")
	ts.reopen()
	w, admin = ts.dial(), ts.adminWire()
	if got := w.do("HISTORY", "k", cursor); !strings.HasSuffix(got, `"4"]`) {
		t.Errorf("at the cursor: %s", got)
	}
	w.want("-Invalid arguments (index query)", "HISTORY", "l", cursor)
	w.want("-Invalid arguments (index query)", "HISTORY", "", cursor)
	// After a delete others begin anew; admins see what was before.
	w.want("+OK", "DEL", "k")
	w.want("-Key not found", "HISTORY", "k")
	if got := fmt.Sprint(admin.history("k")); got != "[6 5]" {
		t.Errorf("an admin's history of a deleted key: %s", got)
	}
	w.want(`"k"`, "SET", "k", "7")
	if got := fmt.Sprint(w.history("k")); got != "[7]" {
		t.Errorf("the history after a delete: %s", got)
	}
	if got := fmt.Sprint(admin.history("k")); got != "[7 6]" {
		t.Errorf("an admin's history over a delete: %s", got)
	}
}

func TestHistoryOfIDs(t *testing.T) {
	ts := start(t, func(o *Options) { o.Mode = ModeSequential })
	w := ts.dial()
	w.want(quoted(0), "SET", "", "a")
	keepLast(t, ts, 2)
	w.want(quoted(0), "SET", id(0), "b")
	if got := fmt.Sprint(w.history(id(0))); got != "[b a]" {
		t.Errorf("history: %s", got)
	}
	w.want("-Key not found", "HISTORY", "\x00")
	w.want("-Key not found", "HISTORY", "x")
}

// What compaction moves while it is read is found at its new place.
func TestReadsAmongCompaction(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.NoSync = true; o.SegmentSize = 512 << 10 })
	small, large := strings.Repeat("s", 20<<10), strings.Repeat("L", 600<<10)
	w := ts.dial()
	w.want(`"large"`, "SET", "large", large)
	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		defer close(done)
		eng := ts.lookup("default").eng.Load()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := eng.Compact(context.Background(), zdb.CompactOptions{All: true}); err != nil {
				done <- err
				return
			}
		}
	}()
	for round := range 40 {
		for i := range 10 {
			key := fmt.Sprint(i)
			w.want(fmt.Sprintf("%q", key), "SET", key, fmt.Sprint(round, small))
			w.want(fmt.Sprintf("%q", fmt.Sprint(round, small)), "GET", key)
		}
		w.want("nil", "SET", "0", fmt.Sprint(round, small)) // compared with what is stored
		if got := w.do("GET", "large"); len(got) != len(large)+2 {
			t.Fatalf("round %d: %.80s", round, got)
		}
		if got := w.history("large"); len(got) != 1 || got[0] != large[:30] {
			t.Fatalf("round %d: history %.80s", round, got)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDataRaw(t *testing.T) {
	ts := start(t, nil)
	ts.dial().want("-Permission denied", "DATA", "RAW", "0", "28")
	w := ts.adminWire()
	w.play([]step{
		do("-Missing arguments", "DATA"), do("-Unknown DATA subcommand", "DATA", "x"), do("-Missing arguments", "DATA", "raw"), do("-Missing arguments", "DATA", "RAW", "0"),
		do("-Invalid Request", "DATA", "RAW", "0", "x"), do("-Invalid Request", "DATA", "RAW", "7", "28"), do("-EOF", "DATA", "RAW", "0", "28"),
		do(`"1"`, "SET", "1", "1"), do(`"two"`, "SET", "two", "value"), do(`"1"`, "SET", "1", ""), do("+OK", "DEL", "two"), do(":1", "CAS", "cas", "a"),
		do(`~\["1" :0 "0xc288cab2" :0 :1[0-9]{9} "1"\]`, "DATA", "RAW", "0", "28"),
		do(`~\["two" :28 "0x[0-9a-f]{8}" :0 :1[0-9]{9} "value"\]`, "DATA", "RAW", "0", "48"),
		do(`~\["1" :48 "0x00000000" :0 :1[0-9]{9} ""\]`, "DATA", "RAW", "0", "74"),
		do(`~\["two" :74 "0x00000000" :1 :1[0-9]{9} ""\]`, "DATA", "RAW", "0", "93"),
		do(`~\["cas" :93 "0x93ad1061" :0 :1[0-9]{9} "a"\]`, "DATA", "RAW", "0", "114"),
		do("-EOF", "DATA", "RAW", "0", "136"), do("-EOF", "DATA", "RAW", "0", "1000"), do("-Invalid Request", "DATA", "RAW", "0", "75"), do("-Invalid Request", "DATA", "RAW", "0", "0"),
		do("-Invalid Request", "DATA", "RAW", "0", "-1"),
		do(`~\["two" :28 .*\]`, "DATA", "RAW", "0", "48", "more"), // again, and what follows is ignored
		do("+OK", "NSJUMP"), do(`"3"`, "SET", "3", "v"), do("-EOF", "DATA", "RAW", "0", "136"), do(`~\["cas" :93 .*\]`, "DATA", "RAW", "0", "114"),
		do(`~\["3" :0 .* "v"\]`, "DATA", "RAW", "1", "28"), do("-EOF", "DATA", "RAW", "1", "48"),
	})
}

// A walk finds what was written, one record after the other, and not the count of ids.
func TestDataRawWalk(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Mode = ModeSequential; o.NoSync = true })
	w := ts.adminWire()
	for i := range uint64(500) {
		w.want(quoted(i), "SET", "", strings.Repeat("v", int(i)))
	}
	off, before := int64(28), int64(0)
	for i := range uint64(500) {
		w.send("DATA", "RAW", "0", fmt.Sprint(off))
		w.nc.SetReadDeadline(time.Now().Add(patience))
		v, err := w.in.Read()
		if err != nil || len(v.Array) != 6 {
			t.Fatalf("%d: %s, %v", i, show(v), err)
		}
		if n := binary.LittleEndian.Uint64(v.Array[0].Data); n != i || v.Array[1].Int != before || len(v.Array[5].Data) != int(i) {
			t.Fatalf("record %d at %d: %s", i, off, show(v))
		}
		before = off
		off += 18 + 8 + int64(i)
	}
	w.want("-EOF", "DATA", "RAW", "0", fmt.Sprint(off))
}

func TestIndexDirty(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ts.dial().want("-Permission denied", "INDEX", "DIRTY")
	ts.adminWire().play([]step{
		do("-Missing arguments", "INDEX"), do("-Unknown INDEX subcommand", "INDEX", "x"), do("-Argument too long", "INDEX", strings.Repeat("x", 257)),
		do("-Unknown INDEX DIRTY subcommand", "INDEX", "DIRTY", "x"), do("-Invalid argument", "INDEX", "DIRTY", ""),
		do("[]", "INDEX", "DIRTY"), do(`"a"`, "SET", "a", "1"), do(`"b"`, "SET", "b", "1"), do("+OK", "NSJUMP"), do("[]", "INDEX", "DIRTY"),
		do(`"c"`, "SET", "c", "1"), do(`"c"`, "SET", "c", "2"), do("[:1]", "INDEX", "dirty"), do("+OK", "DEL", "a"), do("[:0 :1]", "INDEX", "DIRTY", "more", "words"),
		do("+OK", "index", "dirty", "reset"), do("[]", "INDEX", "DIRTY"), do(`"b"`, "SET", "b", "2"), do("[:0]", "INDEX", "DIRTY"),
		do("+OK", "RELOAD", "default"), do("[]", "INDEX", "DIRTY"),
	})
}
