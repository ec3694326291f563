package zdbfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qsfs/zdb"
)

// testEngine is a pair of namespaces of the real engine.
type testEngine struct {
	dir        string
	fetch      zdb.FetchFunc
	db         *zdb.DB
	meta, data *zdb.Namespace
}

func openEngine(t testing.TB, dir string) *testEngine {
	t.Helper()
	e := &testEngine{dir: dir}
	var err error
	e.db, err = zdb.Open(ctx, zdb.Options{
		DataDir: filepath.Join(dir, "data"), IndexDir: filepath.Join(dir, "index"), Epoch: 1, Reserve: -1,
		FetchTimeout: 10 * time.Second,
		Fetch: func(ctx context.Context, ns string, seg zdb.SegmentID, off, n int64) ([]byte, error) {
			if e.fetch == nil {
				return nil, errors.New("no nodes")
			}
			return e.fetch(ctx, ns, seg, off, n)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if e.data, err = e.db.Namespace(ctx, "zdbfs-data", zdb.NamespaceOptions{SegmentSize: 4 << 20, FlushInterval: time.Hour}); err != nil {
		t.Fatal(err)
	}
	e.meta, err = e.db.Namespace(ctx, "zdbfs-meta", zdb.NamespaceOptions{
		SegmentSize: 1 << 20, InlineMax: 512, Prewrite: true, FlushInterval: time.Hour,
		NeedsHead: func() zdb.Seq { return e.data.Head().Seq }, SyncNeeds: e.data.SyncTo,
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func openEngineFS(t testing.TB, dir string, o Options) *testFS {
	t.Helper()
	e := openEngine(t, dir)
	o.Meta, o.Data, o.Session = e.meta, e.data, 0
	if o.FlushInterval == 0 {
		o.FlushInterval = time.Hour
	}
	fs, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		fs.Close(ctx)
		e.db.Close()
	})
	return &testFS{FS: fs, t: t, eng: e}
}

func (e *testEngine) close(t testing.TB) {
	t.Helper()
	if err := e.db.Close(); err != nil {
		t.Fatal(err)
	}
}

// clone copies the files as they are, with the active logs cut somewhere behind what is durable: what a power cut leaves.
func (e *testEngine) clone(t testing.TB, rnd *rand.Rand) string {
	t.Helper()
	metaHead, dataHead := e.meta.Durable(), e.data.Durable()
	to := t.TempDir()
	err := filepath.WalkDir(e.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(e.dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if d.Name() == "badger" {
				return filepath.SkipDir // rebuilt; what it survives is the engine's business
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		return copyFile(path, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
	for ns, h := range map[string]zdb.Head{"zdbfs-meta": metaHead, "zdbfs-data": dataHead} {
		cutFile(t, filepath.Join(to, "data", ns), h, rnd)
	}
	return to
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// cutFile zeroes the active segment from a random place behind the durable head on.
func cutFile(t testing.TB, dir string, h zdb.Head, rnd *rand.Rand) {
	t.Helper()
	path := filepath.Join(dir, fmt.Sprintf("d%d", h.Segment))
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// Most of what is behind the head of a pre-written file is zeros: cut near it.
	room := min(st.Size()-h.Offset, 64<<10)
	if room <= 0 {
		return
	}
	at := h.Offset + rnd.Int63n(room+1)
	if err := os.Truncate(path, at); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, st.Size()); err != nil {
		t.Fatal(err)
	}
}

func TestEngineModel(t *testing.T) {
	limit := 8 * time.Second
	if os.Getenv("QSFS_LONG") != "" {
		limit = 10 * time.Minute
	}
	deadline := time.Now().Add(limit)
	ops, crashes, rounds := 0, 0, 0
	for seed := int64(1); time.Now().Before(deadline); seed++ {
		p := &player{t: t, rnd: rand.New(rand.NewSource(seed)), m: newModel(), strict: seed%2 == 0}
		p.f = openEngineFS(t, t.TempDir(), Options{Inodes: 64})
		p.past = []*model{p.m.clone()}
		for i := 0; i < 300 && time.Now().Before(deadline); i++ {
			p.step()
		}
		p.compare()
		ops, crashes, rounds = ops+p.ops, crashes+p.crashes, rounds+1
		if err := p.f.Close(ctx); err != nil {
			t.Fatal(err)
		}
		p.f.eng.close(t)
	}
	t.Logf("%d rounds, %d operations, %d crashes", rounds, ops, crashes)
}

// TestEngineFiles writes through several segments of both namespaces and reads everything back after a reopen.
func TestEngineFiles(t *testing.T) {
	f := openEngineFS(t, t.TempDir(), Options{})
	content := func(i int) string { return strings.Repeat(fmt.Sprintf("%07d\n", i), 1+i*97%20_000) }
	inos := map[int]Ino{}
	for i := range 150 {
		inos[i] = f.file(RootIno, fmt.Sprint(i), content(i))
		if i%10 == 0 {
			if err := f.Fsync(ctx, inos[i], false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if f.eng.data.Head().Segment < 2 {
		t.Fatal("all in one segment: the test is void")
	}
	m, d, err := f.Heads(ctx)
	if err != nil || d.Seq < m.Needs {
		t.Fatal(m, d, err)
	}
	f = f.reopen()
	f.check()
	for i, ino := range inos {
		if f.read(ino) != content(i) {
			t.Fatalf("file %d differs", i)
		}
	}
	sessions, err := f.Sessions(ctx)
	if err != nil || len(sessions) != 2 {
		t.Fatal(sessions, err)
	}
	if h := f.eng.meta.Head(); h.Session != sessions[1].ID || sessions[1].First > h.Seq {
		t.Fatalf("head %+v, sessions %+v", h, sessions)
	}
}
