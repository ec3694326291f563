package zdb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// readerScript knows of this package only what FORMAT.md says.
const readerScript = "../test/zdb_reader.py"

// TestPythonReader has somebody else's reader list namespaces that the model test made, as they lie on the disk after a crash,
// and compares keys and values with the model and with what the engine makes of the same files.
func TestPythonReader(t *testing.T) {
	t.Parallel()
	seeds := 3
	if os.Getenv("QSFS_LONG") != "" {
		seeds = 40
	}
	var seen readerSeen
	base := uint64(time.Now().UnixNano())
	for i := range uint64(seeds) {
		if !t.Run(strconv.FormatUint(base+i, 10), func(t *testing.T) { readByScript(t, base+i, &seen) }) {
			return
		}
	}
	t.Logf("%+v", seen)
	for name, n := range map[string]int{
		"entries moved by compaction": seen.moved, "deletes": seen.deletes, "overwritten keys": seen.overwritten,
		"rewritten batches": seen.rewritten, "batches of several entries": seen.batches, "zeros written ahead": seen.zeros,
		"removed segments": seen.removed, "values of missing segments": seen.absent, "torn tails": seen.torn,
		"valid batches behind the end": seen.behind, "segments without i<N>": seen.unsealed,
		"damage": seen.damaged, "batches behind a marker": seen.behindMarker,
	} {
		if n == 0 {
			t.Errorf("the script has met no %s", name)
		}
	}
}

func readByScript(t *testing.T, seed uint64, seen *readerSeen) {
	m := newMachine(t, seed)
	m.opts.SegmentSize, m.opts.Prewrite = []int64{16 << 10, 64 << 10}[m.rng.IntN(2)], true
	m.opts.FlushInterval = time.Hour // the tail stays unsynced until the test says so
	m.start()
	for range 400 {
		m.step()
	}
	m.killAt.Store(0)
	if m.dead.Load() {
		m.restart()
		m.killAt.Store(0)
	}
	m.release(false)
	m.compact()
	m.evict()
	m.opts.SegmentSize = 1 << 20 // room for a tail
	m.commit()
	m.commit()
	m.kill() // what was not synced is written again
	m.commit()
	m.stop() // the log goes on behind a marker
	m.commit()
	m.sync()
	from := m.n.log.Durable()
	for range 6 {
		m.commit()
	}
	written := m.mem.KillClone()
	random := m.mem.CrashClone(m.rng)
	m.dead.Store(true)
	_ = m.db.Close()

	latest := m.latest()
	dirs := [2]string{filepath.Join(m.dir, "data", "ns"), filepath.Join(m.dir, "index", "ns")}
	if from.Offset > segfile.HeaderSize {
		damaged := written.KillClone()
		m.flip(t, damaged, from.Segment, from.Offset-1) // in the last batch that was synced
		data, index, copies := m.exportAll(t, damaged, dirs)
		want := fmt.Sprintf("d%d is damaged at", from.Segment)
		if _, err := runReader(data, index, copies); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a batch that had been synced is damaged: the script says %v, want %q", err, want)
		}
		seen.damaged++
	}
	m.compareScript(t, "all that was written", written.KillClone(), dirs, latest, latest, seen)
	m.compareScript(t, "what a loss of power left", random, dirs, m.acked, latest, seen)
	for _, how := range []string{"zeros", "end", "hole"} {
		torn := written.KillClone()
		number := m.tear(t, torn, from.Segment, from.Offset, how)
		if number > latest {
			continue // a new segment began in between: nothing can be torn
		}
		seen.torn++
		m.compareScript(t, "torn: "+how, torn, dirs, number, number, seen)
	}
}

// kill ends the machine as kill -9 does, and starts it again.
func (m *machine) kill() {
	m.lose = false
	m.killAt.Store(1)
	_ = m.db.Close()
	m.swap()
	m.start()
	m.check(false)
}

// stop ends the machine in order, and starts it again.
func (m *machine) stop() {
	if err := m.db.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.acked = m.latest()
	m.start()
	m.check(true)
}

// tear damages a batch that was not synced, and gives the number of the last one that is left. In its place is a part of it and
// zeros; or it ends the file; or it has a hole, with valid batches behind it.
func (m *machine) tear(t *testing.T, fs *vfs.Mem, id SegmentID, from int64, how string) int {
	t.Helper()
	path := filepath.Join(m.dir, "data", "ns", id.DataName())
	f, err := fs.Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, size := headerOf(t, f)
	r := batch.NewReader(f, h.ID, h.Incarnation, from, size)
	var open []batch.Header
	for b, err := r.Next(); err == nil; b, err = r.Next() {
		if b.Count > 0 {
			open = append(open, b.Header)
		}
	}
	if len(open) != 6 {
		return m.latest() + 1
	}
	at := len(open) - 1
	if how == "hole" {
		at = m.rng.IntN(5)
	}
	cut := open[at].Offset + m.rng.Int64N(open[at].Size())
	switch how {
	case "zeros":
		_, err = f.WriteAt(make([]byte, open[at].End()-cut), cut)
	case "end":
		err = f.Truncate(cut)
	default:
		_, err = f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}[:min(8, open[at].End()-cut)], cut)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m.latest() - (len(open) - at)
}

