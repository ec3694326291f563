package zdb

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/wal"
	"qsfs/zdb/segfile"
)

// checkPassKeys bounds the keys that one pass of the comparison holds in memory, about 150 bytes each. A pass takes those of
// one share of all hashes.
var checkPassKeys int64 = 1 << 20

// indexState is what the index says of itself at one moment.
type indexState struct {
	applied     index.Position
	live        map[SegmentID]int64
	keys, bytes int64
}

func stateOf(x *index.Index) indexState {
	s := indexState{live: x.Live()}
	s.applied, _ = x.Applied()
	s.keys, s.bytes = x.Totals()
	return s
}

// checkIndex compares the index with the log, and rebuilds it with Repair where they differ.
func (n *Namespace) checkIndex(ctx context.Context, c *checker) error {
	before, repair := len(c.r.Findings), c.mayRebuild()
	if err := n.compareIndex(ctx, c); err != nil || c.r.IndexSkipped != "" {
		return err
	}
	if len(c.r.Findings) == before || !repair {
		return nil
	}
	if err := n.RebuildIndex(ctx); err != nil {
		return err
	}
	again := newChecker(CheckOptions{})
	if err := n.compareIndex(ctx, again); err != nil {
		return err
	}
	if again.r.Clean() && again.r.IndexSkipped == "" {
		c.repaired(before, "the index was rebuilt from the log")
	}
	return nil
}

// compareIndex compares what is applied now.
func (n *Namespace) compareIndex(ctx context.Context, c *checker) error {
	if err := n.apply(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.r.IndexSkipped = noSpace(err).Error()
		return nil
	}
	hold := n.Hold() // compaction leaves what the snapshot refers to
	defer hold.Release()
	x, snap, state, err := n.indexAsItIs(ctx)
	if errors.Is(err, ErrNoSpace) {
		c.r.IndexSkipped = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	err = c.compare(ctx, n.log, x, snap, state)
	if errors.Is(err, index.ErrBroken) {
		c.found(Finding{File: x.Dir(), What: err.Error()})
		err = nil
	}
	return errors.Join(err, snap.Close(), x.Release())
}

// indexAsItIs gives the index, a snapshot and what it said of itself at that moment.
func (n *Namespace) indexAsItIs(ctx context.Context) (*index.Index, *index.Snapshot, indexState, error) {
	n.applyMu.Lock()
	defer n.applyMu.Unlock()
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return nil, nil, indexState{}, err
	}
	return x, x.Snapshot(), stateOf(x), nil
}

// newest is what the log has of a key.
type newest struct {
	seq     Seq
	loc     Location
	deleted bool
	indexed bool // the index has it
}

// comparison of an index with its log.
type comparison struct {
	*checker
	l      *wal.Log
	x      *index.Index
	snap   *index.Snapshot
	state  indexState
	seed   maphash.Seed
	passes uint64
	// holes are segments of which some entries are not known.
	holes map[SegmentID]bool
	sum   indexState // counted
}

func (c *checker) compare(ctx context.Context, l *wal.Log, x *index.Index, snap *index.Snapshot, state indexState) error {
	if err := x.Verify(); err != nil {
		return err
	}
	d := comparison{
		checker: c, l: l, x: x, snap: snap, state: state, seed: maphash.MakeSeed(),
		passes: uint64(l.EntryCount()/checkPassKeys + 1), holes: make(map[SegmentID]bool),
		sum: indexState{live: make(map[SegmentID]int64)},
	}
	for p := range d.passes {
		c.progress("index", state.applied.Segment, int64(p), int64(d.passes))
		if err := d.pass(ctx, p); err != nil {
			return err
		}
	}
	c.progress("index", state.applied.Segment, int64(d.passes), int64(d.passes))
	c.r.Keys = d.sum.keys
	d.counters()
	return nil
}

