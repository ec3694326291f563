package zdbfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

var ctx = context.Background()

var alice = Caller{Uid: 1000, Gid: 100, Pid: 1}

func (f *testFS) file(parent Ino, name string, content string) Ino {
	f.t.Helper()
	a, h, err := f.Create(ctx, alice, parent, name, 0o644, 0, 0)
	if err != nil {
		f.t.Fatalf("create %s: %v", name, err)
	}
	f.write(a.Ino, 0, content)
	f.Release(ctx, h)
	f.Forget(a.Ino, 1)
	return a.Ino
}

func (f *testFS) dir(parent Ino, name string) Ino {
	f.t.Helper()
	a, err := f.Mkdir(ctx, alice, parent, name, 0o755, 0)
	if err != nil {
		f.t.Fatalf("mkdir %s: %v", name, err)
	}
	f.Forget(a.Ino, 1)
	return a.Ino
}

func (f *testFS) write(ino Ino, off int64, content string) {
	f.t.Helper()
	if n, err := f.Write(ctx, ino, 0, off, []byte(content), WriteFlags{}); err != nil || n != len(content) {
		f.t.Fatalf("write: %d, %v", n, err)
	}
}

func (f *testFS) read(ino Ino) string {
	f.t.Helper()
	a, err := f.Getattr(ctx, ino)
	if err != nil {
		f.t.Fatal(err)
	}
	p := bytes.Repeat([]byte{'?'}, int(a.Size)+10)
	n, err := f.Read(ctx, ino, 0, 0, p)
	if err != nil {
		f.t.Fatalf("read %d: %v", ino, err)
	}
	if uint64(n) != a.Size {
		f.t.Fatalf("read %d: got %d bytes, size %d", ino, n, a.Size)
	}
	return string(p[:n])
}

