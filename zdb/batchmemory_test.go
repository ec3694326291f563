package zdb

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"qsfs/zdb/internal/vfs"
)

// heap is what is in use once all that nobody refers to is collected.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A small entry that is committed with a batch which once was large does not hold on to the memory of the large one.
func TestSmallEntryAfterLarge(t *testing.T) {
	r := newRig(t)
	r.o.FS = vfs.OS
	r.ns.InlineMax = 100
	n := r.open()
	large := make([]byte, 1<<20)
	b := NewBatch()
	before := heap()
	const rounds = 64
	for i := range rounds {
		for _, value := range [][]byte{large, []byte("small")} {
			b.Reset()
			b.Set(fmt.Appendf(nil, "key %d of %d", i, len(value)), value)
			if _, err := n.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("%d small entries in the overlay hold %d bytes, which counts %d", 2*rounds, grown, n.overlayBytes())
	}
	if n.overlayBytes() == 0 {
		t.Error("nothing was in the overlay any more")
	}
	for i := range rounds {
		e, err := n.Get(t.Context(), fmt.Appendf(nil, "key %d of 5", i))
		if err != nil || !bytes.Equal(e.Value, []byte("small")) {
			t.Fatalf("small value %d: %q, %v", i, e.Value, err)
		}
	}
}
