package zstor

import (
	"context"
	"sync"
	"time"

	"qsfs/zstor/internal/record"
)

// choreBook remembers manifests that have records to be tidied away: superseded versions, and tombstones. It is kept
// in memory only: what a process leaves behind costs a little room on the metadata nodes, nothing else.
type choreBook struct {
	// mu guards what follows.
	mu     sync.Mutex
	prune  map[string]bool      // objects of manifest records with superseded versions
	forget map[string]time.Time // deleted ones → no try before
}

func (b *choreBook) init() { b.prune, b.forget = map[string]bool{}, map[string]time.Time{} }

// superseded notes that a manifest has an older version.
func (b *choreBook) superseded(object string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.prune[object] = true
}

// deleted notes that a manifest has a tombstone, which stays for the grace at least.
func (b *choreBook) deleted(object string, grace time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.prune, object) // they go with the tombstone
	b.forget[object] = time.Now().Add(grace)
}

// made notes that a deleted manifest has been made again: there is no tombstone to be forgotten any more.
func (b *choreBook) made(object string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.forget, object)
}

// due lists what can be done now.
func (b *choreBook) due() (prune, forget []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for o := range b.prune {
		prune = append(prune, o)
	}
	for o, t := range b.forget {
		if !time.Now().Before(t) {
			forget = append(forget, o)
		}
	}
	return prune, forget
}

// tombstoneGrace is how long a tombstone stays at least; package quorum has the same default.
func (s *Store) tombstoneGrace() time.Duration {
	if s.o.TombstoneGrace > 0 {
		return s.o.TombstoneGrace
	}
	return time.Hour
}

// pruneManifests removes superseded manifests. The first error ends it; it goes on with the next tidying.
func (s *Store) pruneManifests(ctx context.Context) error {
	b := &s.chores
	prune, _ := b.due()
	for _, object := range prune {
		b.mu.Lock()
		delete(b.prune, object) // before: a version written meanwhile is another chore
		b.mu.Unlock()
		if _, err := s.set.Prune(ctx, record.KindManifest, object, 1); err != nil {
			b.superseded(object)
			return err
		}
	}
	return nil
}

// forgetManifests ends tombstones that all nodes have had long enough.
func (s *Store) forgetManifests(ctx context.Context) error {
	b := &s.chores
	_, forget := b.due()
	for _, object := range forget {
		gone, err := s.set.Forget(ctx, record.KindManifest, object)
		b.mu.Lock()
		if gone {
			delete(b.forget, object)
		} else {
			b.forget[object] = time.Now().Add(max(s.tombstoneGrace()/4, s.o.Maintain))
		}
		b.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}
