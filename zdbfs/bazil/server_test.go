package bazil

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"qsfs/zdb"
	"qsfs/zdbfs"
)

// The filesystem under test runs in a process of its own, which is this test binary again: a process
// that maps a file of a mount which it serves itself deadlocks, and one that is killed must take its
// own mount along. It obeys lines on its standard input and ends with it.
const (
	envServe   = "QSFS_TEST_SERVE"
	envOptions = "QSFS_TEST_OPTIONS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envServe); dir != "" {
		if err := serveTest(dir, os.Getenv(envOptions)); err != nil {
			fmt.Fprintln(os.Stderr, "test server:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if mode := os.Getenv(envMmap); mode != "" {
		os.Exit(mmapChild(mode))
	}
	os.Exit(m.Run())
}

// testServer is the filesystem in the child.
type testServer struct {
	dir     string
	db      *zdb.DB
	data    *zdb.Namespace
	meta    *zdb.Namespace
	fs      *zdbfs.FS
	mount   *Mount
	fetches atomic.Int64
	fetched atomic.Int64
	full    atomic.Bool
	hold    atomic.Bool // writes wait
	held    atomic.Int64
}

func serveTest(dir, options string) error {
	s := &testServer{dir: dir}
	if err := s.open(options); err != nil {
		return err
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		out, err := s.command(strings.Fields(in.Text()))
		if err != nil {
			out = "error " + err.Error()
		}
		fmt.Println(out)
	}
	return s.close()
}

func (s *testServer) open(options string) error {
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	state := filepath.Join(s.dir, "state")
	var err error
	s.db, err = zdb.Open(ctx, zdb.Options{
		DataDir: filepath.Join(state, "data"), IndexDir: filepath.Join(state, "index"), Epoch: 1, Log: log,
		Fetch: s.fetch, FetchTimeout: time.Minute,
	})
	if err != nil {
		return err
	}
	if s.data, err = s.db.Namespace(ctx, "zdbfs-data", zdb.NamespaceOptions{SegmentSize: 8 << 20}); err != nil {
		return err
	}
	s.meta, err = s.db.Namespace(ctx, "zdbfs-meta", zdb.NamespaceOptions{
		SegmentSize: 16 << 20, InlineMax: 512,
		NeedsHead: func() zdb.Seq { return s.data.Head().Seq }, SyncNeeds: s.data.SyncTo,
	})
	if err != nil {
		return err
	}
	s.fs, err = zdbfs.Open(ctx, zdbfs.Options{
		Meta: s.meta, Data: s.data, Standalone: true, Log: log,
		Admit: func(_ context.Context, _ zdbfs.Ino, _ int, fl zdbfs.WriteFlags) error {
			if s.full.Load() && !fl.Cache {
				return syscall.ENOSPC
			}
			s.held.Add(1)
			defer s.held.Add(-1)
			for s.hold.Load() {
				time.Sleep(5 * time.Millisecond)
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	dir, err := PrepareMountPoint(filepath.Join(s.dir, "mnt"))
	if err != nil {
		return err
	}
	o := Options{Log: log, DirectWrites: s.full.Load}
	if strings.Contains(options, "nocache") {
		o.AttrTimeout, o.EntryTimeout, o.NegativeTimeout = time.Nanosecond, time.Nanosecond, time.Nanosecond
	}
	s.mount, err = New(s.fs, dir, o)
	return err
}

// fetch answers from the copies that evict made, once nobody blocks it.
func (s *testServer) fetch(ctx context.Context, ns string, seg zdb.SegmentID, off, n int64) ([]byte, error) {
	s.fetches.Add(1)
	s.fetched.Add(n)
	for {
		if _, err := os.Stat(filepath.Join(s.dir, "blocked")); err != nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "away")); err == nil {
		return nil, fmt.Errorf("the nodes are away")
	}
	f, err := os.Open(s.stash(seg))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := make([]byte, n)
	_, err = f.ReadAt(p, off)
	return p, err
}

func (s *testServer) stash(seg zdb.SegmentID) string {
	return filepath.Join(s.dir, "stash-d"+strconv.FormatUint(uint64(seg), 10))
}

func (s *testServer) command(words []string) (string, error) {
	ctx := context.Background()
	if len(words) == 0 {
		return "", fmt.Errorf("no command")
	}
	switch words[0] {
	case "evict":
		return s.evict(ctx)
	case "fetches":
		return fmt.Sprintf("%d %d", s.fetches.Swap(0), s.fetched.Swap(0)), nil
	case "full":
		s.full.Store(words[1] == "on")
		return "ok", nil
	case "hold":
		s.hold.Store(words[1] == "on")
		return "ok", nil
	case "held": // writes that are held up, and the bytes of memory in use
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return fmt.Sprintf("%d %d", s.held.Load(), m.HeapAlloc), nil
	case "readonly":
		s.mount.SetReadOnly()
		return "ok", nil
	case "check":
		r, err := s.fs.Check(ctx)
		if err != nil {
			return "", err
		}
		if len(r.Problems) > 0 {
			return "", fmt.Errorf("%d problems: %s", len(r.Problems), strings.Join(r.Problems[:min(5, len(r.Problems))], "; "))
		}
		return fmt.Sprintf("%d %d", r.Inodes, r.Orphans), nil
	case "sync":
		return "ok", s.fs.Sync(ctx)
	case "device":
		return s.mount.Device(), nil
	}
	return "", fmt.Errorf("unknown command %q", words[0])
}

// evict seals what is there and takes the sealed data segments away, keeping copies.
func (s *testServer) evict(ctx context.Context) (string, error) {
	if err := s.fs.Sync(ctx); err != nil {
		return "", err
	}
	if _, err := s.data.Seal(ctx); err != nil {
		return "", err
	}
	n := 0
	for _, seg := range s.data.Segments() {
		if !seg.Sealed || !seg.Local {
			continue
		}
		from := filepath.Join(s.dir, "state", "data", "zdbfs-data", "d"+strconv.FormatUint(uint64(seg.ID), 10))
		if err := copyFile(from, s.stash(seg.ID)); err != nil {
			return "", err
		}
		if err := s.data.Evict(ctx, seg.ID); err != nil {
			return "", err
		}
		n++
	}
	return strconv.Itoa(n), nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}

func (s *testServer) close() error {
	for range 50 {
		if err := s.mount.Unmount(); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	select {
	case <-s.mount.Done():
	case <-time.After(5 * time.Second):
		fmt.Fprintln(os.Stderr, "test server: the mount was busy")
		if err := s.mount.Abort(); err != nil {
			return err
		}
	}
	if err := s.mount.Close(); err != nil {
		return err
	}
	if err := s.fs.Close(context.Background()); err != nil {
		return err
	}
	return s.db.Close()
}
