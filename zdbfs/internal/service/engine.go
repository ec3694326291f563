package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/cache"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

// engine is the opened database with its two namespaces.
type engine struct {
	db         *zdb.DB
	data, meta *zdb.Namespace
}

// openEngine opens zdbfs-data and then zdbfs-meta: the metadata log ends before the first batch whose
// data did not survive.
func openEngine(ctx context.Context, cfg *config.Config, st *state, fetch zdb.FetchFunc, log *slog.Logger) (*engine, error) {
	if st.owner.Epoch == 0 || st.owner.Epoch > math.MaxUint16 {
		return nil, exit.Errorf(exit.Damaged, "the owner note of %s names epoch %d, which cannot be; run: zdbfs recover", st.dir, st.owner.Epoch)
	}
	db, err := zdb.Open(ctx, zdb.Options{
		DataDir:      st.path(dataDir),
		IndexDir:     st.path(indexDir),
		Epoch:        uint16(st.owner.Epoch),
		Log:          log,
		Fetch:        fetch,
		FetchTimeout: cfg.QSFS.FetchTimeout + 5*time.Second, // the fetcher has the better message
	})
	if err != nil {
		return nil, engineError(st, err)
	}
	e := &engine{db: db}
	if err := e.openNamespaces(ctx, cfg, st, st.readAnnounced(log)); err != nil {
		return nil, errors.Join(engineError(st, err), db.Close())
	}
	return e, nil
}

func (e *engine) openNamespaces(ctx context.Context, cfg *config.Config, st *state, a *announced) error {
	var err error
	e.data, err = e.db.Namespace(ctx, client.NamespaceData, zdb.NamespaceOptions{
		SegmentSize:   int64(cfg.QSFS.SegmentSizeData),
		FlushInterval: cfg.QSFS.FlushInterval,
		KnownDurable:  knownDurable(st.cut, a, client.NamespaceData),
		MinSegment:    zdb.SegmentID(st.cut.MinSegment(client.NamespaceData)),
		Ballast:       zdb.DefaultBallast,
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", client.NamespaceData, err)
	}
	e.meta, err = e.db.Namespace(ctx, client.NamespaceMeta, zdb.NamespaceOptions{
		SegmentSize:   int64(cfg.QSFS.SegmentSizeMeta),
		Prewrite:      true,
		InlineMax:     metaInlineMax,
		FlushInterval: cfg.QSFS.FlushInterval,
		KnownDurable:  knownDurable(st.cut, a, client.NamespaceMeta),
		MinSegment:    zdb.SegmentID(st.cut.MinSegment(client.NamespaceMeta)),
		NeedsHead:     func() zdb.Seq { return e.data.Head().Seq },
		SyncNeeds:     e.data.SyncTo,
		Ballast:       zdb.DefaultBallast,
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", client.NamespaceMeta, err)
	}
	return nil
}

// metaInlineMax keeps what lookups and listings need in the index: inodes, entries, extents. The
// content of small files that were synced alone is longer and stays in the log.
const metaInlineMax = 512

// knownDurable is what a torn tail cannot reach below: what the newest cut holds, and what zstor was
// told to put into one.
func knownDurable(cut *client.CutNote, a *announced, ns string) map[zdb.SegmentID]int64 {
	out := make(map[zdb.SegmentID]int64)
	for id, n := range cut.Lengths(ns) {
		out[zdb.SegmentID(id)] = n
	}
	a.lengths(ns, out)
	return out
}

// engineError turns what stops an engine from opening into a line that says what to do.
func engineError(st *state, err error) error {
	var corrupt *zdb.CorruptionError
	switch {
	case errors.As(err, &corrupt):
		return exit.Errorf(exit.Damaged, "the local state is damaged (%w); nothing was changed; if the nodes hold a newer cut, run: zdbfs recover", err)
	case errors.Is(err, zdb.ErrLocked):
		return exit.Errorf(exit.InUse, "the state directory %s is in use by another process: %w", st.dir, err)
	case errors.Is(err, zdb.ErrEpoch):
		return exit.Errorf(exit.Stale, "the local log was written under a later epoch than the owner note says (%w); run: zdbfs recover", err)
	}
	return fmt.Errorf("open the local state %s: %w", st.dir, err)
}

func (e *engine) close() error { return e.db.Close() }

// heads gives what is durable: the metadata first, so that the data it needs is in the second.
func (e *engine) heads() (meta, data client.Head) {
	m := e.meta.Durable()
	d := e.data.Durable()
	return wireHead(m), wireHead(d)
}

func (e *engine) err() error { return errors.Join(e.meta.Err(), e.data.Err()) }

func wireHead(h zdb.Head) client.Head {
	return client.Head{
		Seq: uint64(h.Seq), Needs: uint64(h.Needs), Segment: uint32(h.Segment), Offset: h.Offset,
		Incarnation: h.Incarnation, Session: h.Session,
	}
}

// attachRequest introduces the engine, with what is durable in it, to zstor.
func (e *engine) attachRequest(epoch uint64, meta, data client.Head) client.AttachRequest {
	r := client.AttachRequest{Session: e.db.Session(), Epoch: epoch, Meta: meta, Data: data}
	for _, s := range e.meta.Sessions() {
		r.Sessions = append(r.Sessions, client.SessionStart{FirstSeq: uint64(s.First), Session: s.Session})
	}
	return r
}

// behind is how many bytes of a log lie above a head.
func behind(ns *zdb.Namespace, h client.Head) int64 {
	var n int64
	for _, s := range ns.Segments() {
		switch {
		case uint32(s.ID) > h.Segment:
			n += s.Length
		case uint32(s.ID) == h.Segment:
			n += max(s.Length-h.Offset, 0)
		}
	}
	return n
}

// stripeSource fetches from zstor's socket.
type stripeSource struct{ c *client.Client }

// Stripe implements cache.Source.
func (s stripeSource) Stripe(ctx context.Context, seg cache.Segment, off int64) (cache.Stripe, error) {
	st, err := s.c.Stripe(ctx, seg.Namespace, seg.ID, off)
	if err != nil {
		return cache.Stripe{}, err
	}
	return cache.Stripe{Offset: st.Offset, SegmentLength: st.SegmentLength, Data: st.Data}, nil
}

// Temporary implements cache.Source: a daemon that restarts and nodes that are away may come back.
func (s stripeSource) Temporary(err error) bool {
	var e *client.Error
	if errors.As(err, &e) && e.Temporary {
		return true
	}
	return errors.Is(err, client.ErrDown) || errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrBusy)
}

// Answering implements cache.Source.
func (s stripeSource) Answering(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := s.c.Status(ctx)
	if err != nil {
		return "nobody"
	}
	var b strings.Builder
	for _, n := range st.Nodes {
		if n.Up {
			b.WriteString(n.ID + " " + n.Role + "\n")
		}
	}
	return b.String()
}

// fetchFunc gives the engine its way to the fetcher.
func fetchFunc(f *cache.Fetcher) zdb.FetchFunc {
	return func(ctx context.Context, ns string, seg zdb.SegmentID, off, n int64) ([]byte, error) {
		return f.Fetch(ctx, cache.Segment{Namespace: ns, ID: uint32(seg)}, off, n)
	}
}
