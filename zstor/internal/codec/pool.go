package codec

import (
	"math/bits"
	"sync"
)

// buffer is a piece of pooled memory.
type buffer struct{ b []byte }

// One pool per size class; classes are 2^i and 1.5·2^i, so at most a third of a
// buffer is unused. Larger ones than the last class are left to the collector.
var pools [2 * (poolMaxBits + 1)]sync.Pool

const (
	poolMinBits = 10
	poolMaxBits = 26
)

func poolClass(n int) (class, size int) {
	e := max(bits.Len(uint(max(n, 1)-1)), poolMinBits) // 2^e ≥ n
	if half := 3 << (e - 2); n <= half {
		return 2*e - 1, half
	}
	return 2 * e, 1 << e
}

// poolSize is the memory that getBuffer(n) takes.
func poolSize(n int) int {
	_, size := poolClass(n)
	return size
}

// getBuffer returns memory for n bytes with undefined content.
func getBuffer(n int) *buffer {
	class, size := poolClass(n)
	if class < len(pools) {
		if b, ok := pools[class].Get().(*buffer); ok {
			b.b = b.b[:n]
			return b
		}
	}
	return &buffer{make([]byte, n, size)}
}

func putBuffer(b *buffer) {
	if class, size := poolClass(cap(b.b)); class < len(pools) && size == cap(b.b) {
		pools[class].Put(b)
	}
}
