package zdbfs

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
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

// TestCrashPages does random operations on one file, page by page, with flushes of every kind in between, and cuts the log
// somewhere. Each page that is there afterwards is what it was at some time since the last fsync: never zeros that nobody
// made, never older than what was promised.
func TestCrashPages(t *testing.T) {
	const page, pages = 4096, 3 * meta.MaxBlob / 4096
	rounds := 60
	if os.Getenv("QSFS_LONG") == "1" {
		rounds = 3000
	}
	for round := range rounds {
		rnd := rand.New(rand.NewSource(int64(round)))
		f := newTestFS(t)
		ino := f.file(RootIno, "file", "")
		var now []byte        // the token that fills each page; 0: zeros
		past := [][]byte{nil} // since the last fsync
		var ops []string
		token := byte(0)
		for n := 10 + rnd.Intn(40); n > 0; n-- {
			a := rnd.Intn(pages)
			z := min(a+1+rnd.Intn([]int{2, 20, 300}[rnd.Intn(3)]), pages)
			if rnd.Intn(4) == 0 { // a whole block
				a = rnd.Intn(3) * meta.MaxBlob / page
				z = a + meta.MaxBlob/page
			}
			op := rnd.Intn(12)
			// Holes are rare, or every page was zeros at some time and the test sees nothing.
			if a > len(now) && rnd.Intn(20) > 0 {
				a, z = len(now), min(len(now)+z-a, pages)
			}
			if op == 4 && rnd.Intn(3) > 0 {
				a = min(len(now)+rnd.Intn(9)-4, pages-1)
				a, z = max(a, 0), max(a, 0)+1
			}
			if a >= z {
				continue
			}
			off, size := int64(a)*page, int64(z-a)*page
			grow := func(to int) {
				if to > len(now) {
					now = append(now, make([]byte, to-len(now))...)
				}
			}
			now = bytes.Clone(now)
			ops = append(ops, fmt.Sprint(op, " ", a, "-", z))
			switch op {
			case 0, 1, 2, 3:
				token = token%255 + 1
				f.write(ino, off, strings.Repeat(string([]byte{token}), int(size)))
				grow(z)
				for i := a; i < z; i++ {
					now[i] = token
				}
			case 4:
				_, err := f.Setattr(ctx, alice, ino, SetattrIn{Valid: SetSize, Size: uint64(off)})
				f.want(err, nil)
				grow(a)
				now = now[:a]
			case 5:
				mode := []uint32{FallocPunchHole | FallocKeepSize, FallocZeroRange, 0}[rnd.Intn(3)]
				f.want(f.Fallocate(ctx, ino, 0, mode, off, size), nil)
				if mode&FallocKeepSize == 0 {
					grow(z)
				}
				if mode != 0 {
					for i := a; i < min(z, len(now)); i++ {
						now[i] = 0
					}
				}
			case 6:
				to := rnd.Intn(len(now) + 1)
				k := min(z-a, pages-to, max(len(now)-a, 0))
				if k > 0 && (to+k <= a || a+k <= to) {
					_, err := f.CopyFileRange(ctx, ino, off, ino, int64(to)*page, int64(k)*page)
					f.want(err, nil)
					grow(to + k)
					copy(now[to:to+k], now[a:a+k])
				}
			case 7, 8, 9:
				in, err := f.inode(ctx, ino)
				f.want(err, nil)
				f.want(f.flush(ctx, in, []flushMode{flushBlobs, flushFull, flushInline}[op-7]), nil)
				f.table.unpin(in)
			case 10:
				f.want(f.Fsync(ctx, ino, rnd.Intn(2) == 0), nil)
				past = nil
			case 11: // somebody else's
				f.want(f.Fsyncdir(ctx, RootIno, false), nil)
			}
			past = append(past, now)
		}
		f = f.crash(rnd)
		a, err := f.lookup(RootIno, "file")
		if err != nil && len(past) < len(ops) {
			t.Fatalf("round %d: %v", round, err)
		} else if err != nil {
			continue
		}
		f.waitReaped()
		got := []byte(f.read(a.Ino))
		for i := 0; i*page < len(got); i++ {
			ok := false
			for _, s := range past {
				ok = ok || i < len(s) && bytes.Equal(got[i*page:(i+1)*page], bytes.Repeat(s[i:i+1], page))
			}
			if !ok {
				t.Fatalf("round %d: page %d holds %d…, which it never did\noperations %q", round, i, got[i*page], ops)
			}
		}
		if least := len(past[0]); len(past) < len(ops) {
			for _, s := range past {
				least = min(least, len(s))
			}
			if len(got) < least*page {
				t.Fatalf("round %d: %d bytes, it never had fewer than %d pages\noperations %q", round, len(got), least, ops)
			}
		}
		f.check()
	}
}
