package zstor

import (
	"context"
	"errors"
	"slices"
	"time"

	"qsfs/zstor/internal/record"
)

// A file that was stored while a node was away lacks shards there. It is completed when the node is back, as segments
// are. What is still to be done stays in the intents: an entry of a file leaves them only when every shard is confirmed,
// so that the next process, on this machine or another, goes on with it.

// keptFile is what is remembered of a file that is on record and not complete.
type keptFile struct {
	lacks  []string  // nodes that do not have all, or have not confirmed it
	short  bool      // of them, some do not have all
	stored time.Time // when something was acknowledged last
	next   time.Time // no try before
	tries  int
}

// rooted is called for a file's generation whose manifest counts from now on.
func (s *Store) rooted(m *record.Manifest) {
	k := &keptFile{stored: time.Now()}
	for _, h := range m.Nodes {
		if h.State < record.Confirmed {
			k.lacks = append(k.lacks, h.Node)
			k.short = k.short || h.State < record.Stored
		}
	}
	if len(k.lacks) == 0 {
		s.intents.settled(m.Generation)
		return
	}
	s.intents.keep(m.Generation, k)
}

// keep leaves a file's generation on record, although its manifest is. What is sent from here on the generation does not
// know of: it may lie on any of its nodes.
func (b *intentBook) keep(id record.Generation, k *keptFile) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil {
		e.kept, e.wide, e.inUse, e.dead, e.adopted, e.manifest = k, true, true, false, false, false
	}
}

// drop lets go of a kept generation that another one has taken the place of.
func (b *intentBook) drop(id record.Generation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil {
		e.kept, e.inUse = nil, false
	}
}

// keptFiles lists the files that are not complete, the oldest first.
func (b *intentBook) keptFiles() (out []record.IntentEntry, kept []keptFile) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var entries []*intentEntry
	for _, e := range b.entries {
		if e.kept != nil && !e.dead {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b *intentEntry) int { return a.since.Compare(b.since) })
	for _, e := range entries {
		out, kept = append(out, e.IntentEntry), append(kept, *e.kept)
	}
	return out, kept
}

// completeFiles goes on with files whose nodes are back.
func (s *Store) completeFiles(ctx context.Context) error {
	var errs []error
	entries, kept := s.intents.keptFiles()
	for i, e := range entries {
		k := &kept[i]
		up := slices.ContainsFunc(k.lacks, func(node string) bool { p := s.peers[node]; return p != nil && p.Up() })
		if ctx.Err() != nil || !up || time.Now().Before(k.next) {
			continue
		}
		if err := s.completeFile(ctx, e, k); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Store) completeFile(ctx context.Context, e record.IntentEntry, k *keptFile) error {
	unlock := s.names.tryLock(e.Object)
	if unlock == nil {
		return nil // it is being replaced, or rebuilt
	}
	defer unlock()
	m, err := s.manifestOfFile(ctx, e.Object)
	if err == nil && m != nil && m.Generation != e.Generation {
		s.intents.drop(e.Generation)
		return nil
	}
	var next *record.Manifest
	o := &object{man: m, stored: k.stored}
	if err == nil && m != nil {
		if next, err = s.bringForward(ctx, o, m); next != nil {
			if put := s.putFileManifest(ctx, next); put != nil {
				next, err = nil, errors.Join(err, put)
			} else {
				s.chores.superseded(next.Object)
				m = next
			}
		}
		s.rooted(m)
	}
	s.intents.mu.Lock()
	defer s.intents.mu.Unlock()
	if x := s.intents.entries[e.Generation]; x != nil && x.kept != nil {
		x.kept.stored = o.stored
		if next == nil { // nothing came of it
			x.kept.tries = k.tries + 1
			x.kept.next = time.Now().Add(min(time.Second<<min(x.kept.tries, 6), time.Minute))
		}
	}
	return err
}
