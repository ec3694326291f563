package zdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qsfs/zdb/internal/vfs"
)

var errDead = errors.New("the machine is off")

// machine is an engine on a file system that can lose its power at any call.
type machine struct {
	t    *testing.T
	rng  *rand.Rand
	dir  string
	mem  *vfs.Mem
	db   *DB
	n    *Namespace
	opts NamespaceOptions

	dead atomic.Bool
	// killAt is the call at which the power goes; 0 is never.
	killAt atomic.Int64
	lose   bool

	mu    sync.Mutex
	saved map[SegmentID][]byte // copies on the nodes

	// model
	states  []map[string]string // states[i] is after batch i, from the last opening on
	first   int                 // number of states[0]
	acked   int                 // everything up to this batch was synced
	reopens int
	checks  int
	past    past

	// An iterator that stays open over what comes after it, and what it must give.
	held     *Iter
	heldWant map[string]string
}

const counterKey = "~batch"

func newMachine(t *testing.T, seed uint64) *machine {
	m := &machine{t: t, rng: rand.New(rand.NewPCG(seed, 7)), dir: t.TempDir(), mem: vfs.NewMem(), saved: map[SegmentID][]byte{}, past: newPast()}
	m.states = []map[string]string{{}}
	m.opts = NamespaceOptions{
		SegmentSize:   []int64{4 << 10, 64 << 10, 512 << 10}[m.rng.IntN(3)],
		Prewrite:      m.rng.IntN(2) == 0,
		InlineMax:     []int{0, 300, 4096}[m.rng.IntN(3)],
		FlushInterval: []time.Duration{time.Millisecond, time.Hour}[m.rng.IntN(2)],
		Compaction:    Compaction{Auto: m.rng.IntN(2) == 0, RateBytes: -1},
	}
	return m
}

func (m *machine) start() {
	m.t.Helper()
	m.dead.Store(false)
	hook := &vfs.Hook{FS: m.mem}
	hook.Before = func(c vfs.Call) error {
		if m.dead.Load() {
			return errDead
		}
		if at := m.killAt.Load(); at > 0 && c.N >= at && m.dead.CompareAndSwap(false, true) {
			return errDead
		}
		return nil
	}
	db, err := Open(m.t.Context(), Options{
		DataDir: filepath.Join(m.dir, "data"), IndexDir: filepath.Join(m.dir, "index"),
		Epoch: 3, FS: hook, OverlayBytes: 128 << 10, Reserve: -1, Fetch: m.fetch, FetchTimeout: time.Second,
		Log: slog.New(slog.NewTextHandler(testLog{m.t}, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		m.crashed(nil, err)
		return
	}
	n, err := db.Namespace(m.t.Context(), "ns", m.opts)
	if err != nil {
		m.crashed(db, err)
		return
	}
	m.db, m.n = db, n
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if !bytes.Contains(p, []byte(errDead.Error())) {
		l.t.Logf("%s", p)
	}
	return len(p), nil
}

// crashed ends a machine whose power went while it started, and starts it again.
func (m *machine) crashed(db *DB, err error) {
	m.t.Helper()
	if !m.dead.Load() {
		m.t.Fatalf("open: %v", err)
	}
	if db != nil {
		_ = db.Close()
	}
	m.swap()
	m.start()
}

// swap takes what the loss of power has left, when the engine is closed: calls that began before it have ended then,
// and what they made durable may have been acknowledged.
func (m *machine) swap() {
	m.killAt.Store(0)
	if m.dead.Load() && m.lose {
		m.mem = m.mem.CrashClone(rand.New(rand.NewPCG(m.rng.Uint64(), 3)))
	}
}

func (m *machine) fetch(_ context.Context, _ string, seg SegmentID, off, n int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.saved[seg]; off+n <= int64(len(p)) {
		return p[off : off+n], nil
	}
	return nil, fmt.Errorf("no copy of d%d", seg)
}

func (m *machine) latest() int { return m.first + len(m.states) - 1 }

// commit writes a random batch, and lets the model follow, also when the outcome is not known.
func (m *machine) commit() {
	b := NewBatch()
	number := m.latest() + 1
	next := maps.Clone(m.states[len(m.states)-1])
	for range 1 + m.rng.IntN(6) {
		key := fmt.Sprintf("k%02d", m.rng.IntN(60))
		if m.rng.IntN(4) == 0 {
			b.Delete([]byte(key))
			delete(next, key)
			m.past.set(number, key, "", true)
			continue
		}
		size := m.rng.IntN(200)
		if m.rng.IntN(20) == 0 {
			size = m.rng.IntN(50000)
		}
		value := bytes.Repeat([]byte{byte(number)}, size)
		copy(value, fmt.Sprint(number, key))
		b.Set([]byte(key), value)
		next[key] = string(value)
		m.past.set(number, key, string(value), false)
	}
	b.Set([]byte(counterKey), strconv.AppendInt(nil, int64(number), 10))
	next[counterKey] = strconv.Itoa(number)
	_, err := m.n.Commit(m.t.Context(), b)
	if err != nil {
		m.mustBeDead("commit", err)
	}
	m.states = append(m.states, next)
	m.past.forget()
}

func (m *machine) mustBeDead(what string, err error) {
	m.t.Helper()
	if !m.dead.Load() {
		m.t.Fatalf("%s: %v", what, err)
	}
}

func (m *machine) sync() {
	upTo := m.latest()
	if err := m.n.Sync(m.t.Context()); err != nil {
		m.mustBeDead("sync", err)
		return
	}
	m.acked = max(m.acked, upTo)
}

// dump reads everything.
func (m *machine) dump(reverse bool) map[string]string {
	m.t.Helper()
	got, err := m.dumpAt(0, reverse)
	if err != nil {
		m.t.Fatal(err)
	}
	return got
}

func (m *machine) dumpAt(at Seq, reverse bool) (map[string]string, error) {
	it, err := m.n.NewIter(m.t.Context(), IterOptions{At: at, Reverse: reverse})
	if err != nil {
		return nil, err
	}
	got := make(map[string]string)
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("value of %s: %w", it.Key(), err), it.Close())
		}
		got[string(it.Key())] = string(v)
	}
	return got, errors.Join(it.Err(), it.Close())
}