func (f *testFS) list(ino Ino) map[string]Ino {
	f.t.Helper()
	out := map[string]Ino{}
	err := f.Readdir(ctx, ino, 0, func(d Dirent, _ func() (Attr, error)) bool {
		if _, twice := out[d.Name]; twice {
			f.t.Errorf("%q twice", d.Name)
		}
		if d.Name != "." && d.Name != ".." {
			out[d.Name] = d.Ino
		}
		return true
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

func (f *testFS) lookup(parent Ino, name string) (Attr, error) {
	a, err := f.Lookup(ctx, alice, parent, name)
	if err == nil {
		f.Forget(a.Ino, 1)
	}
	return a, err
}

func (f *testFS) want(err error, want error) {
	f.t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		f.t.Fatalf("got %v, want %v", err, want)
	}
}

func (f *testFS) nlink(ino Ino, want uint32) {
	f.t.Helper()
	a, err := f.Getattr(ctx, ino)
	if err != nil || a.Nlink != want {
		f.t.Fatalf("inode %d: nlink %d, %v; want %d", ino, a.Nlink, err, want)
	}
}

// both runs f on data in memory and on data in rows.
func both(t *testing.T, f func(t *testing.T, settle func(*testFS, Ino))) {
	for name, settle := range map[string]func(*testFS, Ino){
		"memory": func(*testFS, Ino) {},
		"blobs": func(f *testFS, ino Ino) {
			if err := f.Sync(ctx); err != nil {
				f.t.Fatal(err)
			}
		},
		"inline": func(f *testFS, ino Ino) {
			if err := f.Fsync(ctx, ino, false); err != nil {
				f.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { f(t, settle) })
	}
}

func TestReadWrite(t *testing.T) {
	both(t, func(t *testing.T, settle func(*testFS, Ino)) {
		f := newTestFS(t)
		ino := f.file(RootIno, "a", "hello")
		settle(f, ino)
		f.write(ino, 3, "LOWER")
		settle(f, ino)
		f.write(ino, 20, "end")
		settle(f, ino)
		want := "helLOWER" + strings.Repeat("\x00", 12) + "end"
		if got := f.read(ino); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		f.check()
		f = f.reopen()
		if got := f.read(ino); got != want {
			t.Fatalf("after reopen: got %q, want %q", got, want)
		}
		f.check()
	})
}

func TestTruncate(t *testing.T) {
	both(t, func(t *testing.T, settle func(*testFS, Ino)) {
		f := newTestFS(t)
		ino := f.file(RootIno, "a", "0123456789")
		settle(f, ino)
		size := func(n uint64) {
			t.Helper()
			if _, err := f.Setattr(ctx, alice, ino, SetattrIn{Valid: SetSize, Size: n}); err != nil {
				t.Fatal(err)
			}
		}
		size(4)
		size(8)
		if got, want := f.read(ino), "0123\x00\x00\x00\x00"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		settle(f, ino)
		f.write(ino, 6, "x")
		settle(f, ino)
		f.check()
		f = f.reopen()
		if got, want := f.read(ino), "0123\x00\x00x\x00"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		size(0)
		a, _ := f.Getattr(ctx, ino)
		if a.Size != 0 || a.Blocks != 0 {
			t.Fatalf("size %d, blocks %d", a.Size, a.Blocks)
		}
		if err := f.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		f.check()
		_, err := f.Setattr(ctx, alice, ino, SetattrIn{Valid: SetSize, Size: MaxFileSize + 1})
		f.want(err, syscall.EFBIG)
		_, err = f.Setattr(ctx, alice, RootIno, SetattrIn{Valid: SetSize})
		f.want(err, syscall.EISDIR)
	})
}

// A truncation of more extents than a batch takes goes on in the background, and what it has not reached is not seen
// when the file grows again.
func TestTruncateSeries(t *testing.T) {
	f := newTestFS(t)
	ino := f.file(RootIno, "a", "")
	const n = 2*batchRows + batchRows/4
	for i := range n {
		f.write(ino, int64(i)*8192, "data")
	}
	f.want(f.Sync(ctx), nil)
	f.write(ino, 8192, "deadbeef")
	f.want(f.Sync(ctx), nil)
	in, _ := f.inode(ctx, ino)
	in.io.Lock() // keeps the reaper away
	if err := f.truncate(ctx, in, 8194, func(*meta.Inode) {}); err != nil {
		t.Fatal(err)
	}
	if err := f.truncate(ctx, in, n*8192, func(*meta.Inode) {}); err != nil {
		t.Fatal(err)
	}
	if _, cut := f.table.cut(ino); !cut {
		t.Fatal("the truncation was done at once: the test is void")
	}
	// Down again, above the cut, while there is more left than a batch takes: what is below stays dead.
	if err := f.truncate(ctx, in, (n-10)*8192, func(*meta.Inode) {}); err != nil {
		t.Fatal(err)
	}
	if err := f.truncate(ctx, in, n*8192, func(*meta.Inode) {}); err != nil {
		t.Fatal(err)
	}
	if at, _ := f.table.cut(ino); at != 8194 {
		t.Fatalf("cut at %d", at)
	}
	want := "data" + strings.Repeat("\x00", 8188) + "de"
	got := f.read(ino)
	if got[:len(want)] != want || strings.Trim(got[len(want):], "\x00") != "" {
		t.Fatal("dead content is seen")
	}
	m, d := f.meta.cut(len(f.meta.log)), f.data.cut(len(f.data.log))
	in.io.Unlock()
	f.table.unpin(in)
	f.check()

	g := openTestFS(t, m, d, Options{})
	g.write(ino, 3*8192, "new")
	g.want(g.Fsync(ctx, ino, false), nil)
	g.waitReaped()
	g.check()
	if _, cut := g.table.cut(ino); cut {
		t.Fatal("the truncation was not finished")
	}
	got = g.read(ino)
	if strings.Trim(got[len(want):], "\x00") != "new" {
		t.Fatal("dead content is seen")
	}
}

func TestLargeFile(t *testing.T) {
	f := newTestFS(t)
	ino := f.file(RootIno, "a", "")
	content := make([]byte, 5<<20)
	for i := range content {
		content[i] = byte(i * 7 >> 3)
	}
	for off := 0; off < len(content); off += 100_000 {
		f.write(ino, int64(off), string(content[off:min(off+100_000, len(content))]))
	}
	if f.read(ino) != string(content) {
		t.Fatal("content differs in memory")
	}
	f.want(f.Sync(ctx), nil)
	if f.read(ino) != string(content) {
		t.Fatal("content differs in blobs")
	}
	r, _ := f.Check(ctx)
	if r.Blobs != 5 || r.Extents != 5 {
		t.Fatalf("%d blobs, %d extents: writes were not joined", r.Blobs, r.Extents)
	}
	copy(content[1<<20+5:], "overwritten")
	f.write(ino, 1<<20+5, "overwritten")
	rows := len(f.meta.log)
	f.want(f.Fsync(ctx, ino, false), nil)
	if n := len(f.meta.log[rows].rows); n > 6 {
		t.Fatalf("a small overwrite took %d rows", n)
	}
	if f.read(ino) != string(content) {
		t.Fatal("content differs after overwrite")
	}
	f.check()
	f = f.reopen()
	if f.read(ino) != string(content) {
		t.Fatal("content differs after reopen")
	}
}

// An overwrite of more extents than a batch takes is done in several, and is complete after a crash between them.
func TestOverwriteManyExtents(t *testing.T) {
	for _, how := range []string{"write", "copy"} {
		f := newTestFS(t)
		ino := f.file(RootIno, "a", "")
		other := f.file(RootIno, "b", strings.Repeat("n", 2*batchRows))
		f.want(f.Sync(ctx), nil)
		var rows []row
		const n = 2 * batchRows
		for i := range uint64(n) { // as that many small fsyncs leave it
			e := meta.Extent{Kind: meta.ExtentInline, Start: i, End: i + 1, Inline: []byte("o")}
			rows = append(rows, row{key: meta.ExtentKey(uint64(ino), e.End), value: e.Append(nil)},
				row{key: meta.LodgerKey(uint64(ino), e.End)})
		}
		in, err := f.inode(ctx, ino)
		f.want(err, nil)
		for len(rows) > 0 {
			tx := f.begin()
			for _, r := range rows[:1000] {
				tx.put(r)
			}
			rows = rows[1000:]
			tx.update(in, func(a *meta.Inode) { a.Size += 500; a.Alloc += 500 })
			f.want(tx.commit(), nil)
		}
		f.table.unpin(in)
		f.check()
		before := len(f.meta.log)
		if how == "write" {
			f.write(ino, 0, strings.Repeat("n", n))
			f.want(f.Sync(ctx), nil)
		} else if c, err := f.CopyFileRange(ctx, other, 0, ino, 0, n); err != nil || c != n {
			t.Fatal(c, err)
		}
		if len(f.meta.log) < before+4 {
			t.Fatal("one batch took it all: the test is void")
		}
		if f.read(ino) != strings.Repeat("n", n) {
			t.Fatal("content differs")
		}
		f.check()
		for at := before; at < len(f.meta.log); at++ {
			g := openTestFS(t, f.meta.cut(at), f.data.cut(len(f.data.log)), f.o)
			g.check()
			got := g.read(ino)
			if strings.Trim(strings.TrimLeft(got, "n"), "o") != "" || len(got) != n {
				t.Fatalf("after %d batches there is something else than old and new", at-before)
			}
		}
	}
}

func TestMoveInline(t *testing.T) {
	f := newTestFS(t)
	ino := f.file(RootIno, "log", "")
	want := ""
	for i := range 20 {
		line := fmt.Sprintf("line %d\n", i)
		f.write(ino, int64(len(want)), line)
		want += line
		f.want(f.Fsync(ctx, ino, false), nil)
	}
	if r, _ := f.Check(ctx); r.Blobs != 0 || r.Extents != 20 {
		t.Fatalf("%+v: the appends are not inline", r)
	}
	before, _ := f.Getattr(ctx, ino)
	f.want(f.moveLodgers(ctx, f.meta.Head().Seq), nil)
	if r, _ := f.Check(ctx); r.Blobs != 1 || r.Extents != 1 {
		t.Fatalf("%+v: the appends were not moved into one blob", r)
	}
	if after, _ := f.Getattr(ctx, ino); after != before {
		t.Fatalf("attributes changed: %+v, %+v", before, after)
	}
	if got := f.read(ino); got != want {
		t.Fatalf("got %q", got)
	}
	f.check()
}

func TestGarbage(t *testing.T) {
	f := newTestFS(t)
	a := f.file(RootIno, "a", strings.Repeat("a", 100_000))
	f.want(f.Sync(ctx), nil)
	if n := len(f.data.rows); n != 1 {
		t.Fatalf("%d blobs", n)
	}
	f.write(a, 10, strings.Repeat("b", 10)) // the first blob stays: two pieces of it are in use
	f.want(f.Sync(ctx), nil)
	f.Covered(f.meta.Head().Seq)
	f.want(f.collect(ctx), nil)
	if n := len(f.data.rows); n != 2 {
		t.Fatalf("%d blobs", n)
	}
	f.write(a, 0, strings.Repeat("c", 100_000))
	f.want(f.Sync(ctx), nil)
	f.want(f.collect(ctx), nil)
	if n := len(f.data.rows); n != 3 {
		t.Fatalf("%d blobs: deleted before a cut covers it", n)
	}
	f.Covered(f.meta.Head().Seq)
	f.want(f.collect(ctx), nil)
	if n := len(f.data.rows); n != 1 {
		t.Fatalf("%d blobs", n)
	}
	f.want(f.Unlink(ctx, alice, RootIno, "a"), nil)
	f.waitReaped()
	f.want(f.Sync(ctx), nil)
	f.Covered(f.meta.Head().Seq)
	f.want(f.collect(ctx), nil)
	if n := len(f.data.rows); n != 0 {
		t.Fatalf("%d blobs", n)
	}
	f.check()
	for k := range f.meta.rows {
		if strings.IndexByte("EGOXTLB", k[0]) >= 0 {
			t.Errorf("row %q is left", k)
		}
	}
}

func TestUnlinkOpen(t *testing.T) {
	f := newTestFS(t)
	a, h, err := f.Create(ctx, alice, RootIno, "a", 0o600, 0, 0)
	f.want(err, nil)
	f.write(a.Ino, 0, "still here")
	f.want(f.Fsync(ctx, a.Ino, false), nil)
	f.want(f.Unlink(ctx, alice, RootIno, "a"), nil)
	_, err = f.lookup(RootIno, "a")
	f.want(err, syscall.ENOENT)
	f.nlink(a.Ino, 0)
	f.write(a.Ino, 5, " THERE")
	f.want(f.Fsync(ctx, a.Ino, false), nil)
	if got := f.read(a.Ino); got != "still THERE" {
		t.Fatalf("got %q", got)
	}
	_, err = f.Link(ctx, alice, a.Ino, RootIno, "back")
	f.want(err, syscall.ENOENT)
	f.check()
	m, d := f.meta.cut(len(f.meta.log)), f.data.cut(len(f.data.log)) // a crash now
	f.Release(ctx, h)
	f.waitReaped()
	if _, err := f.Getattr(ctx, a.Ino); err != nil {
		t.Fatal("freed while it is looked up")
	}
	f.Forget(a.Ino, 1)
	f.waitReaped()
	_, err = f.Getattr(ctx, a.Ino)
	f.want(err, syscall.ESTALE)
	f.check()

	g := openTestFS(t, m, d, Options{})
	g.waitReaped()
	_, err = g.Getattr(ctx, a.Ino)
	g.want(err, syscall.ESTALE)
	r, _ := g.Check(ctx)
	if r.Orphans != 0 || r.Inodes != 1 {
		t.Fatalf("%+v", r)
	}
}

// Work in the background that comes upon an inode while it is being freed must not write its rows again.
func TestFreedStaysFreed(t *testing.T) {
	f := newTestFS(t)
	a := f.file(RootIno, "a", "inline")
	f.want(f.Fsync(ctx, a, false), nil)
	f.want(f.Sync(ctx), nil)
	moved := make(chan error, 1)
	f.meta.before = func(b *batch) {
		if r, ok := b.pending(meta.InodeKey(uint64(a))); !ok || !r.del {
			return
		}
		f.meta.before = nil
		go func() { moved <- f.moveLodgers(ctx, f.FS.meta.Head().Seq) }()
		select {
		case err := <-moved:
			moved <- err
		case <-time.After(100 * time.Millisecond):
		}
	}
	f.want(f.Unlink(ctx, alice, RootIno, "a"), nil)
	f.waitReaped()
	f.want(<-moved, nil)
	f.check()
	if r, _ := f.Check(ctx); r.Inodes != 1 || r.Extents != 0 {
		t.Fatalf("%+v", r)
	}
}

// Who frees a file with shared content must not wait for another inode before its batch is committed: that inode's
// holder may wait for the reference counts.
func TestReapSharedAlone(t *testing.T) {
	f := newTestFS(t)
	src := f.file(RootIno, "src", "content")
	var inos []Ino
	for _, name := range []string{"a", "b"} {
		ino := f.file(RootIno, name, "")
		_, err := f.CopyFileRange(ctx, src, 0, ino, 0, 7)
		f.want(err, nil)
		f.Open(ctx, alice, ino, 0)
		f.want(f.Unlink(ctx, alice, RootIno, name), nil)
		if !f.table.drop(ino, 0, 1) {
			t.Fatal("not an orphan")
		}
		inos = append(inos, ino)
	}
	b := f.table.pin(inos[1])
	b.io.Lock()
	left := make(chan []Ino)
	go func() {
		l, err := f.reapOrphans(ctx, inos)
		if err != nil {
			t.Error(err)
		}
		left <- l
	}()
	select {
	case l := <-left:
		if !slices.Equal(l, inos[1:]) {
			t.Errorf("left: %v", l)
		}
		b.io.Unlock()
	case <-time.After(5 * time.Second):
		b.io.Unlock()
		<-left
		t.Fatal("it waits for an inode with the reference counts locked")
	}
	f.table.unpin(b)
	_, err := f.reapOrphans(ctx, inos[1:])
	f.want(err, nil)
	f.check()
	if got := f.read(src); got != "content" {
		t.Errorf("%q", got)
	}
}

func TestTmpfile(t *testing.T) {
	f := newTestFS(t)
	a, h, err := f.Tmpfile(ctx, alice, RootIno, 0o600, 0)
	f.want(err, nil)
	f.write(a.Ino, 0, "content")
	f.check()
	_, err = f.Link(ctx, alice, a.Ino, RootIno, "named")
	f.want(err, nil)
	f.nlink(a.Ino, 1)
	f.Release(ctx, h)
	f.Forget(a.Ino, 2)
	f.waitReaped()
	f = f.reopen()
	f.check()
	if got := f.read(f.list(RootIno)["named"]); got != "content" {
		t.Fatalf("got %q", got)
	}
	b, h, _ := f.Tmpfile(ctx, alice, RootIno, 0o600, 0)
	f.Release(ctx, h)
	f.Forget(b.Ino, 1)
	f.waitReaped()
	_, err = f.Getattr(ctx, b.Ino)
	f.want(err, syscall.ESTALE)
	f.check()
}

func TestLinks(t *testing.T) {
	f := newTestFS(t)
	d := f.dir(RootIno, "d")
	a := f.file(RootIno, "a", "x")
	f.nlink(RootIno, 3)
	for i, dir := range []Ino{RootIno, d, d} {
		_, err := f.Link(ctx, alice, a, dir, fmt.Sprint("link", i))
		f.want(err, nil)
		f.Forget(a, 1)
	}
	f.nlink(a, 4)
	_, err := f.Link(ctx, alice, a, d, "link1")
	f.want(err, syscall.EEXIST)
	_, err = f.Link(ctx, alice, d, RootIno, "dir")
	f.want(err, syscall.EPERM)
	f.check()
	f.want(f.Unlink(ctx, alice, RootIno, "a"), nil)
	f.want(f.Unlink(ctx, alice, d, "link1"), nil)
	f.want(f.Rename(ctx, alice, d, "link2", RootIno, "b", 0), nil)
	f.nlink(a, 2)
	f.check()
	f.want(f.Rename(ctx, alice, RootIno, "b", RootIno, "link0", 0), nil) // the same file: nothing happens
	f.nlink(a, 2)
	f.want(f.Unlink(ctx, alice, RootIno, "b"), nil)
	f.want(f.Unlink(ctx, alice, RootIno, "link0"), nil)
	f.waitReaped()
	f.check()
	_, err = f.Getattr(ctx, a)
	f.want(err, syscall.ESTALE)
}

func TestDirectories(t *testing.T) {
	f := newTestFS(t)
	d := f.dir(RootIno, "d")
	e := f.dir(d, "e")
	f.file(e, "x", "")
	f.nlink(d, 3)
	f.want(f.Rmdir(ctx, alice, RootIno, "d"), syscall.ENOTEMPTY)
	f.want(f.Rmdir(ctx, alice, e, "x"), syscall.ENOTDIR)
	f.want(f.Unlink(ctx, alice, d, "e"), syscall.EISDIR)
	f.want(f.Rmdir(ctx, alice, d, "nothing"), syscall.ENOENT)
	f.want(f.Rmdir(ctx, alice, d, "."), syscall.EINVAL)
	f.want(f.Rmdir(ctx, alice, d, ".."), syscall.ENOTEMPTY)
	if a, err := f.lookup(e, ".."); err != nil || a.Ino != d {
		t.Fatal(a, err)
	}
	if a, err := f.lookup(e, "."); err != nil || a.Ino != e {
		t.Fatal(a, err)
	}
	f.want(f.Unlink(ctx, alice, e, "x"), nil)
	h, err := f.Opendir(ctx, e)
	f.want(err, nil)
	f.want(f.Rmdir(ctx, alice, d, "e"), nil)
	f.nlink(d, 2)
	f.nlink(e, 0)
	_, _, err = f.Create(ctx, alice, e, "y", 0o644, 0, 0)
	f.want(err, syscall.ENOENT)
	if n := f.list(e); len(n) != 0 {
		t.Fatal(n)
	}
	f.Releasedir(ctx, h)
	f.waitReaped()
	f.want(f.Rmdir(ctx, alice, RootIno, "d"), nil)
	f.nlink(RootIno, 2)
	f.waitReaped()
	f.check()
}

func TestNames(t *testing.T) {
	f := newTestFS(t)
	long := strings.Repeat("n", 255)
	f.file(RootIno, long, "")
	for _, c := range []struct {
		name string
		want error
	}{
		{long + "n", syscall.ENAMETOOLONG}, {long, syscall.EEXIST}, {"", syscall.EINVAL}, {"a/b", syscall.EINVAL},
		{".", syscall.EEXIST}, {"..", syscall.EEXIST}, {"a\x00b", syscall.EINVAL},
	} {
		_, err := f.Mkdir(ctx, alice, RootIno, c.name, 0o755, 0)
		if !errors.Is(err, c.want) {
			t.Errorf("mkdir %q: got %v, want %v", c.name, err, c.want)
		}
	}
	_, err := f.lookup(RootIno, long+"n")
	f.want(err, syscall.ENAMETOOLONG)
	x := f.file(RootIno, "x", "")
	_, err = f.lookup(x, "y")
	f.want(err, syscall.ENOTDIR)
	_, err = f.Symlink(ctx, alice, RootIno, "l", strings.Repeat("t", 4096))
	f.want(err, syscall.ENAMETOOLONG)
	target := strings.Repeat("t", 4095)
	a, err := f.Symlink(ctx, alice, RootIno, "l", target)
	f.want(err, nil)
	if a.Size != 4095 || a.Mode != syscall.S_IFLNK|0o777 {
		t.Fatalf("%+v", a)
	}
	if got, err := f.Readlink(ctx, a.Ino); err != nil || got != target {
		t.Fatal(err)
	}
	_, err = f.Readlink(ctx, x)
	f.want(err, syscall.EINVAL)
	f.check()
}

func twoHashes(name string) uint64 { return uint64(1+name[0]%2) << meta.ChainBits }

// Names whose hashes collide live in a chain; every order of making and removing them must leave it right.
func TestCollisions(t *testing.T) {
	f := openTestFS(t, newMemSpace(), newMemSpace(), Options{hash: twoHashes})
	want := map[string]Ino{}
	names := []string{"a1", "c1", "b1", "d1", "a2", "c2", "b2", "e", "f", "g"}
	step := uint32(1)
	for i := range 400 {
		step = step*1664525 + 1013904223
		name := names[step>>16%uint32(len(names))]
		other := names[step>>8%uint32(len(names))]
		_, have := want[name]
		switch {
		case !have:
			want[name] = f.file(RootIno, name, name)
		case i%3 == 0:
			f.want(f.Unlink(ctx, alice, RootIno, name), nil)
			delete(want, name)
		default:
			f.want(f.Rename(ctx, alice, RootIno, name, RootIno, other, 0), nil)
			if name != other {
				want[other] = want[name]
				delete(want, name)
			}
		}
		if got := f.list(RootIno); !maps.Equal(got, want) {
			t.Fatalf("step %d: got %v, want %v", i, got, want)
		}
		for _, n := range names {
			a, err := f.lookup(RootIno, n)
			if ino, ok := want[n]; ok && (err != nil || a.Ino != ino) || !ok && err != syscall.ENOENT {
				t.Fatalf("step %d: lookup %q: %d, %v", i, n, a.Ino, err)
			}
		}
	}
	f.check()
	d := f.dir(RootIno, "dir")
	for _, n := range []string{"a", "c", "e"} {
		f.file(d, n, "")
	}
	for _, n := range []string{"a", "c", "e"} {
		f.want(f.Unlink(ctx, alice, d, n), nil)
	}
	f.want(f.Rmdir(ctx, alice, RootIno, "dir"), nil)
	f.waitReaped()
	for k := range f.meta.rows {
		if key, _ := meta.ParseKey([]byte(k)); key.Kind == meta.KindDirent && Ino(key.A) == d {
			t.Errorf("row %q is left", k)
		}
	}
	f.check()
}

func TestReaddir(t *testing.T) {
	f := newTestFS(t)
	const n = 500
	for i := range n {
		f.file(RootIno, fmt.Sprint("file", i), "")
	}
	// As rm -rf does: read some, remove them, go on from the cookie.
	var cookie uint64
	seen := map[string]bool{}
	for {
		var got []string
		f.want(f.Readdir(ctx, RootIno, cookie, func(d Dirent, attr func() (Attr, error)) bool {
			if len(got) == 7 {
				return false
			}
			cookie = d.Cookie
			if d.Name == "." || d.Name == ".." {
				return true
			}
			a, err := attr()
			if err != nil || a.Ino != d.Ino || a.Mode&syscall.S_IFMT != d.Type {
				t.Errorf("%+v, %v", a, err)
			}
			f.Forget(a.Ino, 1)
			got = append(got, d.Name)
			return true
		}), nil)
		if len(got) == 0 {
			break
		}
		for _, name := range got {
			if seen[name] {
				t.Errorf("%q twice", name)
			}
			seen[name] = true
			f.want(f.Unlink(ctx, alice, RootIno, name), nil)
			f.file(RootIno, "new"+name, "")
			f.want(f.Unlink(ctx, alice, RootIno, "new"+name), nil)
		}
	}
	if len(seen) != n {
		t.Fatalf("%d of %d entries seen", len(seen), n)
	}
	f.waitReaped()
	f.check()
}

func TestRename(t *testing.T) {
	type world struct {
		*testFS
		a, b, d, e Ino // files a, b; directories d, d/e
	}
	for _, c := range []struct {
		name  string
		do    func(w world) error
		want  error
		after map[string]string // name in root → what it is
	}{
		{"file", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "z", 0) }, nil,
			map[string]string{"z": "a", "b": "b", "d": "d"}},
		{"over file", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "b", 0) }, nil,
			map[string]string{"b": "a", "d": "d"}},
		{"no replace", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "b", RenameNoReplace) }, syscall.EEXIST, nil},
		{"no replace, free", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "z", RenameNoReplace) }, nil,
			map[string]string{"z": "a", "b": "b", "d": "d"}},
		{"exchange files", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "b", RenameExchange) }, nil,
			map[string]string{"a": "b", "b": "a", "d": "d"}},
		{"exchange file and directory", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "d", RenameExchange) }, nil,
			map[string]string{"a": "d", "b": "b", "d": "a"}},
		{"exchange, different parents", func(w world) error { return w.Rename(ctx, alice, 1, "a", w.d, "e", RenameExchange) }, nil,
			map[string]string{"a": "e", "b": "b", "d": "d"}},
		{"exchange, absent", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "z", RenameExchange) }, syscall.ENOENT, nil},
		{"exchange into itself", func(w world) error { return w.Rename(ctx, alice, 1, "d", w.d, "e", RenameExchange) }, syscall.EINVAL, nil},
		{"exchange with ancestor", func(w world) error { return w.Rename(ctx, alice, w.d, "e", 1, "d", RenameExchange) }, syscall.EINVAL, nil},
		{"whiteout", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "z", RenameWhiteout) }, nil,
			map[string]string{"a": "white", "z": "a", "b": "b", "d": "d"}},
		{"unknown flag", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "z", 8) }, syscall.EINVAL, nil},
		{"both flags", func(w world) error {
			return w.Rename(ctx, alice, 1, "a", 1, "b", RenameExchange|RenameNoReplace)
		}, syscall.EINVAL, nil},
		{"directory over file", func(w world) error { return w.Rename(ctx, alice, 1, "d", 1, "b", 0) }, syscall.ENOTDIR, nil},
		{"file over directory", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "d", 0) }, syscall.EISDIR, nil},
		{"over non-empty directory", func(w world) error { w.dir(1, "n"); return w.Rename(ctx, alice, 1, "n", 1, "d", 0) }, syscall.ENOTEMPTY, nil},
		{"over empty directory", func(w world) error { w.dir(1, "n"); return w.Rename(ctx, alice, w.d, "e", 1, "n", 0) }, nil,
			map[string]string{"a": "a", "b": "b", "d": "d", "n": "e"}},
		{"into itself", func(w world) error { return w.Rename(ctx, alice, 1, "d", w.d, "x", 0) }, syscall.EINVAL, nil},
		{"into its child", func(w world) error { return w.Rename(ctx, alice, 1, "d", w.e, "x", 0) }, syscall.EINVAL, nil},
		{"directory up", func(w world) error { return w.Rename(ctx, alice, w.d, "e", 1, "up", 0) }, nil,
			map[string]string{"a": "a", "b": "b", "d": "d", "up": "e"}},
		{"onto itself", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, "a", 0) }, nil,
			map[string]string{"a": "a", "b": "b", "d": "d"}},
		{"absent", func(w world) error { return w.Rename(ctx, alice, 1, "z", 1, "a", 0) }, syscall.ENOENT, nil},
		{"too long", func(w world) error { return w.Rename(ctx, alice, 1, "a", 1, strings.Repeat("x", 256), 0) }, syscall.ENAMETOOLONG, nil},
		{"dots", func(w world) error { return w.Rename(ctx, alice, 1, ".", 1, "x", 0) }, syscall.EBUSY, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newTestFS(t)
			w := world{testFS: f, a: f.file(1, "a", "a"), b: f.file(1, "b", "b"), d: f.dir(1, "d")}
			w.e = f.dir(w.d, "e")
			h, _ := f.Open(ctx, alice, w.b, 0) // an open file may be replaced
			before := f.list(1)
			err := c.do(w)
			f.want(err, c.want)
			got := f.list(1)
			if c.after == nil {
				delete(got, "n")
				if !maps.Equal(got, before) {
					t.Fatalf("a refused rename changed %v to %v", before, got)
				}
			} else {
				is := map[string]Ino{"a": w.a, "b": w.b, "d": w.d, "e": w.e}
				for name, what := range c.after {
					if a, err := f.Getattr(ctx, got[name]); what == "white" {
						if err != nil || a.Mode != syscall.S_IFCHR || a.Rdev != 0 {
							t.Errorf("%+v is no whiteout", a)
						}
					} else if got[name] != is[what] {
						t.Errorf("%q is %d, want %q", name, got[name], what)
					}
				}
				if len(got) != len(c.after) {
					t.Errorf("got %v, want %v", slices.Collect(maps.Keys(got)), c.after)
				}
			}
			if got := f.read(w.b); got != "b" {
				t.Errorf("open file: %q", got)
			}
			f.Release(ctx, h)
			f.waitReaped()
			f.check()
			f = f.reopen()
			f.check()
			if !maps.Equal(f.list(1), got) && c.want == nil {
				t.Errorf("after reopen: %v, before %v", f.list(1), got)
			}
		})
	}
}

