package zdb

import (
	"fmt"
	"testing"
)

func benchNS(b *testing.B, o NamespaceOptions) *Namespace {
	b.Helper()
	dir := b.TempDir()
	db, err := Open(b.Context(), Options{DataDir: dir, IndexDir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	n, err := db.Namespace(b.Context(), "ns", o)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 1 << 20} {
		for _, sync := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/sync=%v", size, sync), func(b *testing.B) {
				n := benchNS(b, NamespaceOptions{Prewrite: size < 1<<20, InlineMax: 512})
				value := make([]byte, size)
				b.SetBytes(int64(size))
				batch := NewBatch()
				for i := 0; b.Loop(); i++ {
					batch.Reset()
					batch.Set(fmt.Appendf(nil, "%08d", i%5000), value)
					c, err := n.Commit(b.Context(), batch)
					if err == nil && sync {
						err = n.SyncTo(b.Context(), c.Last)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, where := range []string{"overlay", "index", "log"} {
		b.Run(where, func(b *testing.B) {
			o := NamespaceOptions{InlineMax: 512}
			if where == "log" {
				o.InlineMax = 0
			}
			n := benchNS(b, o)
			batch := NewBatch()
			for i := range 5000 {
				batch.Set(fmt.Appendf(nil, "%08d", i), make([]byte, 200))
			}
			if _, err := n.Commit(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
			if where != "overlay" {
				if err := n.apply(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := n.Get(b.Context(), fmt.Appendf(nil, "%08d", i*7%5000)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
