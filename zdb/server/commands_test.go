package server

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// step is a command and its reply. A reply that begins with ~ is a regular expression.
type step struct {
	want string
	args []string
}

func do(want string, args ...string) step { return step{want, args} }

func (w *wire) play(steps []step) {
	w.t.Helper()
	for _, s := range steps {
		got := w.do(s.args...)
		if pattern, ok := strings.CutPrefix(s.want, "~"); ok {
			if !regexp.MustCompile("^(?:" + pattern + ")$").MatchString(got) {
				w.t.Errorf("%.60q: got %.300s, want a match of %s", s.args, got, pattern)
			}
		} else if got != s.want {
			w.t.Errorf("%.60q: got %.300s, want %.300s", s.args, got, s.want)
		}
	}
}

func TestSystemCommands(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ts.dial().play([]step{
		do("+PONG", "PING"), do("+PONG", "ping", "with", "arguments"), do("+PONG", "PiNg"),
		do("-Command not supported", "PIN"), do("-Command not supported", "PINGG"), do("-Command not supported", ""),
		do("-Command not supported", "PING\x00"), do("-Command not supported", strings.Repeat("x", 8178)),
		do("-This is not a valid command", "*"),
		do(`~\["[0-9]{10}" "[0-9]{1,6}"\]`, "TIME"),
		do(`~"# server\\nserver_name: 0-db \(zdb\)\\n(.|\n)*`, "INFO"),
		do("-Permission denied", "NSNEW", "x"), do("-Permission denied", "NSDEL", "x"), do("-Permission denied", "NSSET", "x", "y", "z"),
		do("-Unexpected arguments", "AUTH"), do("-Invalid argument", "AUTH", ""), do("-Password too long", "AUTH", strings.Repeat("x", 129)),
		do("-Access denied", "AUTH", "blabla"), do("-Access denied", "AUTH", "roo"), do("-Access denied", "AUTH", "root\x00"),
		do("-Unexpected arguments", "AUTH", "a", "b", "c"), do("-Only SECURE extra method supported", "AUTH", "x", "y"),
		do("-No CHALLENGE requested, secure authentication not available", "AUTH", "SECURE", strings.Repeat("0", 40)),
		do("~\\+[0-9a-f]{16}", "AUTH", "secure", "challenge"),
		do("-Invalid hash length", "AUTH", "SECURE", "short"),
		do("-Access denied", "AUTH", "SECURE", strings.Repeat("0", 40)),
		do("-No CHALLENGE requested, secure authentication not available", "AUTH", "SECURE", strings.Repeat("0", 40)),
		do("+OK", "AUTH", "root"), do("+OK", "NSNEW", "x"),
	})
}

func TestDataCommands(t *testing.T) {
	ts := start(t, nil)
	long := strings.Repeat("k", 255)
	w := ts.dial()
	w.play([]step{
		do(":0", "DBSIZE"), do("nil", "GET", "hello"), do(":0", "EXISTS", "hello"), do("nil", "CHECK", "hello"), do("-Key not found", "DEL", "hello"),
		do(`"hello"`, "SET", "hello", "world"), do(`"world"`, "GET", "hello"), do(":1", "EXISTS", "hello"), do(":1", "CHECK", "hello"), do(":1", "DBSIZE"),
		do("nil", "SET", "hello", "world"), do(`"hello"`, "SET", "hello", "there"), do(`"there"`, "get", "hello"),
		do(`"hello"`, "SET", "hello", ""), do(`""`, "GET", "hello"), do(":1", "CHECK", "hello"), do("nil", "SET", "hello", ""),
		do("+OK", "DEL", "hello"), do("nil", "GET", "hello"), do("-Key not found", "DEL", "hello"), do(":0", "DBSIZE"),
		do(`"hello"`, "SET", "hello", "again"), do(":1", "DBSIZE"),

		do("-Invalid argument, key needed", "SET", "", "x"), do("-Invalid argument", "GET", ""), do("-Invalid argument", "DEL", ""),
		do("-Key too large", "SET", long+"k", "x"), do(strconv.Quote(long), "SET", long, "x"), do(`"x"`, "GET", long),
		do("-Invalid key", "GET", long+"k"), do("-Invalid key", "DEL", long+"k"), do("-Invalid key", "EXISTS", long+"k"),
		do("-Invalid key", "CHECK", long+"k"), do("-Invalid key", "MGET", "hello", long+"k"),
		do("-Unexpected arguments", "SET", "a"), do("-Unexpected arguments", "SET", "a", "b", "c", "d"), do("-Unexpected arguments", "GET"),
		do("-Unexpected arguments", "GET", "a", "b"), do("-Unexpected arguments", "DEL"), do("-Unexpected arguments", "DEL", "a", "b", "c"),
		do("-Unexpected arguments", "EXISTS"), do("-Unexpected arguments", "CHECK", "a", "b"), do("-Invalid arguments", "MGET"),
		do(`["again" nil "x" nil]`, "MGET", "hello", "missing", long, ""),

		do(`"\x00\r\n"`, "SET", "\x00\r\n", "\r\n$-1\r\n\xff"), do(`"\r\n$-1\r\n\xff"`, "GET", "\x00\r\n"),
	})
}

