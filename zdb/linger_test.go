package zdb

import (
	"context"
	"errors"
	"testing"
	"time"
)

// lingering gives a namespace that is closed beside an open iterator.
func lingering(t *testing.T, db *DB) *Iter {
	t.Helper()
	n := openNS(t, db, "ns", NamespaceOptions{})
	put(t, n, "k", "first")
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	it, err := n.NewIter(t.Context(), IterOptions{})
	if err != nil || !it.First() {
		t.Fatal(err)
	}
	return it
}

// within closes an iterator, which must not take for ever.
func within(t *testing.T, it *Iter) {
	t.Helper()
	done := make(chan error)
	go func() { done <- it.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the iterator does not close")
	}
}

// TestDropBesideIterator: the files that an iterator has open stay until it is closed.
func TestDropBesideIterator(t *testing.T) {
	db := openAt(t, t.TempDir(), nil)
	it := lingering(t, db)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for range 2 { // the second finds it closed
		if err := db.DropNamespace(ctx, "ns"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drop beside an iterator: %v", err)
		}
	}
	within(t, it)
	if err := db.DropNamespace(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	n := openNS(t, db, "ns", NamespaceOptions{})
	if _, err := n.Get(t.Context(), []byte("k")); !errors.Is(err, ErrNotFound) {
		t.Errorf("in the new one: %v", err)
	}
	if len(db.left) > 0 {
		t.Errorf("%v are remembered", db.left)
	}
}

// TestReopenBesideIterator: a namespace that is opened again does not take the index away from an iterator of the opening before.
func TestReopenBesideIterator(t *testing.T) {
	db := openAt(t, t.TempDir(), nil)
	it := lingering(t, db)
	if err := it.n.Close(); err != nil {
		t.Fatal(err)
	}
	n := openNS(t, db, "ns", NamespaceOptions{})
	wantValue(t, n, "k", "first")
	put(t, n, "k", "second")
	if err := n.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, it)
	wantValue(t, n, "k", "second")
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	wantValue(t, openNS(t, db, "ns", NamespaceOptions{}), "k", "second")
}
