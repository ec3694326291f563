package server

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// info reads a field of a text of "key: value" lines.
func infoField(text, field string) string {
	m := regexp.MustCompile(`(?:^|\\n)` + field + `: (.*?)\\n`).FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1]
}

// nextID reads next_internal_id as the original's filesystem does: hexadecimal, bytes swapped.
func nextID(t *testing.T, text string) uint64 {
	t.Helper()
	digits := strings.TrimPrefix(infoField(text, "next_internal_id"), "0x")
	raw, err := hex.DecodeString(strings.Repeat("0", 16-len(digits)) + digits)
	if err != nil {
		t.Fatalf("next_internal_id in %s", text)
	}
	return binary.LittleEndian.Uint64(raw)
}

// What the original's filesystem sends, from the making of its namespaces to the emptying of the temporary one.
func TestOriginalFilesystem(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Mode, o.Admin = ModeSequential, "" })
	meta, data, temp := ts.dial(), ts.dial(), ts.dial()
	if got := meta.do("INFO"); infoField(got, "sequential_key_size") != "8" {
		t.Errorf("INFO: %s", got)
	}
	// Namespaces on demand: SELECT fails, NSNEW, settings, SELECT.
	for i, w := range []*wire{meta, data, temp} {
		name := []string{"zdbfs-meta", "zdbfs-data", "zdbfs-temp"}[i]
		w.play([]step{do("-Namespace not found", "SELECT", name, "hello"), do("+OK", "NSNEW", name), do("+OK", "SELECT", name), do("nil", "GET", id(0))})
	}
	temp.play([]step{do("+OK", "NSSET", "zdbfs-temp", "password", "hello"), do("+OK", "NSSET", "zdbfs-temp", "public", "0"), do("+OK", "SELECT", "zdbfs-temp", "hello")})
	// The header, the root, and what is read back.
	header, root := "ZDBFSM\x01\x00"+strings.Repeat("\x00", 16), strings.Repeat("\x42", 1068)
	meta.play([]step{do(quoted(0), "SET", "", header), do(quoted(1), "SET", "", root), do(fmt.Sprintf("%q", header), "GET", id(0)), do(fmt.Sprintf("%q", root), "GET", id(1))})
	data.want(quoted(0), "SET", "", "ZDBFSD\x01\x00"+strings.Repeat("\x00", 16))
	temp.want(quoted(0), "SET", "", "ZDBFST\x01\x00"+strings.Repeat("\x00", 16))
	// A block is allocated with an empty payload and written afterwards; the same content again is nil.
	block := strings.Repeat("b", 128<<10)
	data.play([]step{
		do(quoted(1), "SET", "", ""), do(quoted(1), "SET", id(1), block), do("nil", "SET", id(1), block), do(fmt.Sprintf("%q", block), "GET", id(1)),
		do(quoted(3), "SET", "", ""), do(`""`, "GET", id(3)), // the update used up 2
	})
	// A bucket with a one-byte placeholder; an inode that goes; a number that never was.
	meta.play([]step{do(quoted(2), "SET", "", "B"), do(quoted(2), "SET", id(2), "bucket"), do("+OK", "DEL", id(1)), do("nil", "GET", id(1)), do("-Key not found", "DEL", id(1)), do("nil", "GET", id(999))})
	// What the filesystem recognises by its text: locks, for which it waits, and full namespaces.
	data.play([]step{
		do("+OK", "NSSET", "zdbfs-data", "lock", "1"), do("-Namespace is temporarily locked (read-only)", "SET", "", "x"), do("-Namespace is temporarily locked (read-only)", "DEL", id(1)),
		do("+OK", "NSSET", "zdbfs-data", "freeze", "1"), do("-Namespace is temporarily frozen (read-write disabled)", "GET", id(1)), do("+OK", "NSSET", "zdbfs-data", "freeze", "0"),
		do("+OK", "NSSET", "zdbfs-data", "maxsize", "200000"), do("-No space left on this namespace", "SET", "", block),
	})
	// statfs.
	got := data.do("NSINFO", "zdbfs-data")
	for field, want := range map[string]string{"mode": "sequential", "data_limits_bytes": "200000", "entries": "3", "data_size_bytes": fmt.Sprint(24 + len(block))} {
		if infoField(got, field) != want {
			t.Errorf("NSINFO %s is %q, want %s", field, infoField(got, field), want)
		}
	}
	// The temporary namespace is emptied when its next id is above 32 and the header is all there is.
	for i := range 40 {
		temp.want(quoted(uint64(i+1)), "SET", "", "block")
		temp.want("+OK", "DEL", id(uint64(i+1)))
	}
	got = temp.do("NSINFO", "zdbfs-temp")
	if infoField(got, "entries") != "1" || nextID(t, got) != 41 {
		t.Errorf("NSINFO: entries %s, next id %d", infoField(got, "entries"), nextID(t, got))
	}
	temp.play([]step{do("+OK", "FLUSH"), do(":0", "DBSIZE"), do(quoted(0), "SET", "", "ZDBFST")})
	if got := temp.do("NSINFO", "zdbfs-temp"); nextID(t, got) != 1 {
		t.Errorf("the next id is %d", nextID(t, got))
	}
}

