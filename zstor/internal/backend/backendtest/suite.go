// Package backendtest is the contract of a backend in executable form.
package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"qsfs/zstor/internal/backend"
)

// Run checks one implementation. open gives an empty backend; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) backend.Backend) {
	for _, c := range []struct {
		name string
		test func(*testing.T, backend.Backend)
	}{
		{"absent is its own answer", absent},
		{"put, get, has, delete", basics},
		{"repeating is safe", repeats},
		{"largest name and value", largest},
		{"any byte in names and values", binary},
		{"many at once", parallel},
		{"info", info},
		{"a cancelled call returns", cancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			defer b.Close()
			c.test(t, b)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func absent(t *testing.T, b backend.Backend) {
	if _, err := b.Get(t.Context(), []byte("nothing")); !errors.Is(err, backend.ErrAbsent) {
		t.Errorf("get: got %v, want ErrAbsent", err)
	}
	has, err := b.Has(t.Context(), [][]byte{[]byte("nothing")})
	if err != nil || len(has) != 1 || has[0] {
		t.Errorf("has: got %v, %v", has, err)
	}
	if err := b.Delete(t.Context(), [][]byte{[]byte("nothing")}); err != nil {
		t.Errorf("delete: got %v", err)
	}
}

func basics(t *testing.T, b backend.Backend) {
	ctx := t.Context()
	must(t, b.Put(ctx, []byte("a"), []byte("1")))
	must(t, b.Put(ctx, []byte("b"), []byte("2")))
	v, err := b.Get(ctx, []byte("a"))
	if err != nil || string(v) != "1" {
		t.Errorf("get: got %q, %v", v, err)
	}
	has, err := b.Has(ctx, [][]byte{[]byte("b"), []byte("x"), []byte("a")})
	if err != nil || fmt.Sprint(has) != "[true false true]" {
		t.Errorf("has: got %v, %v", has, err)
	}
	must(t, b.Delete(ctx, [][]byte{[]byte("a"), []byte("x")}))
	if _, err := b.Get(ctx, []byte("a")); !errors.Is(err, backend.ErrAbsent) {
		t.Errorf("get after delete: got %v", err)
	}
	if v, err := b.Get(ctx, []byte("b")); err != nil || string(v) != "2" {
		t.Errorf("the other: got %q, %v", v, err)
	}
	if has, err := b.Has(ctx, nil); err != nil || len(has) != 0 {
		t.Errorf("has of nothing: got %v, %v", has, err)
	}
	must(t, b.Delete(ctx, nil))
}

func repeats(t *testing.T, b backend.Backend) {
	for range 3 {
		must(t, b.Put(t.Context(), []byte("a"), []byte("same")))
	}
	for range 3 {
		must(t, b.Delete(t.Context(), [][]byte{[]byte("a")}))
	}
}

func largest(t *testing.T, b backend.Backend) {
	name := bytes.Repeat([]byte{'n'}, backend.MaxName)
	value := bytes.Repeat([]byte{0xa5}, backend.MaxValue)
	must(t, b.Put(t.Context(), name, value))
	v, err := b.Get(t.Context(), name)
	if err != nil || !bytes.Equal(v, value) {
		t.Errorf("got %d bytes, %v", len(v), err)
	}
}

func binary(t *testing.T, b backend.Backend) {
	name := make([]byte, 28)
	for i := range 256 {
		for j := range name {
			name[j] = byte(i)
		}
		must(t, b.Put(t.Context(), name, []byte{0, byte(i), '\r', '\n'}))
	}
	for i := range 256 {
		for j := range name {
			name[j] = byte(i)
		}
		v, err := b.Get(t.Context(), name)
		if err != nil || !bytes.Equal(v, []byte{0, byte(i), '\r', '\n'}) {
			t.Fatalf("name of %02x: got %x, %v", i, v, err)
		}
	}
}

func parallel(t *testing.T, b backend.Backend) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 32 {
				name := fmt.Appendf(nil, "%d/%d", g, i)
				if err := b.Put(t.Context(), name, bytes.Repeat(name, 1000)); err != nil {
					t.Error(err)
					return
				}
				if v, err := b.Get(t.Context(), name); err != nil || !bytes.Equal(v, bytes.Repeat(name, 1000)) {
					t.Errorf("%s: got %d bytes, %v", name, len(v), err)
				}
			}
		})
	}
	wg.Wait()
}

func info(t *testing.T, b backend.Backend) {
	must(t, b.Put(t.Context(), []byte("a"), []byte("1")))
	in, err := b.Info(t.Context())
	must(t, err)
	if in.Entries != 1 {
		t.Errorf("entries: got %d, want 1", in.Entries)
	}
}

func cancelled(t *testing.T, b backend.Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	if _, err := b.Get(ctx, []byte("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the cancellation", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
}
