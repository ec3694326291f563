package server

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// flip inverts a byte of the stored value of a key.
func (ts *testServer) flip(key string, at int64) {
	ts.t.Helper()
	e, err := ts.lookup("default").eng.Load().Locate(ts.t.Context(), []byte(key))
	if err != nil {
		ts.t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(ts.o.DataDir, "default", e.Location.Segment.DataName()), os.O_RDWR, 0)
	if err != nil {
		ts.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, e.Location.Offset+at); err != nil {
		ts.t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, e.Location.Offset+at); err != nil {
		ts.t.Fatal(err)
	}
}

// Damaged values are errors, never other bytes, and never "not found". Everything else is served.
func TestDamagedValues(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.dial()
	small, big := strings.Repeat("s", 4096), strings.Repeat("b", 1<<20)
	for _, key := range []string{"small", "good", "replaced"} {
		w.want(strconv.Quote(key), "SET", key, small)
	}
	w.want(`"big"`, "SET", "big", big)
	w.want(strconv.Quote(big), "GET", "big")
	ts.flip("small", 100)
	ts.flip("replaced", 4095)
	w.play([]step{
		do("-Internal Error", "GET", "small"), do(":0", "CHECK", "small"), do(":1", "EXISTS", "small"), do(":1", "CHECK", "good"),
		do(`["`+small+`" -Internal Error nil]`, "MGET", "good", "small", "none"),
		do("-Internal Error", "CAS", "small", "new", small), // as long as the damaged value: it had to be compared
		do(`"replaced"`, "SET", "replaced", small), do(strconv.Quote(small), "GET", "replaced"),
		do("+OK", "DEL", "small"), do("nil", "GET", "small"),
	})
	// In the middle of a large value the only honest answer is none.
	ts.flip("big", 900<<10)
	w.send("GET", "big")
	if got := w.reply(); !strings.HasPrefix(got, "broken") {
		t.Errorf("a damaged large value was answered with %d bytes", len(got))
	}
	w = ts.dial()
	w.play([]step{do(":0", "CHECK", "big"), do(strconv.Quote(small), "GET", "good")})
	if info := ts.info(w, "default"); info["stats_data_io_errors"] == "0" {
		t.Error("the errors were not counted")
	}
}

// A large value that is not durable yet is not streamed before it is.
func TestLargeValues(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.dial()
	for _, n := range []int{streamStep - 1, streamStep, streamStep + 1, 2 * streamStep, 3*streamStep + 7, 8 << 20} {
		value := strings.Repeat(string(rune('a'+n%26)), n)
		w.raw(append(append(append(request("SET", "k", value), request("GET", "k")...), request("MGET", "none", "k", "none")...), request("CAS", "k", "x")...))
		for i, want := range []string{`"k"`, strconv.Quote(value), "[nil " + strconv.Quote(value) + " nil]", strconv.Quote(value)} {
			if got := w.reply(); got != want {
				t.Fatalf("%d bytes, reply %d: %.50s… (%d bytes), want %.50s… (%d bytes)", n, i, got, len(got), want, len(want))
			}
		}
		w.want("nil", "SET", "k", value)
		w.want(":1", "CAS", "k", value)
	}
}
