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

func FuzzBatch(f *testing.F) {
	// Small ones: the fuzzer spends its time on making large inputs smaller.
	f.Add(sampleOf(0, 100, 3), true)
	f.Add(sampleOf(0, 1, 3), false)
	var b Builder
	f.Add(bytes.Clone(b.Finish(header(0, 3))), false)
	b.Set([]byte("k"), []byte("v"))
	f.Add(bytes.Clone(b.Finish(header(0, 3))), true)
	b.Reset(true)
	b.Move(4, 5, true, []byte("moved"), nil)
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
				again.Move(e.Seq, e.Time, e.Delete, e.Key, e.Value)
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
	f.Add(append(bytes.Clone(one), sampleOf(int64(len(one)), 104, 3)...))
	f.Add(append(make([]byte, 96), one...))
	f.Fuzz(func(t *testing.T, p []byte) {
		r := NewReader(bytes.NewReader(p), 3, testInc, 0, int64(len(p)))
		for {
			_, err := r.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, ErrBad) {
					t.Fatal(err)
				}
				break
			}
		}
		if _, err := Find(bytes.NewReader(p), 3, testInc, 0, int64(len(p))); err != nil {
			t.Fatal(err)
		}
	})
}