// pass compares the keys of one share in both directions.
func (d *comparison) pass(ctx context.Context, p uint64) error {
	known := make(map[string]newest)
	kept, err := d.versions(p)
	if err != nil {
		return err
	}
	to := wal.Pos{Segment: d.state.applied.Segment, Offset: d.state.applied.Offset}
	err = d.l.Walk(ctx, to, true, func(s *wal.Step) error {
		if s.Key == nil {
			d.holes[s.Location.Segment] = true
			return nil
		}
		if d.share(s.Key, s.Seq, p) {
			if v, ok := kept[versionID{string(s.Key), s.Seq}]; ok {
				v.logged = s.Location
			}
		}
		if !d.mine(s.Key, p) {
			return nil
		}
		if old, ok := known[string(s.Key)]; !ok || s.Seq >= old.seq {
			known[string(s.Key)] = newest{seq: s.Seq, loc: s.Location, deleted: s.Delete}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := d.fromIndex(ctx, p, known); err != nil {
		return err
	}
	for id, v := range kept {
		if v.loc != v.logged && !d.holes[v.loc.Segment] {
			d.differ([]byte(id.key), fmt.Sprintf("the index keeps %v at %v, the log has it at %v", id.seq, v.loc, v.logged))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if k := known[key]; !k.indexed && !k.deleted {
			d.differ([]byte(key), fmt.Sprintf("the index does not have it; the log has %v at %v", k.seq, k.loc))
		}
	}
	return nil
}

// versionID names a superseded version.
type versionID struct {
	key string
	seq Seq
}

// keptVersion is where the index has a superseded version, and where the log has it.
type keptVersion struct{ loc, logged Location }

// versions takes one share of the superseded versions that the index keeps.
func (d *comparison) versions(p uint64) (map[versionID]*keptVersion, error) {
	kept := make(map[versionID]*keptVersion)
	err := d.snap.Versions(func(key []byte, v index.Version) error {
		if d.share(key, v.Seq, p) {
			kept[versionID{string(key), v.Seq}] = &keptVersion{loc: v.Location, logged: Location{Segment: segfile.NoID}}
			d.sum.live[v.Location.Segment] += v.Cost(key)
		}
		return nil
	})
	return kept, err
}

func (d *comparison) mine(key []byte, p uint64) bool {
	return d.passes == 1 || maphash.Bytes(d.seed, key)%d.passes == p
}

// share is mine for superseded versions: of one key there may be as many as of all the others.
func (d *comparison) share(key []byte, seq Seq, p uint64) bool {
	return d.passes == 1 || (maphash.Bytes(d.seed, key)+uint64(seq))%d.passes == p
}

// fromIndex takes every entry of the index to the log.
func (d *comparison) fromIndex(ctx context.Context, p uint64, known map[string]newest) error {
	it := d.snap.NewIter(false)
	defer it.Close()
	for it.Seek(nil); it.Valid(); it.Next() {
		key := it.Key()
		if !d.mine(key, p) {
			continue
		}
		e, err := it.Entry()
		if err != nil {
			return fmt.Errorf("%w: value of key %q", err, key)
		}
		size := int64(len(key)) + int64(e.Location.Length)
		d.sum.live[e.Location.Segment] += e.Cost(key)
		d.sum.bytes += size
		if d.sum.keys++; d.sum.keys%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		k, ok := known[string(key)]
		switch {
		case ok && !k.deleted && k.seq == e.Seq && k.loc == e.Location:
		case d.holes[e.Location.Segment] && (!ok || e.Seq > k.seq):
			// It may stand in what cannot be read.
		case !ok:
			d.differ(key, fmt.Sprintf("the index has %v at %v, the log has no such entry", e.Seq, e.Location))
		case k.deleted:
			d.differ(key, fmt.Sprintf("the index has %v at %v, the log deletes it with %v", e.Seq, e.Location, k.seq))
		default:
			d.differ(key, fmt.Sprintf("the index has %v at %v, the log has %v at %v", e.Seq, e.Location, k.seq, k.loc))
		}
		if ok {
			k.indexed = true
			known[string(key)] = k
		}
	}
	return nil
}

func (d *comparison) differ(key []byte, what string) {
	d.found(Finding{File: d.x.Dir(), What: what, Keys: [][]byte{slices.Clone(key)}, Entries: 1})
}

// counters compares what the index counts with what it holds.
func (d *comparison) counters() {
	if d.sum.keys != d.state.keys || d.sum.bytes != d.state.bytes {
		d.found(Finding{File: d.x.Dir(), What: fmt.Sprintf("it counts %d keys of %d bytes and holds %d of %d bytes",
			d.state.keys, d.state.bytes, d.sum.keys, d.sum.bytes)})
	}
	all := maps.Clone(d.sum.live)
	for id := range d.state.live {
		all[id] += 0
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if got, want := d.state.live[id], d.sum.live[id]; got != want {
			d.found(Finding{File: d.x.Dir(), What: fmt.Sprintf("it counts %d live bytes in d%d and refers to %d", got, id, want)})
		}
	}
}
