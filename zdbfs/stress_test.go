package zdbfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Many at once, on a few names in three directories, so that everything meets everything; each also keeps a file of its
// own whose content it knows.
func TestConcurrent(t *testing.T) {
	f := openEngineFS(t, t.TempDir(), Options{FlushInterval: 20 * time.Millisecond, WriteBuffer: 1 << 20, Inodes: 64, Standalone: true})
	dirs := []Ino{RootIno, f.dir(RootIno, "x"), f.dir(RootIno, "y")}
	limit := 4 * time.Second
	if os.Getenv("QSFS_LONG") != "" {
		limit = 5 * time.Minute
	}
	deadline := time.Now().Add(limit)
	var wg sync.WaitGroup
	own := make([]Ino, 8)
	content := make([][]byte, len(own))
	for g := range own {
		own[g] = f.file(RootIno, fmt.Sprint("own", g), "")
		wg.Go(func() {
			rnd := rand.New(rand.NewSource(int64(g)))
			for time.Now().Before(deadline) && !t.Failed() {
				if err := stressStep(f, rnd, dirs); err != nil {
					t.Error(err)
				}
				content[g] = stressOwn(t, f, rnd, own[g], content[g])
			}
		})
	}
	wg.Add(1)
	go func() {
		defer wg.Done()
		for time.Now().Before(deadline) {
			f.Sync(ctx)
			if err := f.moveLodgers(ctx, f.FS.meta.Head().Seq); err != nil {
				t.Error(err)
			}
			if m, d, err := f.Heads(ctx); err != nil || d.Seq < m.Needs {
				t.Error(m, d, err)
			}
			f.Statfs(ctx)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	wg.Wait()
	f.waitReaped()
	if err := f.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	f.check()
	f = f.reopen()
	f.check()
	for g, ino := range own {
		if f.read(ino) != string(content[g]) {
			t.Errorf("file %d differs after reopen", g)
		}
	}
}

// stressStep does anything; errors that a loser of a race gets are fine.
func stressStep(f *testFS, rnd *rand.Rand, dirs []Ino) error {
	dir, name := dirs[rnd.Intn(len(dirs))], string(rune('a'+rnd.Intn(4)))
	to, other := dirs[rnd.Intn(len(dirs))], string(rune('a'+rnd.Intn(4)))
	var err error
	switch rnd.Intn(12) {
	case 0, 1:
		var a Attr
		var h Handle
		if a, h, err = f.Create(ctx, alice, dir, name, 0o644, 0, OpenFlags(syscall.O_TRUNC*rnd.Intn(2))); err == nil {
			f.Write(ctx, a.Ino, h, rnd.Int63n(100_000), bytes.Repeat([]byte{'s'}, rnd.Intn(5000)), WriteFlags{})
			f.Release(ctx, h)
			f.Forget(a.Ino, 1)
		}
	case 2:
		var a Attr
		if a, err = f.Mkdir(ctx, alice, dir, name, 0o755, 0); err == nil {
			f.Forget(a.Ino, 1)
		}
	case 3:
		err = f.Unlink(ctx, alice, dir, name)
	case 4:
		err = f.Rmdir(ctx, alice, dir, name)
	case 5, 6, 7:
		err = f.Rename(ctx, alice, dir, name, to, other, []uint32{0, 0, RenameExchange, RenameNoReplace}[rnd.Intn(4)])
	case 8:
		var a Attr
		if a, err = f.Lookup(ctx, alice, dir, name); err == nil {
			if _, lerr := f.Link(ctx, alice, a.Ino, to, other); lerr == nil {
				f.Forget(a.Ino, 1)
			}
			f.Fsync(ctx, a.Ino, false)
			f.Forget(a.Ino, 1)
		}
	case 9:
		var a, b Attr
		if a, err = f.Lookup(ctx, alice, dir, name); err == nil {
			if b, err = f.Lookup(ctx, alice, to, other); err == nil {
				if a.Ino != b.Ino {
					f.CopyFileRange(ctx, a.Ino, 0, b.Ino, rnd.Int63n(1000), 100_000)
				}
				f.Forget(b.Ino, 1)
			}
			f.Forget(a.Ino, 1)
		}
	case 10:
		var a Attr
		if a, err = f.Lookup(ctx, alice, dir, name); err == nil {
			f.Setattr(ctx, alice, a.Ino, SetattrIn{Valid: SetSize, Size: uint64(rnd.Intn(50_000))})
			f.Setattr(ctx, alice, a.Ino, SetattrIn{Valid: SetMtimeNow})
			f.Setxattr(ctx, a.Ino, "user.x", []byte("y"), 0, false)
			f.Forget(a.Ino, 1)
		}
	case 11:
		var plus []Ino
		err = f.Readdir(ctx, dir, 0, func(d Dirent, attr func() (Attr, error)) bool {
			if d.Name != "." && d.Name != ".." {
				if a, err := attr(); err == nil {
					plus = append(plus, a.Ino)
				}
			}
			return true
		})
		for _, ino := range plus {
			f.Forget(ino, 1)
		}
	}
	for _, ok := range []error{
		nil, syscall.ENOENT, syscall.EEXIST, syscall.EISDIR, syscall.ENOTDIR, syscall.ENOTEMPTY, syscall.EINVAL, syscall.ESTALE,
	} {
		if errors.Is(err, ok) {
			return nil
		}
	}
	return err
}

func stressOwn(t *testing.T, f *testFS, rnd *rand.Rand, ino Ino, content []byte) []byte {
	off := rnd.Intn(len(content) + 1)
	if len(content) > 1<<20 {
		size := rnd.Intn(len(content))
		if _, err := f.Setattr(ctx, alice, ino, SetattrIn{Valid: SetSize, Size: uint64(size)}); err != nil {
			t.Error(err)
		}
		return content[:size]
	}
	p := []byte(strings.Repeat(string(rune('a'+rnd.Intn(26))), 1+rnd.Intn(9000)))
	if _, err := f.Write(ctx, ino, 0, int64(off), p, WriteFlags{Cache: true}); err != nil {
		t.Error(err)
	}
	content = []byte(put(string(content), off, string(p)))
	if rnd.Intn(10) == 0 {
		if err := f.Fsync(ctx, ino, rnd.Intn(2) == 0); err != nil {
			t.Error(err)
		}
	}
	at := rnd.Intn(len(content))
	got := make([]byte, rnd.Intn(20_000))
	n, err := f.Read(ctx, ino, 0, int64(at), got)
	if err != nil || !bytes.Equal(got[:n], content[at:min(len(content), at+len(got))]) {
		t.Errorf("read at %d: %v, or content differs", at, err)
	}
	return content
}

// Written data is stable one flush interval after its Write, without being asked for.
func TestFlushInterval(t *testing.T) {
	const interval = 200 * time.Millisecond
	f := openEngineFS(t, t.TempDir(), Options{FlushInterval: interval})
	ino := f.file(RootIno, "a", "content")
	f.dir(RootIno, "d")
	deadline := time.Now().Add(20 * interval) // generous: the machine may be busy
	for f.dirty.bytes.Load() > 0 || f.eng.meta.Durable().Seq < f.eng.meta.Head().Seq {
		if time.Now().After(deadline) {
			t.Fatal("not stable")
		}
		time.Sleep(interval / 20)
	}
	g := f.crash(rand.New(rand.NewSource(1)))
	if got := g.read(ino); got != "content" {
		t.Fatalf("%q", got)
	}
	if len(g.list(RootIno)) != 2 {
		t.Fatal("the directory is missing")
	}
	g.check()
}

// A writer that is faster than the disk waits; memory stays bounded.
func TestWriteBuffer(t *testing.T) {
	const limit = 4 << 20
	f := openTestFS(t, newMemSpace(), newMemSpace(), Options{WriteBuffer: limit})
	chunk := bytes.Repeat([]byte{'x'}, 100_000)
	var wg sync.WaitGroup
	for i := range 4 {
		ino := f.file(RootIno, fmt.Sprint(i), "")
		wg.Go(func() {
			for n := range 100 {
				if _, err := f.Write(ctx, ino, 0, int64(n*len(chunk)), chunk, WriteFlags{Cache: true}); err != nil {
					t.Error(err)
				}
				if n := f.dirty.bytes.Load(); n > limit+4*int64(len(chunk)) {
					t.Errorf("%d bytes in memory", n)
				}
			}
		})
	}
	wg.Wait()
	if err := f.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if n := f.dirty.bytes.Load(); n != 0 {
		t.Errorf("%d bytes are counted after a sync", n)
	}
	f.check()
	// A full disk must end the waiting, not prolong it.
	f.data.fail, f.meta.fail = io.ErrShortWrite, io.ErrShortWrite
	ino := f.list(RootIno)["0"]
	var err error
	for n := 0; n < 100 && err == nil; n++ {
		_, err = f.Write(ctx, ino, 0, int64(n*len(chunk)), chunk, WriteFlags{Cache: true})
	}
	if !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	f.data.fail, f.meta.fail = nil, nil
}
