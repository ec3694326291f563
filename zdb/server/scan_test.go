package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// scanKeys follows the cursors to the end, with step called between the pages.
func (w *wire) scanKeys(step func(page int), command string, args ...string) (keys []string) {
	w.t.Helper()
	for page := 0; ; page++ {
		w.send(append([]string{command}, args...)...)
		v, err := w.in.Read()
		if err != nil {
			w.t.Fatal(err)
		}
		if len(v.Array) != 2 {
			if got := show(v); got != "-No more data" {
				w.t.Fatalf("%s: %s", command, got)
			}
			return keys
		}
		if n := len(v.Array[0].Data); n != 17 {
			w.t.Fatalf("a cursor of %d bytes", n)
		}
		for _, e := range v.Array[1].Array {
			keys = append(keys, string(e.Array[0].Data))
		}
		args = []string{string(v.Array[0].Data)}
		if step != nil {
			step(page)
		}
	}
}

// A cursor goes on behind its key whatever becomes of the key, be it short enough to lie in the cursor or not.
func TestCursorsOutliveTheirKeys(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, key string }{{"short", "%04d"}, {"long", strings.Repeat("long ", 40) + "%04d"}} {
		t.Run(tc.name, func(t *testing.T) {
			ts := start(t, func(o *Options) { o.NoSync = true })
			w, other := ts.dial(), ts.dial()
			var want []string
			for i := range 2500 {
				key := fmt.Sprintf(tc.key, i)
				want = append(want, key)
				w.want(fmt.Sprintf("%q", key), "SET", key, "value")
			}
			// What the cursor of a page names is deleted, replaced, or deleted before a restart.
			change := func(at func(page int) int) func(int) {
				return func(page int) {
					if i := at(page); page == 0 {
						other.want("+OK", "DEL", fmt.Sprintf(tc.key, i))
					} else {
						other.do("SET", fmt.Sprintf(tc.key, i), "another value")
					}
				}
			}
			if got := w.scanKeys(change(func(page int) int { return min(page*1000+999, 2499) }), "SCAN"); !slices.Equal(got, want) {
				t.Errorf("SCAN: %d keys", len(got))
			}
			want = slices.Delete(want, 999, 1000)
			if got := w.scanKeys(nil, "SCANX"); !slices.Equal(got, want) {
				t.Errorf("SCANX: %d keys", len(got))
			}
			slices.Reverse(want)
			if got := w.scanKeys(change(func(page int) int { return max(1500-page*1000, 0) }), "RSCAN"); !slices.Equal(got, want) {
				t.Errorf("RSCAN: %d keys", len(got))
			}
			other.do("SET", fmt.Sprintf(tc.key, 999), "back")

			// KEYCUR is the cursor behind a key, in both directions, and works after a restart.
			w.send("KEYCUR", fmt.Sprintf(tc.key, 999))
			v, err := w.in.Read()
			if err != nil || len(v.Data) != 17 {
				t.Fatalf("KEYCUR: %v, %v", v, err)
			}
			w.want("+OK", "DEL", fmt.Sprintf(tc.key, 999))
			ts.reopen()
			w = ts.dial()
			if got := w.scanKeys(nil, "SCAN", string(v.Data)); len(got) != 1499 || got[0] != fmt.Sprintf(tc.key, 1000) {
				t.Errorf("SCAN behind KEYCUR: %d keys", len(got))
			}
			if got := w.scanKeys(nil, "RSCAN", string(v.Data)); len(got) == 0 || got[0] != fmt.Sprintf(tc.key, 998) {
				t.Errorf("RSCAN behind KEYCUR: %d keys", len(got))
			}
		})
	}
}

func TestBadCursors(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w, admin := ts.dial(), ts.adminWire()
	long := strings.Repeat("k", 200)
	w.want(`"key"`, "SET", "key", "v")
	w.want(fmt.Sprintf("%q", long), "SET", long, "v")
	var cursors []string
	for _, key := range []string{"key", long} {
		w.send("KEYCUR", key)
		v, err := w.in.Read()
		if err != nil {
			t.Fatal(err)
		}
		cursors = append(cursors, string(v.Data))
	}
	bad := []string{"", "key", "k", long, strings.Repeat("\x00", 17), strings.Repeat("\xff", 17), cursors[0] + "x", cursors[1][:16], "\xff" + cursors[1][1:]}
	for _, c := range cursors {
		for i := range c {
			b := []byte(c)
			b[i] ^= 1
			bad = append(bad, string(b))
		}
	}
	for _, c := range bad {
		w.want("-Invalid key format", "SCAN", c)
		w.want("-Invalid key format", "RSCAN", c)
	}
	admin.want("+OK", "NSNEW", "other")
	admin.want("+OK", "SELECT", "other")
	for _, c := range cursors {
		admin.want("-Invalid key format", "SCAN", c) // of another namespace
	}
	w.want("-No more data", "SCAN", cursors[1]) // the last key
	w.play([]step{
		do("-Key not found", "KEYCUR", "none"), do("-Invalid key", "KEYCUR", strings.Repeat("x", 256)), do("-Unexpected arguments", "KEYCUR"),
		do("-Invalid argument", "KEYCUR", ""),
	})
}

func TestKScan(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.NoSync = true })
	w := ts.dial()
	w.play([]step{
		do("-Unexpected arguments", "KSCAN"), do("-Invalid argument", "KSCAN", ""), do("-Unexpected arguments", "KSCAN", "a", "b"),
		do("-No keys match", "KSCAN", "h"), do(`"hello"`, "SET", "hello", "x"), do(`"help"`, "SET", "help", "x"), do(`"world"`, "SET", "world", "x"),
		do(`["0" ["hello" "help"]]`, "KSCAN", "hel"), do(`["0" ["help"]]`, "KSCAN", "help"), do("-No keys match", "KSCAN", "helped"),
	})
	for i := range 5000 {
		w.send("SET", fmt.Sprintf("many %0200d", i), "")
	}
	for range 5000 {
		w.reply()
	}
	w.send("KSCAN", "many")
	v, err := w.in.Read()
	if err != nil || len(v.Array) != 2 || len(v.Array[1].Array) != 5000 {
		t.Fatalf("a long reply has %d parts, %v", len(v.Array), err)
	}
	w.want("+PONG", "PING")
}

func TestLengthAndTime(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.dial()
	w.play([]step{
		do("nil", "LENGTH", "k"), do("nil", "KEYTIME", "k"), do(`"k"`, "SET", "k", "12345"), do(":5", "LENGTH", "k"), do("~:1[0-9]{9}", "KEYTIME", "k"),
		do(`"k"`, "SET", "k", ""), do(":0", "LENGTH", "k"), do("-Invalid key", "LENGTH", strings.Repeat("x", 256)), do("-Invalid key", "KEYTIME", strings.Repeat("x", 256)),
		do("-Unexpected arguments", "LENGTH"), do("-Unexpected arguments", "KEYTIME", "a", "b"), do("-Invalid argument", "LENGTH", ""), do("-Invalid argument", "KEYTIME", ""),
		do("+OK", "DEL", "k"), do("nil", "LENGTH", "k"), do("nil", "KEYTIME", "k"),
	})
}