// check compares the engine with the state after some batch, not older than what was synced.
func (m *machine) check(exact bool) {
	m.t.Helper()
	got := m.dump(m.rng.IntN(2) == 0)
	number, _ := strconv.Atoi(got[counterKey])
	if number < m.acked || number > m.latest() || exact && number != m.latest() {
		m.t.Fatalf("the state is after batch %d, synced were %d, committed %d", number, m.acked, m.latest())
	}
	want := m.states[max(0, number-m.first)]
	if !maps.Equal(got, want) {
		for k := range maps.Keys(want) {
			if got[k] != want[k] {
				m.t.Errorf("%s = %.30q, want %.30q", k, got[k], want[k])
			}
		}
		m.t.Fatalf("state after batch %d: %d keys, want %d", number, len(got), len(want))
	}
	keys, size, err := m.n.Count(m.t.Context())
	if err != nil || keys != int64(len(want)) {
		m.t.Fatalf("Count = %d %d %v, want %d", keys, size, err, len(want))
	}
	// What was committed behind it is gone for good.
	m.states = []map[string]string{want}
	m.first, m.acked = number, number // opening made it durable
	m.past.cut(number)
	m.checkPast()
}

// restart ends the engine in some way and opens it again.
func (m *machine) restart() {
	m.reopens++
	m.release(false)
	exact := false
	switch how := m.rng.IntN(4); {
	case m.dead.Load():
		_ = m.db.Close()
	case how == 0: // in order
		if err := m.db.Close(); err != nil && !m.dead.Load() {
			m.t.Fatalf("close: %v", err)
		}
		if !m.dead.Load() {
			m.acked, exact = m.latest(), true
		}
	default: // kill or loss of power right now
		m.lose = how > 1
		m.killAt.Store(1)
		_ = m.db.Close()
	}
	m.swap()
	m.checkOffline()
	for m.rng.IntN(3) == 0 { // again, while it starts
		m.lose = m.rng.IntN(3) > 0
		m.killAt.Store(int64(1 + m.rng.IntN(60)))
		m.start()
		m.killAt.Store(0)
		if !m.dead.Load() {
			m.dead.Store(true)
		}
		_ = m.db.Close()
		m.swap()
	}
	m.start()
	if m.rng.IntN(8) == 0 {
		m.dropIndex()
	}
	if m.rng.IntN(8) == 0 {
		m.swapIndex()
	}
	m.check(exact)
	m.killSoon()
}

// dropIndex removes the index while the machine is off.
func (m *machine) dropIndex() {
	if err := m.db.Close(); err != nil {
		m.t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(m.dir, "index", "ns", badgerDir)); err != nil {
		m.t.Fatal(err)
	}
	m.start()
}