func TestAttributes(t *testing.T) {
	f := newTestFS(t)
	a := f.file(RootIno, "a", "x")
	set := func(s SetattrIn) Attr {
		t.Helper()
		out, err := f.Setattr(ctx, alice, a, s)
		f.want(err, nil)
		return out
	}
	far := Time{Sec: 1 << 40, Nsec: 999999999}
	old := Time{Sec: -5, Nsec: 7}
	before := set(SetattrIn{})
	rows := len(f.meta.log)
	got := set(SetattrIn{Valid: SetAtime | SetMtime, Atime: far, Mtime: old})
	if got.Atime != far || got.Mtime != old || got.Ctime == before.Ctime {
		t.Fatalf("%+v", got)
	}
	got = set(SetattrIn{Valid: SetMtime | SetCtime, Mtime: far, Ctime: old})
	if got.Mtime != far || got.Ctime != old {
		t.Fatalf("%+v", got)
	}
	if len(f.meta.log) != rows {
		t.Fatal("a change of times was written at once")
	}
	// A write from the kernel's cache leaves times alone, and so does persisting it.
	f.Write(ctx, a, 0, 10, []byte("cached"), WriteFlags{Cache: true})
	f.want(f.Fsync(ctx, a, true), nil)
	f = f.reopen()
	if now, _ := f.Getattr(ctx, a); now.Mtime != far || now.Ctime != old || now.Size != 16 {
		t.Fatalf("%+v", now)
	}
	f.write(a, 0, "y")
	if now, _ := f.Getattr(ctx, a); now.Mtime == far || now.Ctime == old {
		t.Fatalf("%+v: a write did not touch the times", now)
	}
	got = set(SetattrIn{Valid: SetMode | SetUid | SetGid, Mode: 0o6755, Uid: 70000, Gid: 4_000_000_000})
	if got.Mode != syscall.S_IFREG|0o6755 || got.Uid != 70000 || got.Gid != 4_000_000_000 {
		t.Fatalf("%+v", got)
	}
	f.want(f.Setxattr(ctx, a, capabilityXattr, []byte("cap"), 0, false), nil)
	f.Write(ctx, a, 0, 0, []byte("z"), WriteFlags{KillPriv: true})
	if now, _ := f.Getattr(ctx, a); now.Mode != syscall.S_IFREG|0o755 {
		t.Fatalf("mode %#o", now.Mode)
	}
	_, err := f.Getxattr(ctx, a, capabilityXattr)
	f.want(err, syscall.ENODATA)
	set(SetattrIn{Valid: SetMode, Mode: 0o6745})
	if now := set(SetattrIn{Valid: SetSize | SetKillPriv, Size: 3}); now.Mode != syscall.S_IFREG|0o2745 {
		t.Fatalf("mode %#o: setgid without group execute must stay", now.Mode)
	}
	_, err = f.Setattr(ctx, alice, a, SetattrIn{Valid: SetMtime, Mtime: Time{Nsec: 1e9}})
	f.want(err, syscall.EINVAL)
	f.want(f.Sync(ctx), nil)
	f.check()
}

