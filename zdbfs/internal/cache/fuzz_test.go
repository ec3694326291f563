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
		f.Add(append(appendHeader(nil, 4096, data), data...), uint16(n/2))
	}
	f.Add([]byte(magic), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
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
	})
}
