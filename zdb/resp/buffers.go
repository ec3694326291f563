package resp

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Buffers lends the memory of large requests to Readers, and bounds what it lends to all of them together. A returned
// buffer is kept for the next request until the garbage collector wants it.
type Buffers struct {
	limit int64
	lent  atomic.Int64
	pools [64]sync.Pool // by the exponent of the size
}

// NewBuffers returns Buffers that lend at most limit bytes at a time.
func NewBuffers(limit int64) *Buffers { return &Buffers{limit: limit} }

// Lent returns how many bytes are lent at the moment.
func (b *Buffers) Lent() int64 { return b.lent.Load() }

// take returns a buffer of n bytes rounded up to a power of two, or nil when that would be over the limit. Its bytes
// are arbitrary.
func (b *Buffers) take(n int) []byte {
	class := bits.Len(uint(n - 1))
	size := int64(1) << class
	if b.lent.Add(size) > b.limit {
		b.lent.Add(-size)
		return nil
	}
	if p, ok := b.pools[class].Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, size)
}

// give takes back what take returned.
func (b *Buffers) give(p []byte) {
	b.lent.Add(-int64(len(p)))
	b.pools[bits.Len(uint(len(p)-1))].Put(&p)
}