func TestSetgidDirectory(t *testing.T) {
	f := newTestFS(t)
	d := f.dir(RootIno, "d")
	_, err := f.Setattr(ctx, alice, d, SetattrIn{Valid: SetMode | SetGid, Mode: 0o2775, Gid: 42})
	f.want(err, nil)
	sub, err := f.Mkdir(ctx, alice, d, "sub", 0o755, 0o22)
	f.want(err, nil)
	if sub.Gid != 42 || sub.Mode != syscall.S_IFDIR|0o2755 {
		t.Fatalf("%+v", sub)
	}
	x, _, err := f.Create(ctx, alice, sub.Ino, "x", 0o666, 0o22, 0)
	f.want(err, nil)
	if x.Gid != 42 || x.Uid != 1000 || x.Mode != syscall.S_IFREG|0o644 {
		t.Fatalf("%+v", x)
	}
	n, err := f.Mknod(ctx, alice, RootIno, "null", syscall.S_IFCHR|0o666, 1<<8|3, 0)
	f.want(err, nil)
	if n.Gid != 100 || n.Rdev != 1<<8|3 || n.Mode != syscall.S_IFCHR|0o666 {
		t.Fatalf("%+v", n)
	}
	f.check()
}

func TestDirectoryTimes(t *testing.T) {
	f := newTestFS(t)
	d := f.dir(RootIno, "d")
	e := f.dir(RootIno, "e")
	past := Time{Sec: 1000}
	for _, c := range []struct {
		name string
		do   func() error
		want map[Ino]bool
	}{
		{"create", func() error { f.file(d, "a", ""); return nil }, map[Ino]bool{d: true}},
		{"create existing", func() error {
			_, _, err := f.Create(ctx, alice, d, "a", 0o644, 0, syscall.O_EXCL)
			return err
		}, nil},
		{"link", func() error { _, err := f.Link(ctx, alice, f.list(d)["a"], e, "l"); return err }, map[Ino]bool{e: true}},
		{"rename", func() error { return f.Rename(ctx, alice, d, "a", e, "b", 0) }, map[Ino]bool{d: true, e: true}},
		{"mkdir", func() error { f.dir(e, "m"); return nil }, map[Ino]bool{e: true}},
		{"rmdir", func() error { return f.Rmdir(ctx, alice, e, "m") }, map[Ino]bool{e: true}},
		{"unlink", func() error { return f.Unlink(ctx, alice, e, "b") }, map[Ino]bool{e: true}},
		{"unlink absent", func() error { return f.Unlink(ctx, alice, e, "b") }, nil},
	} {
		for _, ino := range []Ino{d, e} {
			f.Setattr(ctx, alice, ino, SetattrIn{Valid: SetMtime | SetCtime, Mtime: past, Ctime: past})
		}
		if err := c.do(); (err != nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, ino := range []Ino{d, e} {
			a, _ := f.Getattr(ctx, ino)
			if touched := a.Mtime != past && a.Ctime != past; touched != c.want[ino] {
				t.Errorf("%s: directory %d touched: %v", c.name, ino, touched)
			}
		}
	}
	want, _ := f.Getattr(ctx, e)
	f = f.reopen()
	if got, _ := f.Getattr(ctx, e); got != want {
		t.Errorf("after reopen: %+v, before %+v", got, want)
	}
}

func TestXattr(t *testing.T) {
	f := newTestFS(t)
	a := f.file(RootIno, "a", "")
	_, err := f.Getxattr(ctx, a, "user.x")
	f.want(err, syscall.ENODATA)
	f.want(f.Setxattr(ctx, a, "user.x", []byte("1"), XattrReplace, false), syscall.ENODATA)
	f.want(f.Setxattr(ctx, a, "user.x", []byte("1"), XattrCreate, false), nil)
	f.want(f.Setxattr(ctx, a, "user.x", []byte("2"), XattrCreate, false), syscall.EEXIST)
	f.want(f.Setxattr(ctx, a, "user.x", nil, 0, false), nil)
	f.want(f.Setxattr(ctx, a, "trusted.overlay.opaque", []byte("y"), 0, false), nil)
	f.want(f.Setxattr(ctx, a, "user.big", make([]byte, MaxXattrValue), 0, false), nil)
	f.want(f.Setxattr(ctx, a, "user.bigger", make([]byte, MaxXattrValue+1), 0, false), syscall.E2BIG)
	f.want(f.Setxattr(ctx, a, "user."+strings.Repeat("n", 251), nil, 0, false), syscall.ERANGE)
	f.want(f.Setxattr(ctx, a, "system.posix_acl_access", nil, 0, false), syscall.EOPNOTSUPP)
	_, err = f.Getxattr(ctx, a, "system.posix_acl_default")
	f.want(err, syscall.EOPNOTSUPP)
	f = f.reopen()
	if names, err := f.Listxattr(ctx, a); err != nil || !slices.Equal(names, []string{"trusted.overlay.opaque", "user.big", "user.x"}) {
		t.Fatal(names, err)
	}
	if v, err := f.Getxattr(ctx, a, "user.x"); err != nil || len(v) != 0 {
		t.Fatal(v, err)
	}
	f.check()
	for _, n := range []string{"trusted.overlay.opaque", "user.big", "user.x"} {
		f.want(f.Removexattr(ctx, a, n), nil)
	}
	f.want(f.Removexattr(ctx, a, "user.x"), syscall.ENODATA)
	if at, _ := f.Getattr(ctx, a); at.HasXattr {
		t.Error("the flag is left")
	}
	f.want(f.Setxattr(ctx, a, "user.again", []byte("1"), 0, false), nil)
	f.want(f.Unlink(ctx, alice, RootIno, "a"), nil)
	f.waitReaped()
	f.check()
}

func TestFallocateAndSeek(t *testing.T) {
	f := newTestFS(t)
	a := f.file(RootIno, "a", "")
	mb := int64(1 << 20)
	f.want(f.Fallocate(ctx, a, 0, FallocKeepSize, 0, 4*mb), nil)
	if at, _ := f.Getattr(ctx, a); at.Size != 0 || at.Blocks != uint64(4*mb/512) {
		t.Fatalf("%+v", at)
	}
	f.check()
	f.want(f.Fallocate(ctx, a, 0, 0, 0, 3*mb), nil)
	if at, _ := f.Getattr(ctx, a); at.Size != uint64(3*mb) || at.Blocks != uint64(4*mb/512) {
		t.Fatalf("%+v", at)
	}
	f.write(a, mb, strings.Repeat("d", int(mb)))
	seek := func(off int64, whence int, want int64, wantErr error) {
		t.Helper()
		got, err := f.Seek(ctx, a, 0, off, whence)
		if got != want || err != wantErr {
			t.Errorf("seek %d, %d: got %d, %v; want %d, %v", off, whence, got, err, want, wantErr)
		}
	}
	seek(0, SeekData, mb, nil)
	seek(0, SeekHole, 0, nil)
	seek(mb+5, SeekData, mb+5, nil)
	seek(mb+5, SeekHole, 2*mb, nil)
	seek(2*mb, SeekData, 0, syscall.ENXIO)
	seek(2*mb, SeekHole, 2*mb, nil)
	seek(3*mb, SeekHole, 0, syscall.ENXIO)
	seek(-1, SeekData, 0, syscall.ENXIO)
	seek(0, 0, 0, syscall.EINVAL)
	f.want(f.Fallocate(ctx, a, 0, FallocPunchHole|FallocKeepSize, mb+100, 200), nil)
	f.want(f.Fallocate(ctx, a, 0, FallocZeroRange, mb+1000, 200), nil)
	want := []byte(strings.Repeat("\x00", int(mb)) + strings.Repeat("d", int(mb)) + strings.Repeat("\x00", int(mb)))
	clear(want[mb+100 : mb+300])
	clear(want[mb+1000 : mb+1200])
	if f.read(a) != string(want) {
		t.Fatal("content differs")
	}
	seek(mb, SeekHole, mb+100, nil)
	seek(mb+100, SeekData, mb+300, nil)
	f.check()
	f.want(f.Fallocate(ctx, a, 0, FallocZeroRange, 3*mb, 2*mb), nil)
	if at, _ := f.Getattr(ctx, a); at.Size != uint64(5*mb) {
		t.Fatalf("%+v", at)
	}
	f = f.reopen()
	f.check()
	if f.read(a)[:3*mb] != string(want) {
		t.Fatal("content differs after reopen")
	}
	f.want(f.Fallocate(ctx, a, 0, 8, 0, 1), syscall.EOPNOTSUPP)
	f.want(f.Fallocate(ctx, a, 0, FallocPunchHole, 0, 1), syscall.EOPNOTSUPP)
	f.want(f.Fallocate(ctx, a, 0, 0, 0, 0), syscall.EINVAL)
	f.want(f.Fallocate(ctx, a, 0, 0, MaxFileSize, 1), syscall.EFBIG)
	f.want(f.Fallocate(ctx, RootIno, 0, 0, 0, 1), syscall.EISDIR)
	_, err := f.Setattr(ctx, alice, a, SetattrIn{Valid: SetSize})
	f.want(err, nil)
	if at, _ := f.Getattr(ctx, a); at.Blocks != 0 {
		t.Fatalf("%+v", at)
	}
	f.check()
}

func TestCopyFileRange(t *testing.T) {
	both(t, func(t *testing.T, settle func(*testFS, Ino)) {
		f := newTestFS(t)
		content := strings.Repeat("0123456789abcdef", 200_000) // three blobs and a bit
		a := f.file(RootIno, "a", content)
		settle(f, a)
		b := f.file(RootIno, "b", "head")
		settle(f, b)
		cp := func(src Ino, so int64, dst Ino, do, n, want int64) {
			t.Helper()
			got, err := f.CopyFileRange(ctx, src, so, dst, do, n)
			if err != nil || got != want {
				t.Fatalf("copied %d, %v; want %d", got, err, want)
			}
		}
		cp(a, 0, b, 4, 1<<40, int64(len(content)))
		if f.read(b) != "head"+content {
			t.Fatal("copy differs")
		}
		f.check()
		cp(a, 100, a, 2_000_000, 1000, 1000)
		cp(b, 50, b, 0, 20, 20)
		wantA := content[:2_000_000] + content[100:1100] + content[2_001_000:]
		wantB := ("head" + content)[50:70] + ("head" + content)[20:]
		if f.read(a) != wantA || f.read(b) != wantB {
			t.Fatal("copy within a file differs")
		}
		f.check()
		f.write(a, 5, "private")
		wantA = wantA[:5] + "private" + wantA[12:]
		f.want(f.Sync(ctx), nil)
		f = f.reopen()
		f.check()
		if f.read(a) != wantA || f.read(b) != wantB {
			t.Fatal("writing to one changed the other")
		}
		f.want(f.Unlink(ctx, alice, RootIno, "a"), nil)
		f.waitReaped()
		f.want(f.Sync(ctx), nil)
		f.Covered(f.meta.Head().Seq)
		f.want(f.collect(ctx), nil)
		f.check()
		if f.read(b) != wantB {
			t.Fatal("removing one changed the other")
		}
		f.want(f.Unlink(ctx, alice, RootIno, "b"), nil)
		f.waitReaped()
		f.want(f.Sync(ctx), nil)
		f.Covered(f.meta.Head().Seq)
		f.want(f.collect(ctx), nil)
		f.check()
		if n := len(f.data.rows); n != 0 {
			t.Fatalf("%d blobs are left", n)
		}
	})
	f := newTestFS(t)
	a := f.file(RootIno, "a", "0123456789")
	_, err := f.CopyFileRange(ctx, a, 0, a, 5, 6)
	f.want(err, syscall.EINVAL)
	if n, err := f.CopyFileRange(ctx, a, 10, a, 0, 6); n != 0 || err != nil {
		t.Fatal(n, err)
	}
}

func TestPath(t *testing.T) {
	f := newTestFS(t)
	d := f.dir(RootIno, "d")
	e := f.dir(d, "e")
	a := f.file(e, "a", "")
	l := f.file(e, "l", "")
	_, err := f.Link(ctx, alice, l, RootIno, "m")
	f.want(err, nil)
	f.want(f.Unlink(ctx, alice, e, "l"), nil)
	for ino, want := range map[Ino]string{RootIno: "/", d: "/d", e: "/d/e", a: "/d/e/a", l: "/m", 999: "inode 999"} {
		if got := f.Path(ctx, ino); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What cannot be read is an error, never zeros, and other parts are not affected.
func TestMissingContent(t *testing.T) {
	f := newTestFS(t)
	a := f.file(RootIno, "a", strings.Repeat("a", 3<<20))
	f.want(f.Sync(ctx), nil)
	var second string
	for k := range f.data.rows {
		h, _ := meta.DecodeBlobHeader(f.data.rows[k].Value)
		if h.Offset == 1<<20 {
			second = k
		}
	}
	f.data.missing[second] = &zdb.MissingError{Namespace: "zdbfs-data", Segment: 3, Err: context.DeadlineExceeded}
	p := make([]byte, 100)
	if n, err := f.Read(ctx, a, 0, 0, p); n != 100 || err != nil {
		t.Fatal(n, err)
	}
	_, err := f.Read(ctx, a, 0, 1<<20-10, p)
	f.want(err, syscall.EIO)
	_, err = f.Read(ctx, a, 0, 0, make([]byte, 3<<20))
	f.want(err, syscall.EIO)
	// Overwriting and truncating need nothing of what is there.
	f.write(a, 1<<20, "new")
	f.want(f.Fsync(ctx, a, false), nil)
	if n, err := f.Read(ctx, a, 0, 1<<20, p[:3]); n != 3 || err != nil || string(p[:3]) != "new" {
		t.Fatal(n, err)
	}
	_, err = f.Setattr(ctx, alice, a, SetattrIn{Valid: SetSize, Size: 1<<20 + 50})
	f.want(err, nil)
	f.data.missing[second] = fmt.Errorf("gone: %w", zdb.ErrNotFound)
	_, err = f.Read(ctx, a, 0, 1<<20, p)
	f.want(err, syscall.EIO)
}

func TestNoSpace(t *testing.T) {
	m, d := newMemSpace(), newMemSpace()
	avail := uint64(10 << 20)
	f := openTestFS(t, m, d, Options{Slack: 1 << 20, Capacity: func() Capacity { return Capacity{Total: 1 << 30, Free: avail, Avail: avail} }})
	a := f.file(RootIno, "a", strings.Repeat("x", 1000))
	b := f.file(RootIno, "b", "b")
	f.want(f.Sync(ctx), nil)
	avail = 1<<20 - 1
	if !f.LowSpace() {
		t.Error("space is not low")
	}
	_, err := f.Write(ctx, a, 0, 0, []byte("y"), WriteFlags{})
	f.want(err, syscall.ENOSPC)
	_, _, err = f.Create(ctx, alice, RootIno, "c", 0o644, 0, 0)
	f.want(err, syscall.ENOSPC)
	f.want(f.Fallocate(ctx, a, 0, 0, 0, 1), syscall.ENOSPC)
	_, err = f.Write(ctx, a, 0, 0, []byte("cached"), WriteFlags{Cache: true})
	f.want(err, nil)
	f.want(f.Fsync(ctx, a, false), nil)

	// The disk itself is full: what was taken stays in memory until there is room.
	m.fail, d.fail = zdb.ErrNoSpace, zdb.ErrNoSpace
	_, err = f.Write(ctx, a, 0, 0, []byte("CACHED"), WriteFlags{Cache: true})
	f.want(err, nil)
	f.want(f.Fsync(ctx, a, false), syscall.ENOSPC)
	f.want(f.Unlink(ctx, alice, RootIno, "b"), nil)
	f.waitReaped()
	_, err = f.Getattr(ctx, b)
	f.want(err, syscall.ESTALE)
	if got := f.read(a); got[:7] != "CACHEDx" {
		t.Fatalf("%q", got[:7])
	}
	m.fail, d.fail = nil, nil
	f.want(f.Fsync(ctx, a, false), nil)
	f = f.reopen()
	if got := f.read(a); got[:7] != "CACHEDx" {
		t.Fatalf("%q", got[:7])
	}
	f.check()
	s, err := f.Statfs(ctx)
	if err != nil || s.NameLen != 255 {
		t.Fatal(s, err)
	}
}

func TestLimits(t *testing.T) {
	f := newTestFS(t)
	a := f.file(RootIno, "a", "x")
	_, err := f.Write(ctx, a, 0, MaxFileSize, []byte("x"), WriteFlags{})
	f.want(err, syscall.EFBIG)
	_, err = f.Write(ctx, a, 0, -1, []byte("x"), WriteFlags{})
	f.want(err, syscall.EINVAL)
	f.write(a, MaxFileSize-1, "x")
	f.want(f.Fsync(ctx, a, false), nil)
	p := make([]byte, 10)
	if n, err := f.Read(ctx, a, 0, MaxFileSize-5, p); n != 5 || err != nil || p[4] != 'x' {
		t.Fatal(n, err, p)
	}
	if n, err := f.Read(ctx, a, 0, MaxFileSize, p); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	_, err = f.Read(ctx, RootIno, 0, 0, p)
	f.want(err, syscall.EISDIR)
	f.check()
	_, err = f.Getattr(ctx, 999)
	f.want(err, syscall.ESTALE)
}

func TestSessions(t *testing.T) {
	m, d := newMemSpace(), newMemSpace()
	for i := range 20 {
		f := openTestFS(t, m, d, Options{Session: uint64(100 + i)})
		s, err := f.Sessions(ctx)
		if err != nil || len(s) != min(i+1, keepSessions) {
			t.Fatal(s, err)
		}
		last := s[len(s)-1]
		if last.ID != uint64(100+i) || last.First > f.meta.Head().Seq {
			t.Fatalf("%+v", last)
		}
		f.file(RootIno, fmt.Sprint(i), "x")
		f.want(f.Sync(ctx), nil)
		mh, dh, err := f.Heads(ctx)
		if err != nil || mh.Seq != m.Head().Seq || dh.Seq < mh.Needs {
			t.Fatal(mh, dh, err)
		}
		f.want(f.Close(ctx), nil)
	}
}