func TestCAS(t *testing.T) {
	ts := start(t, nil)
	ts.dial().play([]step{
		do("nil", "CAS", "k", "new", "old"), do("nil", "GET", "k"),
		do(":1", "CAS", "k", "one"), do(`"one"`, "GET", "k"),
		do(":1", "CAS", "k", "one"), // repeated
		do(`"one"`, "CAS", "k", "two"),
		do(`"one"`, "CAS", "k", "two", "zero"),
		do(":1", "CAS", "k", "two", "one"), do(":1", "CAS", "k", "two", "one"), do(`"two"`, "GET", "k"),
		do(`"two"`, "CAS", "k", "three", ""),
		do(":1", "CAS", "k", "", "two"), do(`""`, "CAS", "k", "x"), do(":1", "CAS", "k", "x", ""),
		do("-Unexpected arguments", "CAS", "k"), do("-Unexpected arguments", "CAS", "k", "a", "b", "c"),
		do("-Invalid argument, key needed", "CAS", "", "a"), do("-Key too large", "CAS", strings.Repeat("k", 256), "a"),
		do("+OK", "DEL", "k"), do("nil", "CAS", "k", "y", "x"), do(":1", "CAS", "k", "y"), do(":1", "DBSIZE"),
	})
}

func TestScan(t *testing.T) {
	ts := start(t, nil)
	w := ts.dial()
	w.play([]step{do("-No more data", "SCAN"), do("[nil []]", "PSCAN", ""), do("-Invalid key format", "SCAN", "plainkey"), do("-Invalid key format", "SCAN", "")})
	const n = 2500
	for i := range n {
		w.send("SET", fmt.Sprintf("key-%05d", i), strings.Repeat("v", i%10))
	}
	for range n {
		w.reply()
	}
	w.want(`"other"`, "SET", "other", "x")
	w.want(`"\xff\xff"`, "SET", "\xff\xff", "x")

	// SCAN sees everything once, with length and time.
	seen := map[string]bool{}
	entry := regexp.MustCompile(`\["((?:[^"\\]|\\.)*)" :(\d+) :(\d+)\]`)
	cursor := []string{}
	for pages := 0; ; pages++ {
		reply := w.do(append([]string{"SCAN"}, cursor...)...)
		if reply == "-No more data" {
			if pages < 3 {
				t.Errorf("%d entries in %d pages", n+2, pages)
			}
			break
		}
		head, _, _ := strings.Cut(strings.TrimPrefix(reply, "["), " [")
		c, err := strconv.Unquote(head)
		if err != nil {
			t.Fatalf("cursor %s: %v", head, err)
		}
		cursor = []string{c}
		for _, m := range entry.FindAllStringSubmatch(reply, -1) {
			if seen[m[1]] {
				t.Fatalf("%s is scanned twice", m[1])
			}
			seen[m[1]] = true
			var i int
			if _, err := fmt.Sscanf(m[1], "key-%d", &i); err == nil && m[2] != strconv.Itoa(i%10) {
				t.Errorf("%s: length %s", m[1], m[2])
			}
			if sec, _ := strconv.ParseInt(m[3], 10, 64); time.Since(time.Unix(sec, 0)).Abs() > time.Minute {
				t.Errorf("%s: time %s", m[1], m[3])
			}
		}
	}
	if len(seen) != n+2 {
		t.Errorf("SCAN saw %d entries, want %d", len(seen), n+2)
	}
	// A cursor stays good when its key is gone.
	reply := w.do("SCAN")
	head, _, _ := strings.Cut(strings.TrimPrefix(reply, "["), " [")
	c, _ := strconv.Unquote(head)
	w.want("+OK", "DEL", "key-00999")
	if got := w.do("SCAN", c); !strings.Contains(got, `[["key-01000"`) {
		t.Errorf("page behind a deleted key begins %.100s", got)
	}
	w.want("-Invalid key format", "SCAN", c[:len(c)-1]+"x")

	w.play([]step{
		do(`["key-00001" ["key-00000" "key-00001"]]`, "PSCAN", "key-", "", "2"),
		do(`["key-00003" ["key-00002" "key-00003"]]`, "PSCAN", "key-", "key-00001", "2"),
		do(`[nil ["key-02498" "key-02499"]]`, "PSCAN", "key-", "key-02497", "2"),
		do(`[nil []]`, "PSCAN", "key-", "key-02499", "2"),
		do(`[nil ["other"]]`, "PSCAN", "o"), do(`[nil []]`, "PSCAN", "key-x"), do(`[nil ["\xff\xff"]]`, "PSCAN", "\xff"),
		do(`[nil ["\xff\xff"]]`, "PSCAN", "\xff\xff"), do(`[nil []]`, "PSCAN", strings.Repeat("x", 300)),
		do("-Invalid key format", "PSCAN", "key-", "other"), do("-Invalid count", "PSCAN", "", "", "0"), do("-Invalid count", "PSCAN", "", "", "x"),
		do("-Unexpected arguments", "PSCAN"), do("-Unexpected arguments", "PSCAN", "", "", "1", "x"),
	})
	all := 0
	for _, err := range ts.client("", "").Keys(t.Context(), []byte("key-")) {
		if err != nil {
			t.Fatal(err)
		}
		all++
	}
	if all != n-1 {
		t.Errorf("the client's Keys gives %d keys, want %d", all, n-1)
	}
}