// compareScript runs the script on the files: with the copies of missing segments it gives all that the model has after some
// batch, which the engine finds there too; without them it says where the values are that it has not.
func (m *machine) compareScript(t *testing.T, what string, fs *vfs.Mem, dirs [2]string, least, most int, seen *readerSeen) {
	t.Helper()
	data, index, copies := m.exportAll(t, fs, dirs)
	seen.look(t, data, index)
	out, err := runReader(data, index, copies)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got := make(map[string]string)
	for k, v := range out {
		p, err := hex.DecodeString(v)
		if err != nil {
			t.Fatalf("%s: %s has no value although there is a copy: %s", what, k, v)
		}
		got[k] = string(p)
	}
	number, _ := strconv.Atoi(got[counterKey])
	if number < least || number > most {
		t.Fatalf("%s: the script sees the state after batch %d, want %d to %d", what, number, least, most)
	}
	sameEntries(t, what+": the model", got, m.states[max(0, number-m.first)])

	here, err := runReader(data, index)
	if err != nil {
		t.Fatalf("%s, without copies: %v", what, err)
	}
	m.mem = fs
	if err := os.RemoveAll(filepath.Join(dirs[1], badgerDir)); err != nil { // it is of another life of the log
		t.Fatal(err)
	}
	m.start()
	sameEntries(t, what+": the engine", got, m.dump(false))
	for k, v := range here {
		if v == out[k] {
			continue
		}
		e, err := m.n.Get(t.Context(), []byte(k))
		if want := fmt.Sprintf("? d%d %d %d", e.Location.Segment, e.Location.Offset, e.Location.Length); err != nil || v != want {
			t.Errorf("%s: of %s the script says %q without copies, want %q, %v", what, k, v, want, err)
		}
		seen.absent++
	}
	if len(here) != len(out) {
		t.Errorf("%s: %d keys without copies, %d with them", what, len(here), len(out))
	}
	m.dead.Store(true)
	_ = m.db.Close()
	readLost(t, data, index, copies)
}

// readLost takes a segment away altogether: the script must not pass over that.
func readLost(t *testing.T, data, index, copies string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(index, "i*"))
	if err != nil || len(names) < 2 {
		return
	}
	_, id, ok := segfile.ParseName(filepath.Base(names[0]))
	if !ok {
		t.Fatalf("%s is no index segment", names[0])
	}
	for _, path := range []string{names[0], filepath.Join(data, id.DataName()), filepath.Join(copies, id.DataName())} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if _, err := runReader(data, index, copies); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("lost segments: [%d]", id)) {
		t.Errorf("without d%d and i%d the script says %v", id, id, err)
	}
}

// runReader gives key and text of the value of each line.
func runReader(dirs ...string) (map[string]string, error) {
	// Debian has it; sh test/tools.sh installs it.
	cmd := exec.Command("python3", append([]string{readerScript}, dirs...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	got := make(map[string]string)
	before := ""
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		p, err := hex.DecodeString(key)
		if err != nil || string(p) <= before && before != "" {
			return nil, fmt.Errorf("line %.60q behind key %q", line, before)
		}
		before = string(p)
		got[before] = value
	}
	return got, nil
}

func sameEntries(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			t.Errorf("%s has %s = %.30q, the script %v %.30q", what, k, v, ok, g)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s has no %s", what, k)
		}
	}
	t.FailNow()
}

// exportAll writes the files of the namespace, and the copies of its segments, to real directories.
func (m *machine) exportAll(t *testing.T, fs *vfs.Mem, dirs [2]string) (data, index, copies string) {
	t.Helper()
	dir := t.TempDir()
	data, index, copies = filepath.Join(dir, "data"), filepath.Join(dir, "index"), filepath.Join(dir, "copies")
	export(t, fs, dirs[0], data)
	export(t, fs, dirs[1], index)
	if err := os.Mkdir(copies, 0o700); err != nil {
		t.Fatal(err)
	}
	for id, p := range m.saved {
		if err := os.WriteFile(filepath.Join(copies, id.DataName()), p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return data, index, copies
}

// flip changes one byte.
func (m *machine) flip(t *testing.T, fs *vfs.Mem, id SegmentID, at int64) {
	t.Helper()
	f, err := fs.Open(filepath.Join(m.dir, "data", "ns", id.DataName()), true)
	if err != nil {
		t.Fatal(err)
	}
	var p [1]byte
	_, rerr := f.ReadAt(p[:], at)
	p[0]++
	_, werr := f.WriteAt(p[:], at)
	if err := errors.Join(rerr, werr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// export writes the files of a directory in memory to a real one.
func export(t *testing.T, fs *vfs.Mem, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List(from)
	if err != nil && !errors.Is(err, vfs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := fs.Open(filepath.Join(from, name), false)
		if errors.Is(err, vfs.ErrNotExist) {
			continue // a directory
		}
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, size)
		if _, err := f.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if err := errors.Join(f.Close(), os.WriteFile(filepath.Join(to, name), p, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
