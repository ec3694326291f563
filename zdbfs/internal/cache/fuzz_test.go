package cache

import (
	"bytes"
	"testing"
)

// FuzzStripeFile reads any bytes as a stripe: what is served of them is what their own checksums
// cover, and nothing panics.
func FuzzStripeFile(f *testing.F) {
	for _, n := range []int{1, blockSize, blockSize + 1, 3 * blockSize} {
		data := pattern(uint64(n), n)
		good := append(appendHeader(nil, 4096, data), data...)
		f.Add(good, uint16(n/2), uint32(len(good)))
		f.Add(good, uint16(0), uint32(fixedSize)) // cut in front of the sums
		f.Add(good, uint16(0), uint32(len(good)-1))
		f.Add(good[:len(good)-1], uint16(0), uint32(0))
		for _, i := range []int{0, len(magic), fixedSize, len(good) - 1} { // magic, offset, a sum, content
			bad := bytes.Clone(good)
			bad[i] ^= 1
			f.Add(bad, uint16(0), uint32(len(bad)))
		}
	}
	f.Add([]byte(magic), uint16(0), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, cut uint32) {
		r := bytes.NewReader(b)
		offset, length, err := readHeader(r, int64(len(b)))
		if err != nil {
			return
		}
		whole := make([]byte, length)
		if readRange(r, length, 0, whole) == nil {
			if again := append(appendHeader(nil, offset, whole), whole...); !bytes.Equal(again, b) {
				t.Error("served what the file does not hold")
			}
		}
		from := int64(at) % length
		part := make([]byte, min(length-from, 5000))
		if readRange(r, length, from, part) == nil && !bytes.Equal(part, b[headerSize(length)+from:][:len(part)]) {
			t.Error("a part differs from the file")
		}
		// Somebody cuts the file after its header was read.
		less := bytes.NewReader(b[:min(int(cut), len(b))])
		if readRange(less, length, from, part) == nil && !bytes.Equal(part, b[headerSize(length)+from:][:len(part)]) {
			t.Error("a part of a cut file differs from the file")
		}
	})
}
