package zdb

import (
	"fmt"
	"sync"
	"testing"
)

// More namespaces in use than indexes may be open: they take turns, and nobody finds an index locked by its own closing.
func TestIndexesTakeTurns(t *testing.T) {
	db := openAt(t, t.TempDir(), func(o *Options) { o.MaxIndexes = 1; o.Reserve = -1 })
	var all []*Namespace
	for i := range 3 {
		n, err := db.Namespace(t.Context(), fmt.Sprintf("ns%d", i), NamespaceOptions{Ballast: -1})
		if err != nil {
			t.Fatal(err)
		}
		b := NewBatch()
		for k := range 1000 {
			b.Set(fmt.Appendf(nil, "key%04d", k), []byte("value"))
		}
		if _, err := n.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if err := n.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range 60 {
				n := all[(i+k)%len(all)]
				if _, err := n.Get(t.Context(), fmt.Appendf(nil, "key%04d", 30*i+k)); err != nil {
					t.Errorf("read %s: %v", n.Name(), err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, n := range all {
		if r := n.Stats().IndexRebuilt; r != 0 {
			t.Errorf("the index of %s was rebuilt %d times", n.Name(), r)
		}
	}
}
