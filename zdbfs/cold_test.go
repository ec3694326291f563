package zdbfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"qsfs/zdb"
)

// coldFS has a file whose content is in segments that are evicted, and another that is local. bring reads what was evicted.
func coldFS(t *testing.T) (f *testFS, cold, warm Ino, content string, bring zdb.FetchFunc) {
	f = openEngineFS(t, t.TempDir(), Options{FlushInterval: time.Second})
	content = strings.Repeat("0123456789abcdef", 3<<20/16)
	cold = f.file(RootIno, "cold", content)
	f.want(f.Sync(ctx), nil)
	if _, err := f.eng.data.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	warm = f.file(RootIno, "warm", "local content")
	f.want(f.Sync(ctx), nil)
	saved := map[zdb.SegmentID][]byte{}
	for _, s := range f.eng.data.Segments() {
		if !s.Sealed {
			continue
		}
		b, err := os.ReadFile(filepath.Join(f.eng.dir, "data", "zdbfs-data", fmt.Sprintf("d%d", s.ID)))
		if err != nil {
			t.Fatal(err)
		}
		saved[s.ID] = b
		if err := f.eng.data.Evict(ctx, s.ID); err != nil {
			t.Fatal(err)
		}
	}
	if len(saved) == 0 {
		t.Fatal("nothing was evicted")
	}
	return f, cold, warm, content, func(_ context.Context, ns string, seg zdb.SegmentID, off, n int64) ([]byte, error) {
		return saved[seg][off : off+n], nil
	}
}

// While a cold read waits for the nodes, everything else goes on: other files, directories, df, and the same file too.
func TestColdReadStopsNobody(t *testing.T) {
	f, cold, warm, content, bring := coldFS(t)
	var waiting atomic.Int32
	release := make(chan struct{})
	f.eng.fetch = func(ctx context.Context, ns string, seg zdb.SegmentID, off, n int64) ([]byte, error) {
		waiting.Add(1)
		select {
		case <-release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return bring(ctx, ns, seg, off, n)
	}
	got := make(chan error, 1)
	go func() {
		p := make([]byte, 1000)
		n, err := f.Read(ctx, cold, 0, 100_000, p)
		if err == nil && string(p[:n]) != content[100_000:101_000] {
			err = errors.New("content differs")
		}
		got <- err
	}()
	for waiting.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	_, err := f.Statfs(ctx)
	f.want(err, nil)
	if len(f.list(RootIno)) != 2 || f.read(warm) != "local content" {
		t.Error("content differs")
	}
	f.write(warm, 0, "LOCAL")
	f.want(f.Fsync(ctx, warm, false), nil)
	f.write(cold, 10, "written meanwhile")
	p := make([]byte, 17)
	if _, err := f.Read(ctx, cold, 0, 10, p); err != nil || string(p) != "written meanwhile" {
		t.Error(err, string(p))
	}
	f.want(f.Fsync(ctx, cold, false), nil)
	if _, err := f.Read(ctx, cold, 0, 10, p); err != nil || string(p) != "written meanwhile" {
		t.Error(err, string(p))
	}
	_, err = f.Getattr(ctx, cold)
	f.want(err, nil)
	_, err = f.Setattr(ctx, alice, cold, SetattrIn{Valid: SetMode, Mode: 0o600})
	f.want(err, nil)
	f.want(f.Rename(ctx, alice, RootIno, "cold", RootIno, "colder", 0), nil)
	_, err = f.Setattr(ctx, alice, cold, SetattrIn{Valid: SetSize, Size: 2_000_000})
	f.want(err, nil)
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	select {
	case err := <-got:
		t.Fatalf("the cold read did not wait: %v", err)
	default:
	}
	close(release)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	want := content[:10] + "written meanwhile" + content[27:2_000_000]
	if f.read(cold) != want {
		t.Fatal("content differs")
	}
	f.check()
}

// Nodes that do not answer make reads fail in time, with EIO and no zeros; an interrupted reader goes away at once.
func TestColdReadFails(t *testing.T) {
	f, cold, warm, content, bring := coldFS(t)
	p := bytes.Repeat([]byte{'?'}, 100)
	_, err := f.Read(ctx, cold, 0, 0, p)
	f.want(err, syscall.EIO)
	if f.read(warm) != "local content" {
		t.Error("content differs")
	}
	f.check() // what cannot be read now is not damage

	f.eng.fetch = func(ctx context.Context, ns string, seg zdb.SegmentID, off, n int64) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	short, cancel := context.WithCancel(ctx)
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = f.Read(short, cold, 0, 0, p)
	f.want(err, syscall.EINTR)

	f.eng.fetch = bring
	if f.read(cold) != content {
		t.Error("content differs")
	}
}
