package zstor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"qsfs/zdb/crashpoint"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// intentBook knows every generation that may lie on the nodes and is not rooted by a manifest and a
// cut: what is being sent, what tails consist of, and what waits to be deleted.
//
// It is kept on the metadata nodes as one living record of this process: each version lists all
// entries that are still open, so the newest version alone says what to clean up after a crash. An
// entry is on record, on W nodes, before the first shard of its generation is offered; it leaves the
// list once its generation is rooted, or deleted from every node that was offered some of it.
//
// What does not fit into one record is parked: generations that nobody builds on move to a further
// record, which is written once and tombstoned when none of its entries is left.
type intentBook struct {
	set *quorum.Set
	log *slog.Logger

	gate lock // held while a version is written: versions come in order

	// mu guards what follows. Nothing waits for a node while it holds it.
	mu      sync.Mutex
	round   record.RoundID
	entries map[record.Generation]*intentEntry
	stale   bool                      // the record lists entries that are over
	old     map[string]record.Version // intents of earlier processes, to be tombstoned
	forget  map[string]time.Time      // tombstoned, to be forgotten
	parked  map[string]record.Version // further records of this process
	parks   int                       // how many were written
	pinned  map[record.Generation]int // shards of it are being made again: it is not deleted meanwhile
}

type intentEntry struct {
	record.IntentEntry
	gen   *transfer.Generation // nil for what an earlier process left, and what may be anywhere
	inUse bool                 // this process still builds on it
	dead  bool                 // a cut without it was acknowledged: delete
	since time.Time
	// manifest: its manifest is on record, and goes with it.
	manifest bool
	adopted  bool      // of an earlier process: its manifest may be on record
	outlived bool      // of a file: its manifest can never count; for who deletes alone
	wide     bool      // it may lie on nodes that gen offered nothing
	kept     *keptFile // of a file that is on record and not complete
	parked   string    // the further record that lists it; empty: the living one does
}

func newIntentBook(set *quorum.Set, log *slog.Logger) *intentBook {
	b := &intentBook{set: set, log: log, gate: newLock(), entries: map[record.Generation]*intentEntry{}, old: map[string]record.Version{}, forget: map[string]time.Time{}, parked: map[string]record.Version{}, pinned: map[record.Generation]int{}}
	_, _ = rand.Read(b.round[:]) // never fails: the runtime ends the process instead
	return b
}

// declare puts generations on record. When it returns nil, W metadata nodes know them up to the
// highest stripe given, and shards may be offered.
func (b *intentBook) declare(ctx context.Context, maxStripe uint32, gens ...*transfer.Generation) error {
	if err := b.gate.lockCtx(ctx); err != nil {
		return fmt.Errorf("write intent: %w", err)
	}
	defer b.gate.unlock()
	b.mu.Lock()
	for _, g := range gens {
		e := b.entries[g.ID()]
		if e == nil {
			e = &intentEntry{gen: g, since: time.Now()}
			b.entries[g.ID()] = e
		}
		e.inUse, e.parked = true, ""
		e.IntentEntry = g.IntentEntry(max(maxStripe, e.MaxStripe))
	}
	b.mu.Unlock()
	if err := b.write(ctx); err != nil {
		return fmt.Errorf("write intent: %w", err)
	}
	crashpoint.Hit("zstor.upload.intent")
	return nil
}

// write puts a version on record. The caller holds gate.
func (b *intentBook) write(ctx context.Context) (err error) {
	body, err := b.park(ctx)
	if err == nil {
		_, err = b.set.Put(ctx, record.KindIntent, b.round.String(), body)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.stale = true // as far as anybody knows
		return err
	}
	for object, v := range b.parked {
		if !b.lists(object) {
			b.old[object] = v
			delete(b.parked, object)
		}
	}
	return nil
}

func (b *intentBook) encode(w record.Writer, entries ...*intentEntry) ([]byte, error) {
	in := record.Intent{Round: b.round, Writer: w, Time: time.Now().UTC()}
	for _, e := range entries {
		in.Entries = append(in.Entries, e.IntentEntry)
	}
	return in.Encode()
}

// lists reports whether a further record has entries that are not over.
func (b *intentBook) lists(object string) bool {
	for _, e := range b.entries {
		if e.parked == object {
			return true
		}
	}
	return false
}

// park gives the body of the living record, the oldest entries first. If they do not fit, the oldest of
// those that nobody builds on are written to further records before, until half of it is free: not
// each declaration shall write two records.
func (b *intentBook) park(ctx context.Context) ([]byte, error) {
	w := b.set.Writer()
	for parking := false; ; parking = true {
		body, out, err := b.body(w, parking)
		if err != nil || out == nil {
			return body, err
		}
		object := fmt.Sprintf("%v.%d", b.round, b.parks+1) // the same again if this fails
		v, err := b.set.Put(ctx, record.KindIntent, object, body)
		if err != nil {
			return nil, err
		}
		b.mu.Lock()
		b.parks++
		b.parked[object] = v
		for _, e := range out {
			e.parked = object
		}
		b.log.Warn("many deletions wait for nodes that refuse them", "entries", len(b.entries))
		b.mu.Unlock()
	}
}

