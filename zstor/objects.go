package zstor

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/receipt"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// keptManifests bounds the manifests of complete segments that are kept in memory.
const keptManifests = 4096

// object is a sealed segment that is at the floor and not complete: some shard is missing or not
// confirmed yet, or it is stored under the fallback.
type object struct {
	key record.SegmentKey

	// mu guards what follows; the manifest is replaced, never changed.
	mu      sync.Mutex
	man     *record.Manifest
	version record.Version       // of its record
	gen     *transfer.Generation // what this process knows to be missing; nil after a restart
	inCut   bool                 // an acknowledged cut names it
	written string               // marks of the receipt that this process wrote; empty: none
	stored  time.Time            // when the last shard was acknowledged
	tries   int
	next    time.Time // no repair before
	anew    time.Time // not encoded anew before
}

// manifest gives the present manifest.
func (o *object) manifest() *record.Manifest { o.mu.Lock(); defer o.mu.Unlock(); return o.man }

func full(m *record.Manifest) bool {
	return !m.Fallback && m.Count(record.Stored) == int(m.N)
}

func confirmed(m *record.Manifest) bool { return m.Count(record.Confirmed) == int(m.N) }

// objectTable holds the incomplete objects, and a cache of the manifests of complete ones.
type objectTable struct {
	// mu guards what follows.
	mu         sync.Mutex
	incomplete map[record.SegmentKey]*object
	cache      map[record.SegmentKey]*list.Element
	recent     *list.List // of cached, the newest in front
}

type cached struct {
	key record.SegmentKey
	man *record.Manifest
}

func (t *objectTable) init() {
	t.incomplete, t.cache, t.recent = map[record.SegmentKey]*object{}, map[record.SegmentKey]*list.Element{}, list.New()
}

// add takes in a segment that has reached the floor.
func (t *objectTable) add(k record.SegmentKey, m *record.Manifest, v record.Version, gen *transfer.Generation) *object {
	o := &object{key: k, man: m, version: v, gen: gen, stored: time.Now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.incomplete[k] = o
	return o
}

// all lists the incomplete objects in order.
func (t *objectTable) all() []*object {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*object, 0, len(t.incomplete))
	for _, o := range t.incomplete {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b *object) int { return a.key.Compare(b.key) })
	return out
}

// finish takes an object off the list of incomplete ones.
func (t *objectTable) finish(o *object) {
	t.mu.Lock()
	if t.incomplete[o.key] == o {
		delete(t.incomplete, o.key)
	}
	t.mu.Unlock()
	t.remember(o.key, o.manifest())
}

// remember caches a manifest.
func (t *objectTable) remember(k record.SegmentKey, m *record.Manifest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.cache[k]; e != nil {
		e.Value = cached{k, m}
		t.recent.MoveToFront(e)
		return
	}
	t.cache[k] = t.recent.PushFront(cached{k, m})
	if t.recent.Len() > keptManifests {
		oldest := t.recent.Remove(t.recent.Back()).(cached)
		delete(t.cache, oldest.key)
	}
}

func (t *objectTable) recall(k record.SegmentKey) *record.Manifest {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.incomplete[k]; o != nil {
		return o.manifest()
	}
	if e := t.cache[k]; e != nil {
		t.recent.MoveToFront(e)
		return e.Value.(cached).man
	}
	return nil
}

// waiting gives the incomplete object of a segment; nil when there is none.
func (t *objectTable) waiting(k record.SegmentKey) *object {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.incomplete[k]
}

// counts reports whether an acknowledged cut names what the table has of a segment. A cut that was not acknowledged
// may have put it into the ledger all the same.
func (t *objectTable) counts(k record.SegmentKey) bool {
	o := t.waiting(k)
	if o == nil {
		return true // a complete one was in a cut, and what was read from a cut's manifest is in it
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.inCut
}

// clear forgets everything, when another cut becomes the truth.
func (t *objectTable) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.incomplete)
	clear(t.cache)
	t.recent.Init()
}

