package zdbfs

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"
)

func benchFS(b *testing.B) *testFS {
	return openEngineFS(b, b.TempDir(), Options{FlushInterval: time.Second, Standalone: true})
}

func BenchmarkCreate(b *testing.B) {
	f := benchFS(b)
	d := f.dir(RootIno, "d")
	b.ResetTimer()
	for i := range b.N {
		a, h, err := f.Create(ctx, alice, d, fmt.Sprint(i), 0o644, 0, 0)
		if err != nil {
			b.Fatal(err)
		}
		f.Release(ctx, h)
		f.Forget(a.Ino, 1)
	}
}

func BenchmarkCreate4K(b *testing.B) {
	f := benchFS(b)
	d := f.dir(RootIno, "d")
	content := strings.Repeat("x", 4096)
	b.ResetTimer()
	for i := range b.N {
		f.file(d, fmt.Sprint(i), content)
	}
	if err := f.Sync(ctx); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkUnlink(b *testing.B) {
	f := benchFS(b)
	d := f.dir(RootIno, "d")
	for i := range b.N {
		f.file(d, fmt.Sprint(i), "")
	}
	b.ResetTimer()
	for i := range b.N {
		if err := f.Unlink(ctx, alice, d, fmt.Sprint(i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	f := benchFS(b)
	d := f.dir(RootIno, "d")
	const n = 10_000
	for i := range n {
		f.file(d, fmt.Sprint(i), "")
	}
	b.ResetTimer()
	for i := range b.N {
		a, err := f.Lookup(ctx, alice, d, fmt.Sprint(i%n))
		if err != nil {
			b.Fatal(err)
		}
		f.Forget(a.Ino, 1)
	}
}

func BenchmarkOverwriteFsync4K(b *testing.B) {
	f := benchFS(b)
	ino := f.file(RootIno, "db", strings.Repeat("x", 16<<20))
	if err := f.Sync(ctx); err != nil {
		b.Fatal(err)
	}
	rnd := rand.New(rand.NewSource(1))
	page := []byte(strings.Repeat("y", 4096))
	b.SetBytes(4096)
	b.ResetTimer()
	for range b.N {
		if _, err := f.Write(ctx, ino, 0, rnd.Int63n(4096)*4096, page, WriteFlags{}); err != nil {
			b.Fatal(err)
		}
		if err := f.Fsync(ctx, ino, true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteStream(b *testing.B) {
	f := benchFS(b)
	ino := f.file(RootIno, "stream", "")
	chunk := make([]byte, 128<<10)
	rand.New(rand.NewSource(1)).Read(chunk)
	b.SetBytes(int64(len(chunk)))
	b.ResetTimer()
	for i := range b.N {
		if _, err := f.Write(ctx, ino, 0, int64(i)*int64(len(chunk)), chunk, WriteFlags{}); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(ctx); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkReadStream(b *testing.B) {
	f := benchFS(b)
	const size = 64 << 20
	ino := f.file(RootIno, "stream", strings.Repeat("0123456789abcdef", size/16))
	if err := f.Sync(ctx); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	b.ResetTimer()
	for i := range b.N {
		if _, err := f.Read(ctx, ino, 0, int64(i)*int64(len(p))%size, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReaddir lists a large directory as the kernel does, a few entries at a time; one op is one entry.
func BenchmarkReaddir(b *testing.B) {
	f := benchFS(b)
	d := f.dir(RootIno, "d")
	for i := range 20_000 {
		f.file(d, fmt.Sprint(i), "")
	}
	b.ResetTimer()
	for done := 0; done < b.N; {
		var cookie uint64
		for more := true; more && done < b.N; {
			more = false
			n := 0
			err := f.Readdir(ctx, d, cookie, func(d Dirent, _ func() (Attr, error)) bool {
				if n == 100 {
					more = true
					return false
				}
				n++
				cookie = d.Cookie
				return true
			})
			if err != nil {
				b.Fatal(err)
			}
			done += n
		}
	}
}
