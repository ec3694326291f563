package wal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// described is d0 with batches of many sizes, some across the ends of reads and pieces, and what it takes to describe it.
func described(t *testing.T) (*Log, *segment, []byte) {
	r := newRig(t)
	r.o.SegmentSize = 64 << 20
	r.open()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 10, 100 << 10, 300 << 10, 1 << 20, 5, 700 << 10, 4 << 10, 4 << 10} {
		value := make([]byte, size)
		for i := range value {
			value[i] = byte(rng.Uint32())
		}
		var b batch.Builder
		b.Set(fmt.Appendf(nil, "key %d", size), value)
		b.Delete([]byte("gone"))
		if _, err := r.l.Append(t.Context(), &b, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	s := *r.l.active
	s.length = r.l.Head().Offset
	return r.l, &s, r.read("d0")[:s.length]
}

// TestDescribeSums compares the sums of either version with FORMAT.md, and what is written with what is compared.
func TestDescribeSums(t *testing.T) {
	l, s, d := described(t)
	var all []byte
	for at := 0; at < len(d); at += segfile.PieceSize {
		sum := blake3.Sum256(d[at:min(at+segfile.PieceSize, len(d))])
		all = append(all, sum[:]...)
	}
	var over [32]byte
	blake3.DeriveKey("qsfs zdb pieces 1", all, over[:])
	for version, want := range map[uint16][32]byte{1: blake3.Sum256(d), 2: over} {
		index := &shadow{}
		size, err := l.describe(s, bytes.NewReader(d), index, version)
		if err != nil || size != int64(len(index.p)) {
			t.Fatalf("version %d: %v", version, err)
		}
		f, err := segfile.ReadFooterAt(bytes.NewReader(index.p), size)
		if err != nil || f.Version != version || f.Sum != want || f.DataLength != int64(len(d)) || len(f.PieceSums) != 3 || f.Records != 18 {
			t.Errorf("version %d: %+v, %v", version, f, err)
		}
		if err := errors.Join(f.Verify(bytes.NewReader(d)), f.VerifyIndex(bytes.NewReader(index.p))); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
		other := &comparer{r: bytes.NewReader(index.p)}
		if _, err := l.describe(s, bytes.NewReader(d), other, 3-version); !errors.Is(err, errDiffers) {
			t.Errorf("the other version does not differ: %v", err)
		}
	}
}

// shadow is a file that is written from its start to its end.
type shadow struct{ p []byte }

func (f *shadow) WriteAt(p []byte, off int64) (int, error) {
	f.p = append(f.p[:off], p...)
	return len(p), nil
}

// TestDescribeFlips: a bit of d<N> that is another one when the segment is described is found, wherever it is.
func TestDescribeFlips(t *testing.T) {
	l, s, d := described(t)
	var at []int
	for i := range 3*batch.HeaderSize + segfile.HeaderSize { // the header, and the first batches
		at = append(at, i)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		at = append(at, rng.IntN(len(d)))
	}
	for i := 256 << 10; i < len(d); i += 256 << 10 {
		at = append(at, i-1, i)
	}
	at = append(at, len(d)-1)
	for _, i := range at {
		d[i] ^= 1 << (i % 8)
		var ce *segfile.CorruptionError
		if _, err := l.describe(s, bytes.NewReader(d), &shadow{}, segfile.FooterVersion); !errors.As(err, &ce) || ce.Offset > int64(i) {
			t.Fatalf("byte %d of %d: %v", i, len(d), err)
		}
		d[i] ^= 1 << (i % 8)
	}
	for _, n := range []int{0, 255, 256, 300 << 10, len(d) - 1} {
		if _, err := l.describe(s, bytes.NewReader(d[:n]), &shadow{}, segfile.FooterVersion); err == nil {
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
	if _, err := l.describe(s, bytes.NewReader(d), &shadow{}, segfile.FooterVersion); err != nil {
		t.Fatal(err)
	}
}

// TestFlipBeforeSeal: what goes wrong in memory or on the disk between the write and the seal stops the seal. There is no i<N>,
// so nobody takes the segment for whole; once the byte is right again the seal goes on.
func TestFlipBeforeSeal(t *testing.T) {
	r := newRig(t)
	var flips, seals atomic.Int32
	r.o.OnSeal = func(segfile.ID) { seals.Add(1) }
	flip := func() {
		f, err := r.mem.Open(dir+"/d0", true)
		if err != nil {
			t.Error(err)
			return
		}
		p := make([]byte, 1)
		if _, err = f.ReadAt(p, 500); err == nil {
			p[0] ^= 0x10
			_, err = f.WriteAt(p, 500)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Error(err)
		}
	}
	r.o.FS = &vfs.Hook{FS: r.mem, Before: func(c vfs.Call) error {
		if c.Op == "Create" && c.Name == "i0.tmp" && flips.Add(1) == 1 {
			flip()
		}
		return nil
	}}
	r.open()
	r.put("first", "second", "third")
	r.sync()
	var ce *segfile.CorruptionError
	if _, err := r.l.Seal(t.Context()); !errors.As(err, &ce) || ce.File != dir+"/d0" {
		t.Fatalf("seal: %v", err)
	}
	if names := r.names(); slices.Contains(strings.Fields(names), "i0") || seals.Load() != 0 {
		t.Fatalf("sealed all the same: %s", names)
	}
	flip() // right again
	for deadline := time.Now().Add(20 * time.Second); seals.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the seal is not tried again")
		}
	}
	r.want("first second third")
}

// BenchmarkDescribe is what a seal does between the two fsyncs, over 64 MiB that lie in the page cache.
func BenchmarkDescribe(b *testing.B) {
	for _, size := range []int{4 << 10, 128 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) { benchmarkDescribe(b, size) })
	}
}

func benchmarkDescribe(b *testing.B, size int) {
	const length = 64 << 20
	dir := b.TempDir()
	l, err := Open(b.Context(), Options{
		FS: vfs.OS, Handles: NewHandles(vfs.OS, 16), DataDir: dir, IndexDir: dir, Namespace: "ns", Epoch: 1, Session: 1, SegmentSize: 1 << 30,
		FlushInterval: time.Hour, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var one batch.Builder
	value := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(value)
	for i := range length / size {
		one.Reset(true)
		one.Set(fmt.Appendf(nil, "key:%012d", i), value)
		if _, err := l.Append(b.Context(), &one, 0, 0); err != nil {
			b.Fatal(err)
		}
	}
	s := *l.active
	s.length = l.Head().Offset
	data, err := vfs.OS.Open(l.dataPath(s.id), false)
	if err != nil {
		b.Fatal(err)
	}
	defer data.Close()
	index, err := vfs.OS.Create(l.indexPath(s.id) + ".tmp")
	if err != nil {
		b.Fatal(err)
	}
	defer index.Close()
	b.SetBytes(s.length)
	began := processorTime(b)
	for b.Loop() {
		if _, err := l.describe(&s, data, index, segfile.FooterVersion); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime(b)-began)/float64(b.N)/1e3/(length/4096), "cpu-µs/4KiB")
}

// processorTime of this process in ns; unlike the clock it hardly depends on what else runs.
func processorTime(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