// manifestOf finds the manifest of a dispersed segment: in memory, in its receipt, or on the
// metadata nodes. The error wraps client.ErrNotDispersed when there is no dispersed copy.
func (s *Store) manifestOf(ctx context.Context, k record.SegmentKey) (*record.Manifest, error) {
	if m := s.objects.recall(k); m != nil {
		return m, nil
	}
	ref, listed, known := s.lookup(k)
	r, err := receipt.Read(s.state, k.Namespace, k.Segment)
	if err == nil && (!known || listed && r.Manifest.Generation == ref.Generation) {
		s.objects.remember(k, &r.Manifest)
		return &r.Manifest, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("receipt cannot be used", "segment", segmentObject(k), "error", err)
	}
	if !listed {
		return nil, fmt.Errorf("%w: segment %s", client.ErrNotDispersed, segmentObject(k))
	}
	m, _, err := s.readManifest(ctx, segmentObject(k), ref.Generation)
	if err != nil {
		return nil, err
	}
	s.objects.remember(k, m)
	return m, nil
}

// lookup asks the ledger; known is false while the newest cut was not read yet.
func (s *Store) lookup(k record.SegmentKey) (ref record.SegmentRef, listed, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ledger == nil {
		return ref, false, false
	}
	ref, listed = s.ledger.Lookup(k)
	return ref, listed, true
}

// readManifest reads the manifest of one generation from the metadata nodes.
func (s *Store) readManifest(ctx context.Context, object string, gen record.Generation) (*record.Manifest, record.Version, error) {
	f, err := s.set.Newest(ctx, record.KindManifest, record.ManifestObject(object, gen))
	var few *quorum.QuorumError
	switch {
	case errors.As(err, &few) && few.Damaged():
		return nil, record.Version{}, fmt.Errorf("%w: manifest of %s: %w", client.ErrDamaged, object, err)
	case errors.Is(err, quorum.ErrNotFound):
		return nil, record.Version{}, fmt.Errorf("%w: the manifest of %s, generation %v, is not on record", client.ErrDamaged, object, gen)
	case errors.Is(err, quorum.ErrQuorum):
		return nil, record.Version{}, fmt.Errorf("%w: manifest of %s: %w", client.ErrUnavailable, object, err)
	case err != nil:
		return nil, record.Version{}, fmt.Errorf("manifest of %s: %w", object, err)
	}
	m, err := record.DecodeManifest(f.Body)
	if err != nil {
		return nil, record.Version{}, fmt.Errorf("%w: %w", client.ErrDamaged, err)
	}
	if m.Object != object || m.Generation != gen {
		return nil, record.Version{}, fmt.Errorf("%w: the manifest of %s names %s", client.ErrDamaged, object, m.Object)
	}
	return m, f.Version, nil
}

// writeReceipt proves on the front machine what an object has become, and lets it go once it is complete. Only what an
// acknowledged cut names gets a receipt. One without the mark "full" says that enough shards are confirmed for an
// emergency: without it nobody would ask for the consent that Evict gives then. Each kind is written once, and none of a
// generation whose place another one has taken.
func (s *Store) writeReceipt(o *object) error {
	s.receipts.Lock()
	defer s.receipts.Unlock()
	o.mu.Lock()
	m, inCut, written := o.man, o.inCut, o.written
	o.mu.Unlock()
	r := receipt.Receipt{Manifest: *m, Full: full(m), Confirmed: confirmed(m), Time: time.Now()}
	if !inCut || !r.Full && m.Count(record.Confirmed) < s.floor(int(m.K)) {
		return nil
	}
	if ref, listed, known := s.lookup(o.key); !known || !listed || ref.Generation != m.Generation {
		return nil
	}
	marks := "partial"
	if r.Full {
		marks = fmt.Sprintf("full, confirmed %v", r.Confirmed)
	}
	if marks == written {
		return nil
	}
	if err := receipt.Write(s.state, o.key.Namespace, o.key.Segment, r); err != nil {
		return err
	}
	o.mu.Lock()
	o.written = marks
	o.mu.Unlock()
	if r.Full && r.Confirmed {
		s.objects.finish(o)
	}
	return nil
}