// What the original's dispersal daemon sends: shards in chunks to sequential namespaces, each behind a SELECT and an NSINFO;
// metadata under paths to namespaces of user mode, listed by SCAN.
func TestOriginalDispersal(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	admin := ts.adminWire()
	admin.play([]step{do("+OK", "NSNEW", "shards"), do("+OK", "NSSET", "shards", "mode", "seq"), do("+OK", "NSSET", "shards", "password", "pw"), do("+OK", "NSSET", "shards", "maxsize", "100000000")})
	admin.private("records", "pw")
	// A store: a new connection per shard, SELECT and NSINFO, then SELECT and SET per chunk of 2 MiB.
	w := ts.dial()
	w.play([]step{do("-Access denied", "SELECT", "shards", "no"), do("+OK", "SELECT", "shards", "pw")})
	got := w.do("NSINFO", "shards")
	for field, want := range map[string]string{"name": "shards", "data_limits_bytes": "100000000", "mode": "sequential", "password": "yes", "public": "yes"} {
		if infoField(got, field) != want {
			t.Errorf("NSINFO %s is %q, want %s", field, infoField(got, field), want)
		}
	}
	chunk := strings.Repeat("c", 2<<20)
	for i := range 3 {
		w.play([]step{do("+OK", "SELECT", "shards", "pw"), do(quoted(uint64(i)), "SET", "", chunk+fmt.Sprint(i))})
	}
	for i := range 3 {
		w.play([]step{do("+OK", "SELECT", "shards", "pw"), do(fmt.Sprintf("%q", chunk+fmt.Sprint(i)), "GET", id(uint64(i)))})
	}
	// A reader without the password of a public namespace.
	r := ts.dial()
	r.play([]step{do("+OK", "SELECT", "shards"), do("-Namespace is in read-only mode", "SET", "", "x"), do("nil", "GET", id(99))})
	// The pieces of a record are replaced in place, and listed page by page.
	m := ts.dial()
	m.play([]step{do("-Namespace protected and private", "SELECT", "records"), do("+OK", "SELECT", "records", "pw")})
	path := func(i int) string { return fmt.Sprintf("/prefix/meta/%032x", i) }
	const many = scanPage + 5
	var stream []byte
	for i := range many {
		stream = append(stream, request("SET", path(i), "piece")...)
	}
	go m.nc.Write(stream)
	for i := range many {
		if got := m.reply(); got != fmt.Sprintf("%q", path(i)) {
			t.Fatalf("SET: %s", got)
		}
	}
	m.play([]step{do("nil", "SET", path(3), "piece"), do(`"`+path(3)+`"`, "SET", path(3), "another"), do(`"another"`, "GET", path(3)), do("nil", "GET", "/prefix/meta/none"), do(":"+fmt.Sprint(many), "DBSIZE")})
	seen := map[string]bool{}
	for args := []string{"SCAN"}; ; {
		m.send(args...)
		v, err := m.in.Read()
		if err != nil {
			t.Fatal(err)
		}
		if text := show(v); strings.HasPrefix(text, "-") {
			if text != "-No more data" {
				t.Errorf("the end of the scan: %s", text)
			}
			break
		}
		for _, e := range v.Array[1].Array {
			if len(e.Array) != 3 {
				t.Fatalf("an entry: %s", show(e))
			}
			seen[string(e.Array[0].Data)] = true
		}
		args = []string{"SCAN", string(v.Array[0].Data)}
	}
	if len(seen) != many {
		t.Errorf("the scan saw %d keys", len(seen))
	}
}
