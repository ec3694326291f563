package zdbfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"qsfs/zdb"
)

// memSpace is a namespace in memory that keeps its log, so that a test can cut it at any batch.
type memSpace struct {
	mu      sync.Mutex
	keys    []string // sorted
	rows    map[string]zdb.Entry
	log     []memBatch
	durable int // batches
	seq     zdb.Seq
	fail    error // of commits
	missing map[string]error
	onSync  func() // called once by SyncTo, before it does anything
	before  func(b *batch)
}

type memBatch struct {
	rows        []row
	first, last zdb.Seq
	needs       zdb.Seq
}

func newMemSpace() *memSpace {
	return &memSpace{rows: make(map[string]zdb.Entry), missing: make(map[string]error)}
}

func (m *memSpace) commit(_ context.Context, b *batch, needs zdb.Seq) (zdb.Commit, error) {
	if m.before != nil {
		m.before(b)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil && !b.frees {
		return zdb.Commit{}, m.fail
	}
	if len(b.rows) == 0 || len(b.rows) > zdb.MaxBatchEntries || b.size > zdb.MaxBatchBytes {
		return zdb.Commit{}, fmt.Errorf("batch of %d rows, %d bytes", len(b.rows), b.size)
	}
	if n := len(m.log); n > 0 && needs < m.log[n-1].needs {
		return zdb.Commit{}, zdb.ErrNeeds
	}
	mb := memBatch{first: m.seq + 1, last: m.seq + zdb.Seq(len(b.rows)), needs: needs}
	for _, r := range b.rows {
		mb.rows = append(mb.rows, row{key: bytes.Clone(r.key), value: bytes.Clone(r.value), del: r.del})
	}
	m.apply(mb)
	return zdb.Commit{First: mb.first, Last: mb.last}, nil
}

func (m *memSpace) apply(b memBatch) {
	for i, r := range b.rows {
		k := string(r.key)
		at, found := slices.BinarySearch(m.keys, k)
		switch {
		case r.del && found:
			m.keys = slices.Delete(m.keys, at, at+1)
			delete(m.rows, k)
		case !r.del:
			if !found {
				m.keys = slices.Insert(m.keys, at, k)
			}
			m.rows[k] = zdb.Entry{Key: r.key, Value: r.value, Seq: b.first + zdb.Seq(i)}
		}
	}
	m.log = append(m.log, b)
	m.seq = b.last
}

func (m *memSpace) Get(_ context.Context, key []byte) (zdb.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.rows[string(key)]
	if !ok {
		return zdb.Entry{}, fmt.Errorf("get %q: %w", key, zdb.ErrNotFound)
	}
	return e, nil
}

func (m *memSpace) Has(ctx context.Context, key []byte) (bool, error) {
	_, err := m.Get(ctx, key)
	return err == nil, nil
}

func (m *memSpace) ReadRange(ctx context.Context, key []byte, off int64, p []byte) (int, error) {
	m.mu.Lock()
	err := m.missing[string(key)]
	m.mu.Unlock()
	if err != nil {
		return 0, err
	}
	e, err := m.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	if off+int64(len(p)) > int64(len(e.Value)) {
		return 0, zdb.ErrRange
	}
	return copy(p, e.Value[off:]), nil
}

func (m *memSpace) SyncTo(_ context.Context, seq zdb.Seq) error {
	if f := m.onSync; f != nil {
		m.onSync = nil
		f()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.durable < len(m.log) && m.log[m.durable].first <= seq {
		m.durable++
	}
	return nil
}

func (m *memSpace) head(n int) zdb.Head {
	if n == 0 {
		return zdb.Head{Session: 7}
	}
	return zdb.Head{Seq: m.log[n-1].last, Needs: m.log[n-1].needs, Session: 7, Segment: zdb.SegmentID(n / 1000)}
}

func (m *memSpace) Head() zdb.Head {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head(len(m.log))
}

func (m *memSpace) Durable() zdb.Head {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head(m.durable)
}

func (m *memSpace) iter(_ context.Context, lower, upper []byte, keysOnly bool) (rowIter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := sort.SearchStrings(m.keys, string(lower))
	to := len(m.keys)
	if upper != nil {
		to = max(from, sort.SearchStrings(m.keys, string(upper)))
	}
	it := &memIter{keysOnly: keysOnly, at: -1}
	for _, k := range m.keys[from:to] {
		it.rows = append(it.rows, m.rows[k])
	}
	return it, nil
}

type memIter struct {
	rows     []zdb.Entry
	at       int
	keysOnly bool
}

func (it *memIter) Seek(key []byte) bool {
	it.at = sort.Search(len(it.rows), func(i int) bool { return bytes.Compare(it.rows[i].Key, key) >= 0 })
	return it.Valid()
}
func (it *memIter) Next() bool  { it.at++; return it.Valid() }
func (it *memIter) Valid() bool { return it.at >= 0 && it.at < len(it.rows) }
func (it *memIter) Key() []byte { return it.rows[it.at].Key }
func (it *memIter) Value() ([]byte, error) {
	if it.keysOnly {
		return nil, errors.New("keys only")
	}
	return it.rows[it.at].Value, nil
}
func (it *memIter) Entry() (zdb.Entry, error) { return it.rows[it.at], nil }
func (it *memIter) Err() error                { return nil }
func (it *memIter) Close() error              { return nil }

// cut returns a namespace with the first n batches of m, all durable.
func (m *memSpace) cut(n int) *memSpace {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := newMemSpace()
	for _, b := range m.log[:n] {
		out.apply(b)
	}
	out.durable = n
	return out
}

// crash returns what is left of both namespaces after a power cut: everything durable, and any whole batches behind it.
func crash(rnd *rand.Rand, metaSpace, data *memSpace) (*memSpace, *memSpace) {
	pick := func(m *memSpace) int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.durable + rnd.Intn(len(m.log)-m.durable+1)
	}
	nm := pick(metaSpace) // first, so that content is not cut more than it could be
	nd := pick(data)
	d := data.cut(nd)
	metaSpace.mu.Lock()
	for i := range nm {
		if metaSpace.log[i].needs > d.seq {
			if i < metaSpace.durable {
				panic("a durable batch needs content that is not")
			}
			nm = i
			break
		}
	}
	metaSpace.mu.Unlock()
	return metaSpace.cut(nm), d
}

type testFS struct {
	*FS
	t    testing.TB
	meta *memSpace
	data *memSpace
	eng  *testEngine // instead of those
}

func newTestFS(t testing.TB) *testFS {
	t.Helper()
	return openTestFS(t, newMemSpace(), newMemSpace(), Options{})
}

func openTestFS(t testing.TB, metaSpace, data *memSpace, o Options) *testFS {
	t.Helper()
	if o.FlushInterval == 0 {
		o.FlushInterval = time.Hour // tests decide what is flushed
	}
	fs, err := open(context.Background(), o, metaSpace, data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close(context.Background()) })
	return &testFS{FS: fs, t: t, meta: metaSpace, data: data}
}

