package zstor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"qsfs/zdb/segfile"
	"qsfs/zstor/client"
	"qsfs/zstor/config"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/backend/memnode"
	"qsfs/zstor/internal/keys"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/record"
)

// TestMain lets more tests run side by side than there are processors: most of their time they wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) { // nobody chose
		_ = f.Value.Set("6")
	}
	os.Exit(m.Run())
}

// world is a set of nodes in memory and the machines that use them.
type world struct {
	t     *testing.T
	ring  *keys.Ring
	cfg   config.Config
	nodes []*memnode.Node
	metas []*memnode.Meta
	edit  func(*Options)
}

// newWorld makes six nodes in three groups, policy 4-of-6.
func newWorld(t *testing.T, change ...func(*config.Config)) *world {
	t.Helper()
	ring, err := keys.New(map[keys.Epoch]keys.Secret{1: {1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ring: ring}
	c := config.Default()
	c.MinimalShards, c.ExpectedShards, c.RedundantGroups = 4, 6, 1
	for g := range 3 {
		grp := config.Group{Name: string(rune('a' + g))}
		for n := range 2 {
			addr := fmt.Sprintf("127.0.0.1:%d", 9900+2*g+n)
			grp.Backends = append(grp.Backends, config.Backend{Address: addr, Namespace: "data", Group: grp.Name})
			c.Meta.Backends = append(c.Meta.Backends, config.Backend{Address: addr, Namespace: "meta", Group: grp.Name})
			w.nodes = append(w.nodes, memnode.New())
			w.metas = append(w.metas, memnode.NewMeta(addr+"/meta", grp.Name))
		}
		c.Groups = append(c.Groups, grp)
	}
	c.QSFS.FetchTimeout = 2 * time.Second
	c.QSFS.Slice = 4 << 10 // stripes of 16 KiB keep the tests quick
	c.QSFS.Hedge = false
	for _, f := range change {
		f(c)
	}
	slice := c.QSFS.Slice
	c.QSFS.Slice = 64 << 10
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	c.QSFS.Slice, c.QSFS.SyncInterval = slice, 20*time.Millisecond // below what people may set
	w.cfg = *c
	return w
}

func withFallback(c *config.Config) {
	c.QSFS.MinSecrecy = 3
	c.QSFS.Fallback = &config.Fallback{MinimalShards: 3, ExpectedShards: 4}
}

// group takes a whole group down or up, metadata nodes with it.
func (w *world) group(g int, down bool) {
	for _, i := range []int{2 * g, 2*g + 1} {
		w.nodes[i].SetDown(down)
		w.metas[i].SetDown(down)
	}
}

// machine is a front machine: a state directory with a store and a writer that plays zdbfs.
type machine struct {
	*world
	dir   string
	store *Store
	fs    *writer
}

func (w *world) machine() *machine {
	w.t.Helper()
	return &machine{world: w, dir: w.t.TempDir()}
}

// start opens the store.
func (m *machine) start() *machine {
	m.t.Helper()
	c := m.cfg
	c.QSFS.State = m.dir
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("QSFS_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(testWriter{m.t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	i, j := 0, 0
	o := Options{
		Config: &c, Ring: m.ring, Log: log, Host: "test",
		DataNode: func(config.Backend) (backend.Backend, error) { i++; return m.nodes[i-1], nil },
		MetaNode: func(config.Backend, string) (quorum.Node, error) { j++; return m.metas[j-1], nil },
		Rescan:   50 * time.Millisecond, Maintain: 50 * time.Millisecond, Grace: 200 * time.Millisecond, ProbeEvery: 50 * time.Millisecond,
	}
	if m.edit != nil {
		m.edit(&o)
	}
	s, err := Open(m.t.Context(), o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.store = s
	m.t.Cleanup(func() { m.kill() })
	return m
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// kill stops the store without letting it finish a round.
func (m *machine) kill() {
	if m.store == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.store.Close(ctx); err != nil {
		m.t.Errorf("close: %v", err)
	}
	m.store = nil
}

func (m *machine) format() *machine {
	m.t.Helper()
	if _, err := m.store.Format(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	return m
}

// mount opens the state directory as zdbfs would and attaches.
func (m *machine) mount() client.AttachReply {
	m.t.Helper()
	if m.fs == nil {
		m.fs = newWriter(m.t, m.dir)
	}
	o, err := client.ReadOwner(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	m.fs.open(o.Epoch)
	return m.attach()
}

func (m *machine) attach() client.AttachReply {
	m.t.Helper()
	r, err := m.store.Attach(m.t.Context(), m.fs.request())
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

func (m *machine) mustMount() *machine {
	m.t.Helper()
	if r := m.mount(); r.Verdict != client.Verified {
		m.t.Fatalf("verdict %s: %s", r.Verdict, r.Reason)
	}
	return m
}

// ship announces everything and waits for a cut that covers it.
func (m *machine) ship() error {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	return m.shipWithin(ctx)
}

func (m *machine) shipWithin(ctx context.Context) error {
	_, err := m.store.Heads(ctx, client.HeadsRequest{Session: m.fs.session, Meta: m.fs.head(nsMeta), Data: m.fs.head(nsData), Wait: true})
	return err
}

func (m *machine) mustShip() {
	m.t.Helper()
	if err := m.ship(); err != nil {
		m.t.Fatal(err)
	}
}

// writer plays zdbfs: logs with real headers and footers, and random content.
type writer struct {
	t       *testing.T
	dir     string
	epoch   uint64
	session uint64
	logs    map[string]*log
	rng     *mrand.Rand
}

type log struct {
	seg      uint32
	inc      segfile.Incarnation
	b        []byte
	seq      uint64
	sessions []client.SessionStart
	sealed   map[uint32][]byte // all that was ever sealed, for comparison
	first    uint64
}

func newWriter(t *testing.T, dir string) *writer {
	return &writer{t: t, dir: dir, logs: map[string]*log{}, rng: mrand.New(mrand.NewPCG(7, 9))}
}

func (w *writer) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// open begins a session: every log goes on in a new segment above all there are.
func (w *writer) open(epoch uint64) {
	w.t.Helper()
	w.epoch = epoch
	w.session = w.rng.Uint64() | 1
	cut, err := client.ReadCut(w.dir)
	w.must(err)
	for _, ns := range []string{nsData, nsMeta} {
		for _, d := range []string{"data", "index"} {
			w.must(os.MkdirAll(filepath.Join(w.dir, d, ns), 0o700))
		}
		l := w.logs[ns]
		if l == nil {
			l = &log{sealed: map[uint32][]byte{}, seq: epoch << 48}
			w.logs[ns] = l
			w.load(ns, l)
		} else if len(l.b) > 0 {
			w.seal(ns)
		}
		if min := cut.MinSegment(ns); l.seg < min {
			l.seg, l.b = min, nil
		}
		l.seq = max(l.seq, epoch<<48)
		l.sessions = append(l.sessions, client.SessionStart{FirstSeq: l.seq + 1, Session: w.session})
		if l.b == nil {
			w.create(ns, l)
		}
	}
}

// load takes up what a recovery left in the directory.
func (w *writer) load(ns string, l *log) {
	entries, err := os.ReadDir(filepath.Join(w.dir, "data", ns))
	w.must(err)
	top := -1
	for _, e := range entries {
		if kind, id, ok := segfile.ParseName(e.Name()); ok && kind == 'd' {
			top = max(top, int(id))
		}
	}
	idx, err := os.ReadDir(filepath.Join(w.dir, "index", ns))
	w.must(err)
	for _, e := range idx {
		if kind, id, ok := segfile.ParseName(e.Name()); ok && kind == 'i' {
			top = max(top, int(id))
			f, err := segfile.ReadFooter(filepath.Join(w.dir, "index", ns, e.Name()))
			w.must(err)
			l.seq = max(l.seq, uint64(f.LastSeq))
			l.sessions = append(l.sessions, client.SessionStart{FirstSeq: uint64(f.FirstSeq), Session: f.Session})
		}
	}
	if top < 0 {
		return
	}
	// What was recovered as the tail of a sealed segment is sealed when the log opens.
	for seg := range uint32(top) {
		b, err := os.ReadFile(w.path("data", ns, 'd', seg))
		if _, ierr := os.Stat(w.path("index", ns, 'i', seg)); err != nil || ierr == nil {
			continue
		}
		h, err := segfile.ParseHeader(b)
		w.must(err)
		old := &log{seg: seg, inc: h.Incarnation, b: b, first: uint64(h.NextSeq), seq: uint64(h.NextSeq) - 1 + uint64((len(b)-segfile.HeaderSize)/entrySize)}
		w.sealFile(ns, old, h.Session)
		l.sealed[seg] = b
		l.seq = max(l.seq, old.seq)
		l.sessions = append(l.sessions, client.SessionStart{FirstSeq: old.first, Session: h.Session})
	}
	l.seg = uint32(top)
	b, err := os.ReadFile(w.path("data", ns, 'd', l.seg))
	if errors.Is(err, fs.ErrNotExist) {
		l.seg++
		return
	}
	w.must(err)
	if _, err := os.Stat(w.path("index", ns, 'i', l.seg)); err == nil {
		l.seg++
		return
	}
	h, err := segfile.ParseHeader(b)
	w.must(err)
	l.inc, l.b = h.Incarnation, b
	l.seq = max(l.seq, uint64(h.NextSeq)-1+uint64((len(b)-segfile.HeaderSize)/entrySize))
	l.sessions = append(l.sessions, client.SessionStart{FirstSeq: uint64(h.NextSeq), Session: h.Session})
	l.first = uint64(h.NextSeq)
	w.seal(ns)
}

func (w *writer) path(dir, ns string, kind byte, seg uint32) string {
	return filepath.Join(w.dir, dir, ns, fmt.Sprintf("%c%d", kind, seg))
}

// create begins a segment.
func (w *writer) create(ns string, l *log) {
	w.t.Helper()
	_, _ = rand.Read(l.inc[:])
	l.first = l.seq + 1
	l.b = segfile.AppendHeader(nil, segfile.Header{
		Namespace: ns, ID: segfile.ID(l.seg), Incarnation: l.inc, Session: w.session, Epoch: uint16(w.epoch),
		Created: time.Now(), NextSeq: segfile.Seq(l.seq + 1), Prev: segfile.NoID,
	})
	w.must(os.WriteFile(w.path("data", ns, 'd', l.seg), l.b, 0o600))
}

// entrySize is the length of what one sequence number stands for here.
const entrySize = 1000

// write appends entries to a log.
func (w *writer) write(ns string, entries int) {
	w.t.Helper()
	l := w.logs[ns]
	b := make([]byte, entries*entrySize)
	_, _ = rand.Read(b)
	l.b = append(l.b, b...)
	l.seq += uint64(entries)
	f, err := os.OpenFile(w.path("data", ns, 'd', l.seg), os.O_WRONLY|os.O_APPEND, 0o600)
	w.must(err)
	_, err = f.Write(b)
	w.must(errors.Join(err, f.Close()))
}

// seal ends the active segment and begins the next one.
func (w *writer) seal(ns string) {
	w.t.Helper()
	l := w.logs[ns]
	w.sealFile(ns, l, w.session)
	l.sealed[l.seg] = l.b
	l.seg++
	w.create(ns, l)
}

// sealFile writes i<N>.
func (w *writer) sealFile(ns string, l *log, session uint64) {
	w.t.Helper()
	sum := segfile.NewSummer(segfile.FooterVersion)
	_, _ = sum.Write(l.b)
	pieces, whole := sum.Sums()
	i := segfile.AppendIndexHeader(nil, segfile.ID(l.seg), l.inc)
	records := make([]byte, 3000)
	_, _ = rand.Read(records)
	i = append(i, records...)
	i = segfile.AppendFooter(i, segfile.Footer{
		Namespace: ns, ID: segfile.ID(l.seg), Incarnation: l.inc, Session: session, DataLength: int64(len(l.b)),
		FirstSeq: segfile.Seq(l.first), LastSeq: segfile.Seq(l.seq), NextSeq: segfile.Seq(l.seq + 1), Records: 1, RecordBytes: int64(len(records)),
		PieceSums: pieces, Sum: whole, IndexSum: blake3.Sum256(i),
	})
	tmp := w.path("index", ns, 'x', l.seg)
	w.must(os.WriteFile(tmp, i, 0o600))
	w.must(os.Rename(tmp, w.path("index", ns, 'i', l.seg)))
}

func (w *writer) head(ns string) client.Head {
	l := w.logs[ns]
	return client.Head{Seq: l.seq, Segment: l.seg, Offset: int64(len(l.b)), Incarnation: client.Incarnation(l.inc), Session: w.session}
}

func (w *writer) request() client.AttachRequest {
	meta := w.logs[nsMeta]
	return client.AttachRequest{Session: w.session, Epoch: w.epoch, Sessions: meta.sessions, Meta: w.head(nsMeta), Data: w.head(nsData)}
}

// sameAs checks that what was recovered into dir is what the writer had when it took the snapshot.
type snapshot map[string][]byte

func (w *writer) snapshot() snapshot {
	out := snapshot{}
	for ns, l := range w.logs {
		for seg, b := range l.sealed {
			out[fmt.Sprintf("%s/%d", ns, seg)] = b
		}
		out[fmt.Sprintf("%s/%d", ns, l.seg)] = bytes.Clone(l.b)
	}
	return out
}

// wantRecovered checks a recovered machine against a snapshot: metadata and tails local, file data
// readable through the store.
func (m *machine) wantRecovered(want snapshot) {
	m.t.Helper()
	for name, b := range want {
		var ns string
		var seg uint32
		if k, ok := segmentOf(name); ok {
			ns, seg = k.Namespace, k.Segment
		}
		got, err := os.ReadFile(filepath.Join(m.dir, "data", ns, fmt.Sprintf("d%d", seg)))
		if errors.Is(err, fs.ErrNotExist) && ns == nsData {
			got = m.fetchAll(record.SegmentKey{Namespace: ns, Segment: seg}, len(b))
		} else if err != nil {
			m.t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(got, b) {
			m.t.Errorf("%s: recovered %d bytes, want %d, and they differ", name, len(got), len(b))
		}
	}
}

// fetchAll reads a whole segment stripe by stripe.
func (m *machine) fetchAll(k record.SegmentKey, length int) []byte {
	m.t.Helper()
	var out []byte
	for len(out) < length {
		st, release, err := m.store.Stripe(m.t.Context(), k.Namespace, k.Segment, int64(len(out)))
		if err != nil {
			m.t.Errorf("fetch %s at %d: %v", segmentObject(k), len(out), err)
			return out
		}
		if st.Offset != int64(len(out)) || st.SegmentLength != int64(length) {
			m.t.Errorf("fetch %s: stripe at %d of %d, want %d of %d", segmentObject(k), st.Offset, st.SegmentLength, len(out), length)
		}
		out = append(out, st.Data...)
		release()
	}
	return out
}

// recover makes a new machine from the nodes.
func (w *world) recover() *machine {
	w.t.Helper()
	m := w.machine().start()
	if err := m.store.Recover(w.t.Context(), func(client.Progress) {}); err != nil {
		w.t.Fatal(err)
	}
	return m
}

// eventually waits for a condition.
func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !f() {
		if time.Now().After(deadline) {
			w.t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
