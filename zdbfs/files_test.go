package zdbfs

import (
	"errors"
	"fmt"
	"math/rand"
	"testing"

	"qsfs/zdbfs/internal/meta"
)

// files is the number of inodes as df -i shows it.
func (f *testFS) files() uint64 {
	f.t.Helper()
	s, err := f.Statfs(ctx)
	f.want(err, nil)
	return s.Files - s.Ffree
}

func (f *testFS) wantFiles(what string, want uint64) {
	f.t.Helper()
	if got := f.files(); got != want {
		f.t.Errorf("%s: %d files, want %d", what, got, want)
	}
}

// The number of inodes is that of the inodes there are, whatever makes and frees them, and after a restart too.
func TestStatfsCountsInodes(t *testing.T) {
	f := newTestFS(t)
	f.wantFiles("empty", 1)
	for i := range 100 {
		f.file(RootIno, fmt.Sprint("f", i), "x")
	}
	dir := f.dir(RootIno, "dir")
	_, err := f.Symlink(ctx, alice, dir, "symlink", "..")
	f.want(err, nil)
	f.wantFiles("made", 103)
	first, err := f.lookup(RootIno, "f0")
	f.want(err, nil)
	_, err = f.Link(ctx, alice, first.Ino, dir, "link")
	f.want(err, nil)
	f.Forget(first.Ino, 1)
	f.wantFiles("linked", 103)
	_, err = f.Mkdir(ctx, alice, RootIno, "dir", 0o755, 0)
	if err == nil {
		t.Fatal("made twice")
	}
	f.meta.fail = errors.New("refused")
	if _, err := f.Mknod(ctx, alice, RootIno, "refused", 0o100644, 0, 0); err == nil {
		t.Fatal("not refused")
	}
	f.meta.fail = nil
	f.wantFiles("refused", 103)

	f.want(f.Unlink(ctx, alice, RootIno, "f0"), nil) // it has another name
	f.want(f.Unlink(ctx, alice, RootIno, "f1"), nil)
	f.waitReaped()
	f.wantFiles("removed", 102)
	f.want(f.Rename(ctx, alice, RootIno, "f2", RootIno, "f3", 0), nil)
	f.waitReaped()
	f.wantFiles("replaced", 101)
	f.want(f.Rename(ctx, alice, RootIno, "f4", RootIno, "f5", RenameWhiteout), nil)
	f.waitReaped()
	f.wantFiles("replaced, a whiteout in its place", 101)

	// What is open stays, and counts, until it is closed.
	a, h, err := f.Create(ctx, alice, RootIno, "open", 0o644, 0, 0)
	f.want(err, nil)
	_, temp, err := f.Tmpfile(ctx, alice, RootIno, 0o644, 0)
	f.want(err, nil)
	f.want(f.Unlink(ctx, alice, RootIno, "open"), nil)
	f.Forget(a.Ino, 1)
	f.waitReaped()
	f.wantFiles("open without a name", 103)
	f.Release(ctx, h)
	f.waitReaped()
	f.wantFiles("one closed", 102)
	_ = temp // left open: the next opening frees it
	f = f.reopen()
	f.waitReaped()
	f.wantFiles("reopened", 101)
	f.check()
}

// After a power cut the number is that of what the cut left.
func TestStatfsAfterPowerCut(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	f := openEngineFS(t, t.TempDir(), Options{})
	for round := range 6 {
		for i := range 30 {
			name := fmt.Sprint("f", round, "-", i)
			a, _, err := f.Create(ctx, alice, RootIno, name, 0o644, 0, 0)
			f.want(err, nil)
			f.write(a.Ino, 0, "x")
			switch {
			case i%3 == 0:
				f.want(f.Unlink(ctx, alice, RootIno, name), nil) // open: it lives on
			case i == 14:
				f.want(f.Sync(ctx), nil)
			}
		}
		want := f.files() // at most
		if want < 2 {
			t.Fatalf("round %d: %d files", round, want)
		}
		next := f.crash(rnd)
		next.waitReaped() // nobody has the open ones open any more
		next.check()      // compares the number with the inodes
		r, err := next.Check(ctx)
		f.want(err, nil)
		next.wantFiles(fmt.Sprint("round ", round), uint64(r.Inodes))
		if r.Inodes < int64(1+round) || uint64(r.Inodes) >= want {
			t.Errorf("round %d: %d inodes after the cut, %d before", round, r.Inodes, want)
		}
		f = next
	}
}

// A filesystem that was written before the number was kept is counted once.
func TestInodesAreCountedOnce(t *testing.T) {
	f := newTestFS(t)
	for i := range 50 {
		f.file(RootIno, fmt.Sprint("f", i), "")
	}
	f.want(f.Close(ctx), nil)
	m, d := f.meta, f.data
	var old batch
	old.del(meta.FilesKey())
	_, err := m.commit(ctx, &old, m.Head().Needs)
	f.want(err, nil)
	f = openTestFS(t, m, d, Options{})
	f.wantFiles("counted", 51)
	_, err = m.Get(ctx, meta.FilesKey())
	f.want(err, nil) // it is kept
	f.file(RootIno, "more", "")
	f.wantFiles("one more", 52)
	f.check()
	// Check names a number that is wrong.
	var wrong batch
	wrong.set(meta.FilesKey(), meta.AppendUint64(nil, 7))
	_, err = m.commit(ctx, &wrong, m.Head().Needs)
	f.want(err, nil)
	r, err := f.Check(ctx)
	if want := "there are 52 inodes, their row says 7"; err != nil || len(r.Problems) != 1 || r.Problems[0] != want {
		t.Errorf("check: %q, %v, want %q", r.Problems, err, want)
	}
}
