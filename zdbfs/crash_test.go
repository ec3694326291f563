package zdbfs

import (
	"bytes"
	"math/rand"
	"strings"
	"testing"

	"qsfs/zdbfs/internal/meta"
)

// A crash shortens a file that grew: a size that is stable never counts bytes that were written before it was set and
// are not in the log.
func TestCrashLeavesNoHole(t *testing.T) {
	const block = meta.MaxBlob
	text := strings.Repeat("written ", 1000)
	for name, c := range map[string]struct {
		do   func(f *testFS, ino Ino)
		want func(content []byte) bool
	}{
		"truncated to more": {func(f *testFS, ino Ino) {
			f.write(ino, 0, text)
			_, err := f.Setattr(ctx, alice, ino, SetattrIn{Valid: SetSize, Size: 20000})
			f.want(err, nil)
		}, func(b []byte) bool { return len(b) == 20000 && string(b[:len(text)]) == text }},
		"truncated to less": {func(f *testFS, ino Ino) {
			f.write(ino, 0, text)
			_, err := f.Setattr(ctx, alice, ino, SetattrIn{Valid: SetSize, Size: 5000})
			f.want(err, nil)
		}, func(b []byte) bool { return string(b) == text[:5000] }},
		"whole blocks first": {func(f *testFS, ino Ino) {
			f.write(ino, 100, text)
			f.write(ino, block, strings.Repeat("x", block))
			f.write(ino, 2*block, text)
			in, err := f.inode(ctx, ino)
			f.want(err, nil)
			f.want(f.flush(ctx, in, flushFull), nil) // as for a file that is written fast
			f.table.unpin(in)
		}, func(b []byte) bool {
			return len(b) == 2*block && string(b[100:100+len(text)]) == text && b[block] == 'x' && b[2*block-1] == 'x'
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newTestFS(t)
			ino := f.file(RootIno, "file", "")
			c.do(f, ino)
			// Somebody else's fsync makes what is committed stable, and nothing more.
			f.want(f.Fsyncdir(ctx, RootIno, false), nil)
			f = f.crash(rand.New(rand.NewSource(1)))
			b := []byte(f.read(ino))
			if i := bytes.Index(b, make([]byte, 8)); !c.want(b) {
				t.Errorf("%d bytes, the first zeros at %d", len(b), i)
			}
			f.check()
		})
	}
}

// A size that is set while a write makes the file larger still does not hide what was written.
func TestTruncateToMoreBesideAWrite(t *testing.T) {
	f := newTestFS(t)
	ino := f.file(RootIno, "file", "")
	once := true
	f.meta.before = func(*batch) {
		if once {
			once = false
			f.write(ino, 1000, "behind")
		}
	}
	_, err := f.Setattr(ctx, alice, ino, SetattrIn{Valid: SetSize, Size: 500})
	f.want(err, nil)
	f.meta.before = nil
	if once {
		t.Fatal("nothing was written")
	}
	want := strings.Repeat("\x00", 1000) + "behind"
	if got := f.read(ino); got != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	f = f.reopen()
	if got := f.read(ino); got != want {
		t.Errorf("reopened: %d bytes, want %d", len(got), len(want))
	}
	f.check()
}
