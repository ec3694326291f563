package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"qsfs/zdb/segfile"
)

// mend makes the checksums of a mutated batch right, so that the fuzzer gets behind them.
func mend(p []byte) []byte {
	p = bytes.Clone(p)
	if len(p) < HeaderSize+TrailerSize {
		return p
	}
	le := binary.LittleEndian
	body := p[HeaderSize : len(p)-TrailerSize]
	le.PutUint32(p[12:], uint32(len(body)))
	le.PutUint32(p[92:], crc32.Checksum(p[:92], segfile.Castagnoli))
	le.PutUint32(p[len(p)-TrailerSize:], checksum(crc32.Checksum(body, segfile.Castagnoli), p[:HeaderSize]))
	return p
}

// refused gives a batch with one fault each; mended they have right checksums, and the fault is in what is said.
func refused() [][]byte {
	var b Builder
	b.Set([]byte("k"), []byte("v"))
	one := bytes.Clone(b.Finish(header(0, 3)))
	var all [][]byte
	for _, at := range []int{
		0, 4, 6, 7, 10, 11, 40, 55, 56, 80, 92, // header: magic, version, flags, count, segment, durable offset, incarnation, offset, checksum
		HeaderSize, HeaderSize + 1, HeaderSize + 3, HeaderSize + 4, HeaderSize + 7, // entry: flags, reserved, lengths
		len(one) - 1,
	} {
		bad := bytes.Clone(one)
		bad[at] ^= 0x90
		all = append(all, bad)
	}
	marker, deleted, noKey := bytes.Clone(one), bytes.Clone(one), bytes.Clone(one)
	marker[6] |= Marker
	deleted[HeaderSize] |= flagDelete
	noKey[HeaderSize+2] = 0
	all = append(all, marker, deleted, noKey)
	for n := 0; n < len(one); n += 7 {
		all = append(all, one[:n])
	}
	// Longer than any batch, in a header that checks.
	long := bytes.Clone(one)
	binary.LittleEndian.PutUint32(long[12:], MaxBytes)
	binary.LittleEndian.PutUint32(long[92:], crc32.Checksum(long[:92], segfile.Castagnoli))
	return append(all, long)
}

func FuzzBatch(f *testing.F) {
	// Small ones: the fuzzer spends its time on making large inputs smaller.
	f.Add(sampleOf(0, 100, 3), true)
	f.Add(sampleOf(0, 1, 3), false)
	var b Builder
	f.Add(bytes.Clone(b.Finish(header(0, 3))), false)
	b.Set([]byte("k"), []byte("v"))
	f.Add(bytes.Clone(b.Finish(header(0, 3))), true)
	b.Reset(true)
	move(&b, Moved{Seq: 4, Time: 5, Delete: true, Given: true, Key: []byte("moved")}, nil)
	b.Delete([]byte("gone"))
	f.Add(bytes.Clone(b.Finish(header(0, 3))), true)
	f.Add([]byte(magic), false)
	// Right sums over wrong fields: version, flags, marker with entries, segment, cut entries.
	for at, v := range map[int]byte{4: 9, 6: 0x80, 7: 1, 40: 9, HeaderSize + 2: 0xff, HeaderSize: 0x70} {
		p := sampleOf(0, 1, 3)
		p[at] = v
		f.Add(p, true)
	}
	f.Add(append(sampleOf(0, 1, 3), 1, 2, 3), true)
	for _, p := range refused() {
		f.Add(p, false)
		f.Add(p, true)
	}
	f.Fuzz(func(t *testing.T, p []byte, fix bool) {
		if fix {
			p = mend(p)
		}
		var got Batch
		err := got.Parse(p, 3, testInc, 0)
		if err != nil {
			if !errors.Is(err, ErrBad) {
				t.Fatalf("error %v is not ErrBad", err)
			}
			return
		}
		// What checks is encoded again to the same bytes.
		var again Builder
		for _, e := range got.Entries {
			switch {
			case e.Moved:
				move(&again, Moved{Seq: e.Seq, Time: e.Time, Delete: e.Delete, Given: e.Given, Key: e.Key}, e.Value)
			case e.Delete:
				again.Delete(e.Key)
			default:
				again.Set(e.Key, e.Value)
			}
		}
		if q := again.Finish(got.Header); len(q) != int(got.Size()) {
			t.Fatalf("encoded again: %d bytes, had %d", len(q), got.Size())
		}
	})
}

// FuzzLog reads whatever bytes as a segment, and searches them.
func FuzzLog(f *testing.F) {
	one := sampleOf(0, 100, 3)
	two := append(bytes.Clone(one), sampleOf(int64(len(one)), 104, 3)...)
	f.Add(two, uint32(len(two)))
	f.Add(append(make([]byte, 96), one...), uint32(1<<20))
	f.Add(append(make([]byte, 96), sampleOf(96, 100, 3)...), uint32(1<<20))
	for _, p := range refused() {
		f.Add(p, uint32(1<<20))
	}
	// The disk fails: at once, in the header, in the entries, in the second batch.
	for _, limit := range []int{0, 50, HeaderSize, HeaderSize + 20, len(one), len(one) + 50, len(one) + HeaderSize + 9} {
		f.Add(two, uint32(limit))
	}
	f.Fuzz(func(t *testing.T, p []byte, limit uint32) {
		src := brokenDisk{bytes.NewReader(p), int64(limit)}
		r := NewReader(src, 3, testInc, 0, int64(len(p)))
		for {
			_, err := r.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, ErrBad) && !errors.Is(err, errDisk) {
					t.Fatal(err)
				}
				break
			}
		}
		if _, err := Find(src, 3, testInc, 0, int64(len(p))); err != nil && !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
		if limit < uint32(len(p)) {
			if _, err := valid(src, 3, testInc, 0, int64(len(p))); err != nil && !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
			return
		}
		if at, err := Find(src, 3, testInc, 0, int64(len(p))); err != nil {
			t.Fatal(err)
		} else if at >= 0 {
			if _, err := NewReader(src, 3, testInc, at, int64(len(p))).Next(); err != nil {
				t.Fatalf("found at %d, but: %v", at, err)
			}
		}
	})
}

var errDisk = errors.New("the disk fails")

// brokenDisk reads nothing at or behind limit when that lies inside the file.
type brokenDisk struct {
	r     *bytes.Reader
	limit int64
}

func (f brokenDisk) ReadAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > f.limit && f.limit < f.r.Size() {
		n, _ := f.r.ReadAt(p[:max(0, min(int64(len(p)), f.limit-off))], off)
		return n, errDisk
	}
	return f.r.ReadAt(p, off)
}
