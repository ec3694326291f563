package zstor

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qsfs/zstor/client"
)

func TestStoreAndRetrieveFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format()
	dir := t.TempDir()
	for _, size := range []int{0, 1, 16 << 10, 100_000} {
		content := make([]byte, size)
		_, _ = rand.Read(content)
		path := filepath.Join(dir, "in")
		a.must(os.WriteFile(path, content, 0o640))
		when := time.Now().Add(-time.Hour).Truncate(time.Second)
		a.must(os.Chtimes(path, when, when))
		r := client.FileRequest{Name: "some/name", Path: path, Replace: true}
		if err := a.store.StoreFile(t.Context(), r, quiet); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		r.Replace = false
		if err := a.store.StoreFile(t.Context(), r, quiet); !errors.Is(err, client.ErrBadRequest) {
			t.Errorf("a name that is taken: got %v", err)
		}
		out := filepath.Join(dir, "out")
		_ = os.Remove(out)
		if err := a.store.RetrieveFile(t.Context(), client.FileRequest{Name: "some/name", Path: out}, quiet); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		got, err := os.ReadFile(out)
		st, err2 := os.Stat(out)
		if err := errors.Join(err, err2); err != nil || !bytes.Equal(got, content) || st.Mode().Perm() != 0o640 || !st.ModTime().Equal(when) {
			t.Errorf("%d bytes: got %d, mode %v, %v", size, len(got), st.Mode(), err)
		}
		if err := a.store.RetrieveFile(t.Context(), client.FileRequest{Name: "some/name", Path: out}, quiet); !errors.Is(err, client.ErrBadRequest) {
			t.Errorf("an existing file: got %v", err)
		}
	}
	list, err := a.store.Files(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != "some/name" || list[0].Size != 100_000 || !list[0].Full {
		t.Errorf("list: %+v, %v", list, err)
	}
	// What was replaced is deleted: 7 stripes and one of facts are left on each node.
	w.eventually("replaced generations are deleted", func() bool {
		for _, n := range w.nodes {
			if n.Len() != 8 {
				return false
			}
		}
		return true
	})
	if err := a.store.RetrieveFile(t.Context(), client.FileRequest{Name: "other", Path: filepath.Join(dir, "x")}, quiet); !errors.Is(err, client.ErrNotDispersed) {
		t.Errorf("an unknown name: got %v", err)
	}
	w.neverTwo()
}

func TestCheckAndRebuildFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format()
	path := filepath.Join(t.TempDir(), "in")
	a.must(os.WriteFile(path, bytes.Repeat([]byte("abc"), 30_000), 0o600))
	r := client.FileRequest{Path: path}
	a.must(a.store.StoreFile(t.Context(), r, quiet))
	deep := r
	deep.Deep = true
	a.must(a.store.CheckFile(t.Context(), r, quiet))
	a.must(a.store.CheckFile(t.Context(), deep, quiet))
	before := w.nodes[2].Snapshot()
	refuse(w.nodes[2]) // or it would be filled again meanwhile
	refuse(w.nodes[4])
	w.nodes[2].Wipe()
	w.nodes[3].SetLie(func(_, v []byte) []byte { v[20] ^= 1; return v })
	if err := a.store.CheckFile(t.Context(), r, quiet); !errors.Is(err, client.ErrDegraded) {
		t.Errorf("a wiped node: got %v", err)
	}
	if err := a.store.CheckFile(t.Context(), deep, quiet); !errors.Is(err, client.ErrDegraded) {
		t.Errorf("and a lying one: got %v", err)
	}
	w.nodes[4].Wipe()
	if err := a.store.CheckFile(t.Context(), deep, quiet); !errors.Is(err, client.ErrDamaged) {
		t.Errorf("three of six: got %v", err)
	}
	w.nodes[3].SetLie(nil)
	w.nodes[2].SetFault(nil)
	w.nodes[4].SetFault(nil)
	if err := a.store.RebuildFile(t.Context(), r, quiet); err != nil {
		t.Fatal(err)
	}
	a.must(a.store.CheckFile(t.Context(), deep, quiet))
	for name, v := range w.nodes[2].Snapshot() {
		if !bytes.Equal(before[name], v) {
			t.Error("a rebuilt shard differs")
		}
	}
	w.neverTwo()
}

// TestFilesSurviveARestart: a file that was stored is a root; what broke off is not.
func TestFilesSurviveARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	path := filepath.Join(t.TempDir(), "in")
	a.must(os.WriteFile(path, bytes.Repeat([]byte("abc"), 30_000), 0o600))
	a.must(a.store.StoreFile(t.Context(), client.FileRequest{Name: "kept", Path: path}, quiet))
	a.mustShip()
	a.kill()
	a.start().mustMount()
	for range 3 {
		a.fs.write(nsMeta, 1)
		a.mustShip()
	}
	a.eventually("deletions are done", func() bool { return a.store.intents.count() == 0 })
	a.must(a.store.CheckFile(t.Context(), client.FileRequest{Name: "kept", Deep: true}, quiet))
	b := w.recover()
	a.must(b.store.RetrieveFile(t.Context(), client.FileRequest{Name: "kept", Path: path, Replace: true}, quiet))
}

func TestFileNamesStayUnderRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.Root = t.TempDir()
	a := w.machine().start().format()
	for _, p := range []string{"/etc/hostname", "relative", w.cfg.Root + "/../x"} {
		if err := a.store.StoreFile(t.Context(), client.FileRequest{Path: p}, quiet); !errors.Is(err, client.ErrBadRequest) {
			t.Errorf("%s: got %v", p, err)
		}
	}
	p := filepath.Join(w.cfg.Root, "in")
	a.must(os.WriteFile(p, []byte("x"), 0o600))
	a.must(a.store.StoreFile(t.Context(), client.FileRequest{Path: p}, quiet))
	if l, err := a.store.Files(t.Context()); err != nil || len(l) != 1 || l[0].Name != "in" {
		t.Errorf("list: %+v, %v", l, err)
	}
}
