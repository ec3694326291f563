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