// body gives the body of the living record, or, when the entries are too many, the body of a further
// record and the entries that move to it.
func (b *intentBook) body(w record.Writer, parking bool) (body []byte, out []*intentEntry, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var open []*intentEntry
	sizes := map[*intentEntry]int{}
	total := 0
	for _, e := range b.entries {
		if e.parked != "" {
			continue
		}
		one, err := b.encode(w, e) // with the frame of an intent: a little more than it takes in a list
		if err != nil {
			return nil, nil, err
		}
		open = append(open, e)
		sizes[e] = len(one)
		total += len(one)
	}
	slices.SortFunc(open, func(a, b *intentEntry) int { return a.since.Compare(b.since) })
	if total > record.MaxBody || parking && total > record.MaxBody/2 {
		fill := 0
		for _, e := range open {
			if e.inUse && e.kept == nil || total-fill <= record.MaxBody/2 {
				continue
			}
			if fill+sizes[e] > record.MaxBody {
				break
			}
			fill += sizes[e]
			out = append(out, e)
		}
		if len(out) > 0 {
			body, err = b.encode(w, out...)
			return body, out, err
		}
		if total > record.MaxBody {
			return nil, nil, errors.New("too many generations at once")
		}
	}
	b.stale = false // what ends from here on is listed all the same
	body, err = b.encode(w, open...)
	return body, nil, err
}

// release says that this process does not build on a generation any more. It dies with the next cut
// that does not name it.
func (b *intentBook) release(g *transfer.Generation) {
	if g == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[g.ID()]; e != nil {
		e.inUse = false
	}
}

// hasManifest says that the manifest of a generation may be on record from now on: if the generation dies, it goes too.
func (b *intentBook) hasManifest(g *transfer.Generation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[g.ID()]; e != nil {
		e.manifest = true
	}
}

// releaseAll says that this process builds on no segment any more: another cut became the truth. What is under way ends.
// Files that are being stored have nothing to do with cuts.
func (b *intentBook) releaseAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if strings.HasPrefix(e.Object, filePrefix) {
			continue
		}
		e.inUse = false
		if e.gen != nil {
			e.gen.End(errOrphan)
		}
	}
}

// anywhere says that shards of a generation may be made again on nodes that were offered none when it was written.
func (b *intentBook) anywhere(g *transfer.Generation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[g.ID()]; e != nil {
		e.gen = nil
	}
}

// settled takes out what is rooted: its manifest is on record and a cut names it.
func (b *intentBook) settled(id record.Generation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.entries[id]; ok {
		delete(b.entries, id)
		b.stale = true
	}
}

// condemn puts a rooted generation back on the list: something else takes its place.
func (b *intentBook) condemn(m *record.Manifest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.condemnLocked(m)
}

func (b *intentBook) condemnLocked(m *record.Manifest) {
	if b.entries[m.Generation] != nil {
		return
	}
	last := max(m.DataStripes+m.IndexStripes, 1) - 1
	b.entries[m.Generation] = &intentEntry{since: time.Now(), manifest: true, IntentEntry: record.IntentEntry{
		Object: m.Object, Generation: m.Generation, K: m.K, N: m.N, KeyEpoch: m.KeyEpoch, MaxStripe: last, Nodes: slices.Clone(m.Nodes),
	}}
	b.stale = true
}

// replacing puts the generation of a file on record that another one is about to replace. It stays in use until buryFile
// says that it was replaced; a process that finds it on record looks which one counts.
func (b *intentBook) replacing(ctx context.Context, m *record.Manifest) error {
	if err := b.gate.lockCtx(ctx); err != nil {
		return err
	}
	defer b.gate.unlock()
	b.mu.Lock()
	b.condemnLocked(m)
	e := b.entries[m.Generation]
	e.inUse, e.manifest = true, false // the manifest of a file is found by its object
	b.mu.Unlock()
	err := b.write(ctx)
	if err != nil {
		b.settled(m.Generation) // nothing takes its place
	}
	return err
}

// buryFile condemns a generation and marks it dead at once: what took its place is on record already.
func (b *intentBook) buryFile(m *record.Manifest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.condemnLocked(m)
	e := b.entries[m.Generation]
	e.inUse, e.dead, e.manifest = false, true, false // the manifest of a file is found by its object, and was replaced
}

// bury marks what neither the acknowledged cut names nor this process builds on.
func (b *intentBook) bury(live func(record.IntentEntry) bool) (dead int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if !e.inUse && !live(e.IntentEntry) {
			e.dead = true
		}
		if e.dead {
			dead++
		}
	}
	return dead
}

