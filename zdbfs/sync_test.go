package zdbfs

import (
	"strings"
	"testing"
)

// What an fsync promised stays, also when somebody else's content and metadata get into the logs between its two steps
// and everything behind what it made stable is lost.
func TestFsyncOrder(t *testing.T) {
	for _, inline := range []bool{true, false} {
		f := newTestFS(t)
		a, b := f.file(RootIno, "a", ""), f.file(RootIno, "b", "")
		f.want(f.Sync(ctx), nil)
		size := 10
		if !inline {
			size = inlineMax + 1
		}
		want := strings.Repeat("a", size)
		f.write(a, 0, want)
		between := false
		f.data.onSync = func() {
			between = true
			f.write(b, 0, strings.Repeat("b", inlineMax+1))
			in, err := f.inode(ctx, b)
			f.want(err, nil)
			f.want(f.flush(ctx, in, flushBlobs), nil)
			f.table.unpin(in)
		}
		f.want(f.Fsync(ctx, a, true), nil)
		if !between {
			t.Fatal("the content was not synced")
		}
		// The order matters for the next one too: its metadata lies behind that of b, which needs b's content.
		f.write(a, 0, "A")
		f.want(f.Fsync(ctx, a, true), nil)
		g := f.worst()
		g.check()
		if got := g.read(a); got != "A"+want[1:] {
			t.Fatalf("inline %v: what was promised is gone: %d bytes", inline, len(got))
		}
	}
}

// Deletes never overtake what they follow, and a name that was synced names a file that is there.
func TestSafeSave(t *testing.T) {
	f := newTestFS(t)
	f.file(RootIno, "doc", "old")
	f.want(f.Sync(ctx), nil)
	n := f.file(RootIno, "doc.new", "new")
	f.want(f.Fsync(ctx, n, false), nil)
	f.want(f.Rename(ctx, alice, RootIno, "doc.new", RootIno, "doc", 0), nil)
	f.waitReaped()
	g := f.worst() // the rename was not synced: the old name holds, with its content
	g.check()
	if got := g.read(g.list(RootIno)["doc"]); got != "old" {
		t.Fatalf("%q", got)
	}
	f.want(f.Fsyncdir(ctx, RootIno, false), nil)
	g = f.worst()
	g.check()
	if got := g.list(RootIno); len(got) != 1 || g.read(got["doc"]) != "new" {
		t.Fatalf("%v", got)
	}
}

// Sync makes stable also what other flushers have taken from the queue and not begun to commit.
func TestSyncTaken(t *testing.T) {
	f := newTestFS(t)
	a, b := f.file(RootIno, "a", ""), f.file(RootIno, "b", "")
	f.want(f.Sync(ctx), nil)
	for f.dirty.size() > 0 { // clean ones
		f.dirty.done(f.dirty.pop(far))
	}
	take := func() *inode {
		in := f.dirty.pop(far)
		if in == nil || in.ino != a || f.dirty.size() != 0 {
			t.Fatal("the file was not taken: the test is void")
		}
		return in
	}
	sync := func(wantA, wantB string) {
		t.Helper()
		f.want(f.Sync(ctx), nil)
		g := f.worst()
		g.check()
		if gotA, gotB := g.read(a), g.read(b); gotA != wantA || gotB != wantB {
			t.Errorf("after a power cut the files hold %q and %q, want %q and %q", gotA, gotB, wantA, wantB)
		}
	}

	f.write(a, 0, "1")
	first := take()
	sync("1", "")
	f.write(a, 0, "2") // by a second flusher, while the first has not ended
	second := take()
	f.dirty.done(first)
	f.write(b, 0, "b") // still in the queue
	sync("2", "b")
	f.dirty.done(second)
	if n := len(f.dirty.taken); n != 0 {
		t.Errorf("%d inodes are noted as taken for ever", n)
	}
}
