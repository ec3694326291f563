package oracle

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func newWriter(t *testing.T, seed uint64) *Writer {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := New(root, filepath.Join(t.TempDir(), "acks"), seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// TestModelFollowsTheKernel runs the writer on the machine's own filesystem: model and tree must agree at every step.
func TestModelFollowsTheKernel(t *testing.T) {
	w := newWriter(t, 1)
	used := make(map[kind]bool)
	for i := range 600 {
		if err := w.Step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if len(w.ops) > 0 {
			used[w.ops[len(w.ops)-1].kind] = true
		}
		if i%20 != 0 {
			continue
		}
		if _, err := w.Check(w.root); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	for k := range opFsyncDir {
		if k != opWrite && !used[k] {
			t.Errorf("no operation of kind %d in the run", k)
		}
	}
	if w.Acks() < 100 {
		t.Errorf("%d acknowledgements in 600 steps", w.Acks())
	}
}

// TestCheckFindsLoss changes the tree behind the writer's back, in each way that a crash could.
func TestCheckFindsLoss(t *testing.T) {
	someFile := func(w *Writer) string {
		p, ok := w.pick(func(n *inode) bool { return !n.dir && n.target == "" && len(n.content) > 10 })
		if !ok {
			t.Fatal("no file in the tree")
		}
		return filepath.Join(w.root, p)
	}
	harm := map[string]func(w *Writer) error{
		"a file is gone":    func(w *Writer) error { return os.Remove(someFile(w)) },
		"a byte is flipped": func(w *Writer) error { return edit(someFile(w), func(b []byte) []byte { b[5] ^= 1; return b }) },
		"a tail is lost":    func(w *Writer) error { return edit(someFile(w), func(b []byte) []byte { return b[:len(b)-1] }) },
		"zeros":             func(w *Writer) error { return edit(someFile(w), func(b []byte) []byte { return make([]byte, len(b)) }) },
		"a file came back":  func(w *Writer) error { return os.WriteFile(filepath.Join(w.root, "deleted"), nil, 0o600) },
		"a mode":            func(w *Writer) error { return os.Chmod(someFile(w), 0o777) },
	}
	for name, do := range harm {
		w := newWriter(t, 2)
		for range 200 {
			if err := w.Step(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := do(w); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Check(w.root); err == nil || !strings.Contains(err.Error(), "no promised state") {
			t.Errorf("%s: Check says %v", name, err)
		}
	}
}

// TestCheckAcceptsWhatWasUnderWay: unacknowledged operations may be lost from the end, a last write may be half done.
func TestCheckAcceptsWhatWasUnderWay(t *testing.T) {
	w := newWriter(t, 3)
	create := op{kind: opCreate, path: "a", mode: 0o600}
	first := op{kind: opWrite, path: "a", data: slices.Repeat([]byte("x"), 10000)}
	for _, o := range []op{create, first} {
		if err := o.do(w.root); err != nil {
			t.Fatal(err)
		}
		w.ops = append(w.ops, o)
	}
	if err := w.acknowledged(first); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Check(w.root); n != 0 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}

	w.ops = []op{{kind: opMkdir, path: "lost", mode: 0o700}}
	if n, err := w.Check(w.root); n != 0 || err != nil {
		t.Fatalf("a lost mkdir: got %d, %v", n, err)
	}

	second := op{kind: opWrite, path: "a", offset: 4096, data: slices.Repeat([]byte("y"), 8192)}
	w.ops = []op{second}
	if err := edit(filepath.Join(w.root, "a"), func(b []byte) []byte { copy(b[4096:8192], second.data); return b }); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Check(w.root); n != 1 || err != nil {
		t.Fatalf("half a write: got %d, %v", n, err)
	}

	w.ops = []op{second}
	if err := edit(filepath.Join(w.root, "a"), func(b []byte) []byte { b[100] = 'z'; return b }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Check(w.root); err == nil {
		t.Fatal("a change outside of the write was accepted")
	}
}

func edit(path string, change func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	return os.WriteFile(path, change(b), 0o600)
}