// pin keeps a generation from being deleted, if that has not begun: whoever pins looks afterwards whether it still counts.
// The caller calls unpin.
func (b *intentBook) pin(id record.Generation) (unpin func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pinned[id]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.pinned[id]--; b.pinned[id] == 0 {
			delete(b.pinned, id)
		}
	}
}

// graves lists what is to be deleted, the oldest first. What is still being sent waits: it could arrive after the deletion.
func (b *intentBook) graves() []*intentEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*intentEntry
	for _, e := range b.entries {
		if e.dead && b.pinned[e.Generation] == 0 && (e.gen == nil || !e.gen.Sending()) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *intentEntry) int { return a.since.Compare(b.since) })
	return out
}

// deleted takes holdings off a dead entry, and the entry off the book after its last one.
func (b *intentBook) deleted(id record.Generation, nodes []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil {
		return
	}
	e.Nodes = slices.DeleteFunc(slices.Clone(e.Nodes), func(h record.Holding) bool { return slices.Contains(nodes, h.Node) })
	b.stale = true
	if len(e.Nodes) == 0 {
		delete(b.entries, id)
	}
}

// adopt takes over what earlier processes had on record. Nothing of it is built on: their
// incomplete generations have ended.
func (b *intentBook) adopt(ctx context.Context) error {
	// No version is written meanwhile: one without these entries, followed by the tombstones of the old records, would
	// forget them.
	if err := b.gate.lockCtx(ctx); err != nil {
		return err
	}
	defer b.gate.unlock()
	l, err := b.set.List(ctx, record.KindIntent)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range l.Records {
		if strings.HasPrefix(r.Object, b.round.String()) {
			continue
		}
		in, err := record.DecodeIntent(r.Body)
		if err != nil {
			b.log.Error("an intent cannot be read: what it names stays until a sweep", "error", err)
			continue
		}
		for _, e := range in.Entries {
			if b.entries[e.Generation] == nil {
				k, ok := segmentOf(e.Object)
				whole := ok && e.Object == segmentObject(k) // pieces, bases and files have no manifest of this name
				b.entries[e.Generation] = &intentEntry{IntentEntry: e, since: in.Time, manifest: whole, adopted: true}
			}
		}
		b.old[r.Object] = r.Version
	}
	b.stale = b.stale || len(b.old) > 0
	return nil
}

// tidy writes a fresh version when the record lists what is over, then tombstones the intents of
// earlier processes, whose entries it holds now, and forgets old tombstones.
func (b *intentBook) tidy(ctx context.Context) error {
	if err := b.rewrite(ctx); err != nil {
		return err
	}
	_, err := b.set.Prune(ctx, record.KindIntent, b.round.String(), 2)
	return err
}

func (b *intentBook) rewrite(ctx context.Context) error {
	if err := b.gate.lockCtx(ctx); err != nil {
		return err
	}
	defer b.gate.unlock()
	b.mu.Lock()
	stale := b.stale
	b.mu.Unlock()
	if stale {
		if err := b.write(ctx); err != nil {
			return err
		}
	}
	b.mu.Lock()
	old := maps.Clone(b.old)
	b.mu.Unlock()
	for object, v := range old {
		if _, err := b.set.Tombstone(ctx, record.KindIntent, object, v); err != nil {
			return err
		}
		b.mu.Lock()
		delete(b.old, object)
		b.forget[object] = time.Now()
		b.mu.Unlock()
	}
	return nil
}

// forgetOld ends tombstones that all nodes have had long enough.
func (b *intentBook) forgetOld(ctx context.Context) error {
	b.mu.Lock()
	var objects []string
	for o := range b.forget {
		objects = append(objects, o)
	}
	b.mu.Unlock()
	for _, o := range objects {
		gone, err := b.set.Forget(ctx, record.KindIntent, o)
		if err != nil {
			return err
		}
		if gone {
			b.mu.Lock()
			delete(b.forget, o)
			b.mu.Unlock()
		}
	}
	return nil
}

// ofFiles lists the entries of files that nobody builds on.
func (b *intentBook) ofFiles() []record.IntentEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []record.IntentEntry
	for _, e := range b.entries {
		if strings.HasPrefix(e.Object, filePrefix) && !e.inUse && !e.dead {
			out = append(out, e.IntentEntry)
		}
	}
	return out
}

// highest gives the highest segment number of a namespace that an entry names.
func (b *intentBook) highest(ns string) (uint32, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var high uint32
	found := false
	for _, e := range b.entries {
		if k, ok := segmentOf(e.Object); ok && k.Namespace == ns {
			high, found = max(high, k.Segment), true
		}
	}
	return high, found
}

// count gives the number of entries that wait to be deleted.
func (b *intentBook) count() (dead int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.dead {
			dead++
		}
	}
	return dead
}