func TestNSInfo(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	w.want("+OK", "SELECT", "ns")
	w.want(`"a"`, "SET", "a", "12345")
	w.want(`"b"`, "SET", "b", "678")
	w.want(`"12345"`, "GET", "a")
	for name, names := range map[string][]string{
		"name": {"ns"}, "entries": {"2"}, "public": {"yes"}, "worm": {"no"}, "locked": {"no"}, "password": {"no"}, "data_size_bytes": {"8"},
		"data_size_mb": {"0.00"}, "data_limits_bytes": {"0"}, "index_size_bytes": {"130"}, "mode": {"userkey"}, "data_current_id": {"0"},
		"gets": {"1"}, "get_bytes": {"5"}, "sets": {"2"}, "set_bytes": {"8"}, "writable": {"yes"},
	} {
		if got := ts.info(w, "ns")[name]; got != names[0] {
			t.Errorf("NSINFO %s: got %q, want %q", name, got, names[0])
		}
	}
	if _, limited := ts.info(w, "ns")["space_available"]; limited {
		t.Error("NSINFO shows space_available without a limit")
	}
	public := ts.dial()
	if _, shown := ts.info(public, "ns")["data_path"]; shown {
		t.Error("NSINFO shows paths to everybody")
	}
	public.play([]step{do("-Namespace not found", "NSINFO", "none"), do("-Invalid argument", "NSINFO", ""), do("-Unexpected arguments", "NSINFO"),
		do("-Namespace too long", "NSINFO", strings.Repeat("x", 129)), do(`["default" "ns"]`, "NSLIST")})
}

// info returns the lines of NSINFO or, without a name, of INFO.
func (ts *testServer) info(w *wire, name string) map[string]string {
	ts.t.Helper()
	args := []string{"INFO"}
	if name != "" {
		args = []string{"NSINFO", name}
	}
	text, err := strconv.Unquote(w.do(args...))
	if err != nil {
		ts.t.Fatal(err)
	}
	lines := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); ok {
			lines[key] = value
		}
	}
	return lines
}

func TestTraffic(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.dial()
	w.want(`"k"`, "SET", "k", strings.Repeat("v", 1000))
	before := ts.info(w, "")
	get := request("GET", "k")
	w.want(strconv.Quote(strings.Repeat("v", 1000)), "GET", "k")
	w.do("MGET", "k", "missing", "k")
	after := ts.info(w, "")
	diff := func(key string) int {
		a, _ := strconv.Atoi(before[key])
		b, _ := strconv.Atoi(after[key])
		return b - a
	}
	in := len(get) + len(request("MGET", "k", "missing", "k")) + len(request("INFO"))
	for key, want := range map[string]int{"commands": 3, "gets": 3, "get_bytes": 3000, "sets": 0, "set_bytes": 0, "bytes_in": in} {
		if got := diff(key); got != want {
			t.Errorf("%s grew by %d, want %d", key, got, want)
		}
	}
	// A reply counts when its write has returned, and the client may be faster than that.
	tries := 0
	for ; diff("bytes_out") < 3000 && tries < 100; tries++ {
		time.Sleep(10 * time.Millisecond)
		after = ts.info(w, "")
	}
	if got := diff("bytes_out"); got < 3000 || got > 5000+tries*2000 {
		t.Errorf("bytes_out grew by %d", got)
	}
}