// swapIndex keeps a copy of the index while the machine is off, or puts back the one of an earlier day.
func (m *machine) swapIndex() {
	if err := m.db.Close(); err != nil {
		m.t.Fatal(err)
	}
	index, kept := filepath.Join(m.dir, "index", "ns", badgerDir), filepath.Join(m.dir, "kept")
	_, err := os.Stat(kept)
	if err == nil {
		err = errors.Join(os.RemoveAll(index), os.Rename(kept, index))
	} else {
		err = os.CopyFS(kept, os.DirFS(index))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) { // nobody asked for one yet
		m.t.Fatal(err)
	}
	m.start()
}

func (m *machine) killSoon() {
	if m.rng.IntN(2) == 0 {
		m.lose = m.rng.IntN(3) > 0
		m.killAt.Store(int64(60 + m.rng.IntN(400)))
	}
}

// evict removes a sealed segment, of which a copy is kept.
func (m *machine) evict() {
	for _, s := range m.n.Segments() {
		if !s.Sealed || !s.Local || m.rng.IntN(3) > 0 {
			continue
		}
		f, err := m.mem.Open(filepath.Join(m.dir, "data", "ns", s.ID.DataName()), false)
		if err != nil {
			continue // evicted, and the crash brought back another state
		}
		p := make([]byte, s.Length)
		if _, err := f.ReadAt(p, 0); err != nil {
			m.t.Fatalf("d%d has not its length %d: %v", s.ID, s.Length, err)
		}
		m.mu.Lock()
		m.saved[s.ID] = p
		m.mu.Unlock()
		// It may have been compacted away just now.
		if err := m.n.Evict(m.t.Context(), s.ID); err != nil && !errors.Is(err, ErrSegment) {
			m.mustBeDead("evict", err)
		}
	}
}

func (m *machine) step() {
	if m.dead.Load() {
		m.restart()
		return
	}
	switch p := m.rng.IntN(100); {
	case p < 70:
		m.commit()
	case p < 88:
		m.sync()
	case p < 91:
		if _, err := m.n.Seal(m.t.Context()); err != nil && !errors.Is(err, ErrEmpty) {
			m.mustBeDead("seal", err)
		}
	case p < 94:
		m.evict()
	case p < 95:
		m.compact()
	case p < 96:
		switch m.rng.IntN(4) {
		case 0:
			m.retain()
		case 1:
			m.pin()
		case 2:
			m.unpin()
		default:
			m.checkPast()
		}
	case p < 97:
		if err := m.n.apply(m.t.Context()); err != nil {
			m.mustBeDead("apply", err)
		}
	case p < 98:
		switch m.rng.IntN(4) {
		case 0:
			m.restart()
		case 1:
			m.checkOnline()
		case 2:
			m.hold()
		default:
			m.release(true)
		}
	default:
		key := fmt.Sprintf("k%02d", m.rng.IntN(60))
		e, err := m.n.Get(m.t.Context(), []byte(key))
		want, ok := m.states[len(m.states)-1][key]
		if m.dead.Load() {
			return
		}
		if ok != (err == nil) || string(e.Value) != want {
			m.t.Fatalf("Get(%s) = %.20q %v, want %.20q", key, e.Value, err, want)
		}
	}
}

// modelTime is how long the model test runs: QSFS_MODEL_TIME, else a minute, or an hour in the long test.
func modelTime(t *testing.T) time.Duration {
	if s := os.Getenv("QSFS_MODEL_TIME"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if os.Getenv("QSFS_LONG") != "" {
		return time.Hour
	}
	return time.Minute
}

// TestRandom lets engines run, crash and lose power at random places, and
// compares with a model what they come back with.
func TestRandom(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(modelTime(t))
	base := uint64(time.Now().UnixNano())
	if s := os.Getenv("QSFS_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		base = v
	}
	reopens, checks := 0, 0
	for seed := base; time.Now().Before(end); seed++ {
		ok := t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			m := newMachine(t, seed)
			m.start()
			for range 1500 {
				if time.Now().After(end.Add(time.Second)) {
					break
				}
				m.step()
			}
			m.release(false)
			_ = m.db.Close()
			reopens += m.reopens
			checks += m.checks
		})
		if !ok {
			t.Fatalf("repeat with QSFS_SEED=%d", seed)
		}
	}
	if reopens < 20 || checks < 10 {
		t.Errorf("only %d reopenings and %d checks", reopens, checks)
	}
	t.Logf("%d reopenings, %d checks", reopens, checks)
}
