package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"qsfs/zdb/segfile"
)

var testInc = segfile.Incarnation{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// move adds a moved entry whose value is at hand.
func move(b *Builder, m Moved, value []byte) {
	if err := b.Move(m, uint32(len(value)), func(p []byte) error { copy(p, value); return nil }); err != nil {
		panic(err)
	}
}

// sample is a batch with a value, an empty one, one of two blocks, a delete, and a moved entry.
func sample(off int64, seq segfile.Seq) []byte { return sampleOf(off, seq, 1700) }

func sampleOf(off int64, seq segfile.Seq, tens int) []byte {
	var b Builder
	b.Set([]byte("alpha"), []byte("one"))
	b.Set([]byte("beta"), nil)
	b.Set([]byte("gamma"), bytes.Repeat([]byte("0123456789"), tens))
	b.Delete([]byte("delta"))
	move(&b, Moved{Seq: 7, Time: 99, Given: true, Key: []byte("epsilon")}, []byte("moved"))
	return b.Finish(header(off, seq))
}

func header(off int64, seq segfile.Seq) Header {
	return Header{
		Seq: seq, Session: 77, Needs: 5, Segment: 3, DurableSegment: 2, DurableOffset: 1000,
		Incarnation: testInc, Time: 1234567890, Offset: off,
	}
}

func TestRoundTrip(t *testing.T) {
	p := sample(4096, 100)
	var b Batch
	if err := b.Parse(p, 3, testInc, 4096); err != nil {
		t.Fatal(err)
	}
	want := header(4096, 100)
	want.Count, want.Body = 5, uint32(len(p)-HeaderSize-TrailerSize)
	if b.Header != want {
		t.Errorf("header %+v, want %+v", b.Header, want)
	}
	got := ""
	for _, e := range b.Entries {
		got += fmt.Sprintf("%s=%d@%d/%d/%v%v ", e.Key, len(e.Value), e.Seq.Counter(), e.Time, e.Delete, e.Moved)
		if !bytes.Equal(e.Value, p[e.Offset-4096:e.Offset-4096+int64(len(e.Value))]) {
			t.Errorf("%s: offset %d is not that of the value", e.Key, e.Offset)
		}
	}
	const line = "alpha=3@100/1234567890/falsefalse beta=0@101/1234567890/falsefalse gamma=17000@102/1234567890/falsefalse " +
		"delta=0@103/1234567890/truefalse epsilon=5@7/99/falsetrue "
	if got != line {
		t.Errorf("entries\n%s, want\n%s", got, line)
	}
	if b.NextSeq() != 104 {
		t.Errorf("NextSeq = %v", b.NextSeq())
	}
}

// TestItems: where the builder says a value is, it is; also for several headers.
func TestItems(t *testing.T) {
	var b Builder
	b.Set([]byte("k"), []byte("value"))
	b.Delete([]byte("gone"))
	b.Prepare()
	b.Set([]byte("l"), []byte("more"))
	for range 2 {
		p := b.Finish(header(0, 1))
		if len(p) != b.Size() {
			t.Errorf("Size = %d, batch has %d", b.Size(), len(p))
		}
		for i, want := range []string{"value", "", "more"} {
			it := b.Items()[i]
			if got := string(p[it.Value : it.Value+it.Length]); got != want || string(b.Bytes(it)) != want {
				t.Errorf("item %d: %q, want %q", i, got, want)
			}
		}
	}
	b.Reset(true)
	if b.Len() != 0 || b.Size() != HeaderSize+TrailerSize {
		t.Errorf("after Reset: %d entries, %d bytes", b.Len(), b.Size())
	}
	var got Batch
	if err := got.Parse(b.Finish(header(0, 1)), 3, testInc, 0); err != nil || got.Flags != Marker || len(got.Entries) != 0 {
		t.Errorf("empty batch: %+v, %v", got.Header, err)
	}
}

// TestFlips: no single changed bit passes.
func TestFlips(t *testing.T) {
	var b Builder
	b.Set([]byte("key"), []byte("value"))
	b.Delete([]byte("gone"))
	move(&b, Moved{Seq: 1, Time: 2, Delete: true, Key: []byte("m")}, nil)
	good := bytes.Clone(b.Finish(header(512, 9)))
	var got Batch
	if err := got.Parse(good, 3, testInc, 512); err != nil {
		t.Fatal(err)
	}
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := got.Parse(bad, 3, testInc, 512); !errors.Is(err, ErrBad) {
			t.Fatalf("bit %d of byte %d flipped: %v", bit%8, bit/8, err)
		}
	}
	for n := range good {
		if err := got.Parse(good[:n], 3, testInc, 512); !errors.Is(err, ErrBad) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	other := testInc
	other[0]++
	for name, err := range map[string]error{
		"segment":     got.Parse(good, 4, testInc, 512),
		"incarnation": got.Parse(good, 3, other, 512),
		"offset":      got.Parse(good, 3, testInc, 513),
	} {
		if !errors.Is(err, ErrBad) {
			t.Errorf("batch of another %s: %v", name, err)
		}
	}
}

func TestReaderAndFind(t *testing.T) {
	file := bytes.Repeat([]byte{0}, 300)
	var starts []int64
	for i := range 50 {
		off := int64(len(file))
		starts = append(starts, off)
		file = append(file, sample(off, segfile.Seq(1+4*i))...)
	}
	end := int64(len(file))
	file = append(file, make([]byte, 5000)...)
	r := NewReader(bytes.NewReader(file), 3, testInc, 300, int64(len(file)))
	for i := range starts {
		b, err := r.Next()
		if err != nil || b.Offset != starts[i] {
			t.Fatalf("batch %d: %v", i, err)
		}
	}
	if _, err := r.Next(); !errors.Is(err, ErrBad) || r.Offset() != end {
		t.Errorf("behind the last batch: %v at %d, want %d", err, r.Offset(), end)
	}
	r = NewReader(bytes.NewReader(file), 3, testInc, 300, end)
	for range starts {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	// A batch that lies in the file as somebody's data is not found: it is not at its place.
	copied := append(bytes.Clone(file[:end]), sample(300, 1)...)
	for _, from := range []int64{0, 300, 301, starts[20], starts[20] + 1, end} {
		want := int64(-1)
		for _, s := range starts {
			if s >= from {
				want = s
				break
			}
		}
		got, err := Find(bytes.NewReader(copied), 3, testInc, from, int64(len(copied)))
		if err != nil || got != want {
			t.Errorf("Find from %d = %d, %v, want %d", from, got, err, want)
		}
	}
}

// TestFindAcrossReads: the magic may straddle two reads of the scan.
func TestFindAcrossReads(t *testing.T) {
	for shift := range 8 {
		off := int64(readAhead - 4 + shift)
		file := make([]byte, off)
		file = append(file, sample(off, 1)...)
		if got, err := Find(bytes.NewReader(file), 3, testInc, 0, int64(len(file))); got != off || err != nil {
			t.Errorf("Find = %d, %v, want %d", got, err, off)
		}
	}
}

// once fails the test when a byte is asked for twice or out of order, and keeps what was asked.
type once struct {
	*bytes.Reader
	t  *testing.T
	at int64
	n  int
}

func (o *once) ReadAt(p []byte, off int64) (int, error) {
	if off != o.at {
		o.t.Errorf("reads at %d, had read up to %d", off, o.at)
	}
	n, err := o.Reader.ReadAt(p, off)
	o.at, o.n = off+int64(n), o.n+1
	return n, err
}

// TestReaderReadsOnce: each byte once and in order, whatever lies across the ends of reads.
func TestReaderReadsOnce(t *testing.T) {
	file := make([]byte, 256)
	var want []segfile.Seq
	add := func(size int) {
		var b Builder
		b.Set([]byte("key"), bytes.Repeat([]byte{byte(size)}, size))
		want = append(want, segfile.Seq(len(want)+1))
		file = append(file, b.Finish(header(int64(len(file)), want[len(want)-1]))...)
	}
	frame := HeaderSize + EntrySize(len("key"), 0) + TrailerSize
	for d := -HeaderSize - 9; d <= 9; d++ { // ends of batches all around the end of a read
		size := ((len(file)+1000)/readStep+1)*readStep - len(file) - frame + d
		add(size - sumSize*blocks(size))
	}
	for _, size := range []int{0, 1, 4096, readStep - 1, readStep, 3 * readStep, readAhead, readAhead + 1, MaxValue, 5, 3 << 20, 77} {
		add(size)
	}
	for _, short := range []int{0, 1, TrailerSize + 70} {
		from := &once{Reader: bytes.NewReader(file[:len(file)-short]), t: t}
		r := NewReader(from, 3, testInc, 0, int64(len(file)))
		if head, err := r.Skip(256); err != nil || !bytes.Equal(head, file[:256]) {
			t.Fatalf("Skip: %v", err)
		}
		seen := want
		if short > 0 {
			seen = want[:len(want)-1]
		}
		for _, seq := range seen {
			b, err := r.Next()
			if err != nil || b.Seq != seq || !bytes.Equal(b.Raw, file[b.Offset:b.End()]) {
				t.Fatalf("batch %v: %v", seq, err)
			}
		}
		if _, err := r.Next(); short == 0 && err != io.EOF || short > 0 && !errors.Is(err, ErrBad) {
			t.Errorf("%d bytes short: %v", short, err)
		}
		if from.at != int64(len(file)-short) || from.n > len(file)/readStep+4 {
			t.Errorf("%d bytes short: read up to %d in %d calls", short, from.at, from.n)
		}
	}
	if _, err := NewReader(bytes.NewReader(file[:255]), 3, testInc, 0, int64(len(file))).Skip(256); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Skip behind the end: %v", err)
	}
}

// TestReaderAtBadSector gives what lies before the place that cannot be read, and the error where it matters.
func TestReaderAtBadSector(t *testing.T) {
	one := sampleOf(0, 1, 3)
	file := append(bytes.Clone(one), sampleOf(int64(len(one)), 5, 3)...)
	r := NewReader(brokenDisk{bytes.NewReader(file), int64(len(one)) + 9}, 3, testInc, 0, int64(len(file)))
	if b, err := r.Next(); err != nil || b.Seq != 1 {
		t.Fatalf("before the bad sector: %v", err)
	}
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, errDisk) || errors.Is(err, ErrBad) || r.Offset() != int64(len(one)) {
			t.Errorf("at the bad sector: %v", err)
		}
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// TestReadError: what cannot be read is not taken for what does not check.
func TestReadError(t *testing.T) {
	want := errors.New("bad sector")
	if _, err := NewReader(failing{want}, 3, testInc, 0, 1000).Next(); !errors.Is(err, want) || errors.Is(err, ErrBad) {
		t.Errorf("Next: %v", err)
	}
	if _, err := Find(failing{want}, 3, testInc, 0, 1000); !errors.Is(err, want) {
		t.Errorf("Find: %v", err)
	}
}

func TestRewrite(t *testing.T) {
	var b, again Batch
	if err := b.Parse(sample(0, 10), 3, testInc, 0); err != nil {
		t.Fatal(err)
	}
	h := b.Header
	h.Segment, h.Offset, h.Flags = 9, 777, Rewritten
	p := Rewrite([]byte("before"), &b, h)
	if err := again.Parse(p[6:], 9, testInc, 777); err != nil {
		t.Fatal(err)
	}
	if again.Header != h || len(again.Entries) != len(b.Entries) || again.Entries[2].Seq != b.Entries[2].Seq {
		t.Errorf("rewritten header %+v, want %+v", again.Header, h)
	}
}

// TestCover compares block-wise reads with the value itself.
func TestCover(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{1, 100, BlockSize - 1, BlockSize, BlockSize + 1, 5*BlockSize + 17} {
		value := make([]byte, size)
		for i := range value {
			value[i] = byte(rng.Uint32())
		}
		var b Builder
		b.Set([]byte("key"), value)
		file := bytes.Clone(b.Finish(header(0, 1)))
		loc := segfile.Location{Offset: int64(b.Items()[0].Value), Length: uint32(size)}
		for range 200 {
			off := rng.Int64N(int64(size))
			n := 1 + rng.IntN(size-int(off))
			w := Cover(loc, off, n)
			data := file[w.Data : w.Data+int64(w.DataLen)]
			if at := Check(file[w.Sums:w.Sums+int64(w.SumsLen)], data); at >= 0 {
				t.Fatalf("size %d, %d+%d: block at %d does not check", size, off, n, at)
			}
			skip := off - int64(w.First)*BlockSize
			if !bytes.Equal(data[skip:skip+int64(n)], value[off:off+int64(n)]) {
				t.Fatalf("size %d: %d+%d is something else", size, off, n)
			}
			bad := bytes.Clone(data)
			flip := rng.IntN(len(bad))
			bad[flip] ^= 4
			if at := Check(file[w.Sums:w.Sums+int64(w.SumsLen)], bad); at != flip/BlockSize*BlockSize {
				t.Fatalf("flip at %d found at %d", flip, at)
			}
		}
	}
}
