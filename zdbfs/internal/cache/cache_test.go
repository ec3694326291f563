package cache

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var seg = Segment{"zdbfs-data", 7}

func pattern(seed uint64, n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func open(t *testing.T, dir string, limit int64) *Cache {
	t.Helper()
	c, err := Open(dir, Options{Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t *testing.T, c *Cache, s Segment, off int64, data []byte) {
	t.Helper()
	if err := c.Put(s, off, data); err != nil {
		t.Fatal(err)
	}
}

// readAll reads [off, off+n) through ReadAt, nil if any byte is missing.
func readAll(c *Cache, s Segment, off, n int64) []byte {
	p := make([]byte, n)
	for at := int64(0); at < n; {
		got := c.ReadAt(s, off+at, p[at:])
		if got == 0 {
			return nil
		}
		at += int64(got)
	}
	return p
}

func TestReadAnyRange(t *testing.T) {
	c := open(t, t.TempDir(), 1<<30)
	data := pattern(1, 150000)
	const first = 100000 // two stripes
	put(t, c, seg, 0, data[:first])
	put(t, c, seg, first, data[first:])
	r := rand.New(rand.NewPCG(2, 2))
	for range 300 {
		off := r.Int64N(int64(len(data)))
		n := 1 + r.Int64N(int64(len(data))-off)
		if got := readAll(c, seg, off, n); !bytes.Equal(got, data[off:off+n]) {
			t.Fatalf("[%d, +%d) differs", off, n)
		}
	}
	if readAll(c, seg, int64(len(data)), 1) != nil {
		t.Error("read behind the end")
	}
	if readAll(c, Segment{"zdbfs-data", 8}, 0, 1) != nil {
		t.Error("read another segment")
	}
}

func TestSurvivesReopen(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 1<<30)
	data := pattern(3, 40000)
	put(t, c, seg, 4096, data)
	if err := os.WriteFile(filepath.Join(dir, "tmp-9"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = open(t, dir, 1<<30)
	if got := readAll(c, seg, 4096, 40000); !bytes.Equal(got, data) {
		t.Error("stripe is gone or differs")
	}
	if _, err := os.Stat(filepath.Join(dir, "tmp-9")); !os.IsNotExist(err) {
		t.Errorf("a half-written file is still there: %v", err)
	}
}

// TestEveryFlipIsSeen damages each byte of a file in turn: reads give the right bytes or nothing.
func TestEveryFlipIsSeen(t *testing.T) {
	dir := t.TempDir()
	data := pattern(4, 2*blockSize+100)
	path := filepath.Join(dir, "zdbfs-data", "7", "0")
	c := open(t, dir, 1<<30)
	put(t, c, seg, 0, data)
	clean, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(clean); i += 1 + i/200 {
		bad := bytes.Clone(clean)
		bad[i] ^= 0x10
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := readAll(c, seg, 0, int64(len(data))); got != nil {
			t.Fatalf("byte %d of the file flipped: it was served", i)
		}
		if c.Size() != 0 {
			t.Fatalf("byte %d flipped: entry kept", i)
		}
		put(t, c, seg, 0, data)
	}
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if readAll(c, seg, 0, 10) != nil {
		t.Error("a cut file was served")
	}
}

func TestColdestGoFirst(t *testing.T) {
	now := time.Unix(1000, 0)
	c, err := Open(t.TempDir(), Options{Limit: 1 << 30, Now: func() time.Time { now = now.Add(time.Second); return now }})
	if err != nil {
		t.Fatal(err)
	}
	data := pattern(5, 10000)
	for i := range 10 {
		put(t, c, Segment{"zdbfs-data", uint32(i)}, 0, data)
	}
	readAll(c, Segment{"zdbfs-data", 0}, 0, 10) // the oldest becomes the warmest
	c.SetLimit(3 * fileSize(10000))
	for i := range 10 {
		got := readAll(c, Segment{"zdbfs-data", uint32(i)}, 0, 10) != nil
		if want := i == 0 || i >= 8; got != want {
			t.Errorf("stripe %d cached: %v, want %v", i, got, want)
		}
	}
	if c.Size() > 3*fileSize(10000) {
		t.Errorf("size %d above the limit", c.Size())
	}
	if n := c.Clear(); n != 3*fileSize(10000) || c.Size() != 0 {
		t.Errorf("cleared %d, %d left", n, c.Size())
	}
}

func TestStripesOfAnotherShapeReplace(t *testing.T) {
	c := open(t, t.TempDir(), 1<<30)
	data := pattern(6, 30000)
	put(t, c, seg, 0, data[:10000])
	put(t, c, seg, 10000, data[10000:20000])
	put(t, c, seg, 0, data[:15000]) // the object was encoded again, with larger stripes
	if got := readAll(c, seg, 0, 15000); !bytes.Equal(got, data[:15000]) {
		t.Error("the new stripe is not served")
	}
	if readAll(c, seg, 15000, 1) != nil {
		t.Error("an overlapped stripe is still there")
	}
	if st := c.Stats(); st.Stripes != 1 || st.Bytes != fileSize(15000) {
		t.Errorf("stats %+v", st)
	}
}