// reopen closes and opens.
func (f *testFS) reopen() *testFS {
	f.t.Helper()
	if err := f.Close(context.Background()); err != nil {
		f.t.Fatal(err)
	}
	if f.eng != nil {
		f.eng.close(f.t)
		return openEngineFS(f.t, f.eng.dir, f.o)
	}
	return openTestFS(f.t, f.meta, f.data, f.o)
}

// crash stops without a flush and returns what a power cut leaves.
func (f *testFS) crash(rnd *rand.Rand) *testFS {
	f.t.Helper()
	if f.eng != nil {
		dir := f.eng.clone(f.t, rnd)
		f.stop()
		f.wg.Wait()
		f.eng.close(f.t)
		return openEngineFS(f.t, dir, f.o)
	}
	m, d := crash(rnd, f.meta, f.data)
	f.stop()
	f.wg.Wait()
	return openTestFS(f.t, m, d, f.o)
}

// worst is crash with only what is durable left.
func (f *testFS) worst() *testFS {
	f.t.Helper()
	f.data.mu.Lock()
	nd := f.data.durable
	f.data.mu.Unlock()
	d := f.data.cut(nd)
	f.meta.mu.Lock()
	nm := f.meta.durable
	for i, b := range f.meta.log[:nm] {
		if b.needs > d.seq {
			nm = i
			break
		}
	}
	f.meta.mu.Unlock()
	return openTestFS(f.t, f.meta.cut(nm), d, f.o)
}

func (f *testFS) check() {
	f.t.Helper()
	r, err := f.Check(context.Background())
	if err != nil {
		f.t.Fatalf("check: %v", err)
	}
	for _, p := range r.Problems {
		f.t.Errorf("check: %s", p)
	}
	if len(r.Problems) > 0 {
		f.t.FailNow()
	}
}
