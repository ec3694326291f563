package clock

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"reflect"
	"testing"
	"time"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

var clockFiles = []string{"testdata/clock-v1", "testdata/clock-v2", "testdata/clock-v3"}
var marksFiles = []string{"testdata/ages-v1", "testdata/ages-v2"}

func kept(t testing.TB, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sample is what testdata/clock-v3 holds.
var sample = record{
	id: ID{4, 5, 6}, run: 400e12, low: 7e9,
	past:  []life{{ID{1, 2, 3}, 100e12}, {ID{2}, 100e12}, {ID{3}, 300e12}},
	highs: []high{{10e12, -5e9}, {200e12, 7e9}},
	spans: []span{{397e12, 36e11, 7e9, 8e9}, {399e12, 12e11, -3e9, 9e9}},
}

// TestKept reads files of all versions of the format. Of the old ones only how long they ran is taken over.
func TestKept(t *testing.T) {
	for i, name := range clockFiles {
		want := record{id: ID{1, 2, 3}, run: 1e18 + 100, low: unknown}
		if i == 2 {
			want = sample
		}
		p := kept(t, name)
		r, err := parse(p)
		if err != nil || !reflect.DeepEqual(r, want) || i == 2 && !bytes.Equal(r.encode(), p) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for i, name := range marksFiles {
		want := []mark{{0, 1e18, 0}, {segfile.MakeSeq(1, 5), 1e18 + 7, 0}, {segfile.MakeSeq(2, 1), 2e18, 0}}
		if i == 1 {
			want[1].writer, want[2].writer = 8, math.MaxUint64
		}
		p := kept(t, name)
		id, list, err := parseMarks(p)
		if err != nil || id != (ID{1, 2, 3}) || !reflect.DeepEqual(list, want) || i == 1 && !bytes.Equal(appendMarks(nil, id, list), p) {
			t.Errorf("%s: %v, %v, %v", name, id, list, err)
		}
	}
}

// TestDamage: no bit of either file may be another one.
func TestDamage(t *testing.T) {
	for _, name := range append(clockFiles, marksFiles...) {
		p := kept(t, name)
		for i := range p {
			for bit := range 8 {
				p[i] ^= 1 << bit
				_, cerr := parse(p)
				if _, _, merr := parseMarks(p); cerr == nil || merr == nil {
					t.Errorf("%s: bit %d of byte %d", name, bit, i)
				}
				p[i] ^= 1 << bit
			}
		}
	}
}

// TestSaved: what is read is what was saved.
func TestSaved(t *testing.T) {
	w := newWorld(t, 0)
	for range 30 {
		w.pass(11 * time.Hour)
		w.off(3 * time.Hour)
	}
	w.c.Save(true)
	p, err := vfs.ReadFile(w.fs, "d/.clock", maxFile)
	if err != nil {
		t.Fatal(err)
	}
	r, err := parse(p)
	if err != nil || !reflect.DeepEqual(r, w.c.record) || len(r.past) != 30 || len(r.highs) < 10 || len(r.spans) != spansADay {
		t.Errorf("%+v became %+v, %v", w.c.record, r, err)
	}
	most := record{past: make([]life, maxLives), highs: make([]high, maxHighs), spans: make([]span, spansADay)}
	if n := len(most.encode()); n > maxFile {
		t.Errorf("a file has %d bytes, at most %d are read", n, maxFile)
	}
}

// TestOldClock: what an earlier version of the clock counted has its running time, and what it believed beside is forgotten.
func TestOldClock(t *testing.T) {
	for i, name := range clockFiles[:2] {
		w := newWorld(t, 0)
		if err := vfs.WriteFile(w.fs, "d/.clock", kept(t, name)); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(w.fs, "d/ages", kept(t, marksFiles[0])); err != nil {
			t.Fatal(err)
		}
		w.open()
		m := w.c.OpenMarks("d/ages", segfile.MakeSeq(3, 1), func(segfile.Seq) uint64 { return 5 })
		if end, ok := w.c.End(ID{1, 2, 3}); !ok || end != 1e18+100 || len(m.list) != 2 {
			t.Errorf("%s: %v, %v, %d marks", clockFiles[i], end, ok, len(m.list))
		}
		w.pass(time.Hour)
		w.since(1e18+7, time.Hour+93, time.Hour+93)
	}
}

// sealed gives bytes a sum that is right: nobody guesses it.
func sealed(p []byte) []byte {
	body := p[:max(0, len(p)-4)]
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, segfile.Castagnoli))
}

// FuzzParse: no bytes do harm, and what is read is written the same.
func FuzzParse(f *testing.F) {
	for _, name := range clockFiles {
		f.Add(kept(f, name))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		p = sealed(p)
		r, err := parse(p)
		if err != nil {
			return
		}
		q, err := parse(r.encode())
		if err != nil || !reflect.DeepEqual(q, r) {
			t.Errorf("%+v became %+v, %v", r, q, err)
		}
		// It goes on from there.
		fs := vfs.NewMem()
		w := &world{t: t, fs: fs, wall: time.Unix(1.7e9, 0)}
		if err := fs.MkdirAll("d"); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(fs, "d/.clock", p); err != nil {
			t.Fatal(err)
		}
		w.open()
		if _, ok := w.c.End(r.id); !ok {
			t.Fatal("it is another clock")
		}
		w.pass(30 * time.Hour)
		if age := w.age(r.run); age < 30*time.Hour || age > 60*time.Hour {
			t.Errorf("after 30 h it is %v old", age)
		}
	})
}

// FuzzParseMarks: no bytes do harm, and what is read is written the same.
func FuzzParseMarks(f *testing.F) {
	for _, name := range marksFiles {
		f.Add(kept(f, name))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		id, list, err := parseMarks(sealed(p))
		if err != nil {
			return
		}
		if again, same, err := parseMarks(appendMarks(nil, id, list)); err != nil || again != id || !reflect.DeepEqual(same, list) {
			t.Errorf("%v became %v, %v", list, same, err)
		}
	})
}
