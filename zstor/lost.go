package zstor

import (
	"context"
	"errors"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/receipt"
	"qsfs/zstor/internal/record"
)

// lostObject is a segment that a cut names and that cannot be had from the nodes: its manifest is damaged or gone, or
// fewer than k good shards are left of some stripe. With a local copy it is encoded anew.
type lostObject struct {
	gen  record.Generation // that the cut names
	why  error
	next time.Time // of the next look
}

// noteLost counts a segment as lost until it is found again, or stored anew.
func (s *Store) noteLost(k segmentKey, gen record.Generation, why error) {
	s.mu.Lock()
	_, had := s.lost[k]
	if !had {
		s.lost[k] = &lostObject{gen: gen, why: why}
	}
	s.mu.Unlock()
	if !had {
		s.log.Error("a dispersed segment cannot be read from the nodes", "segment", segmentObject(k), "error", why)
		kick(s.kickWork)
	}
}

// foundAgain takes a segment off the lost ones.
func (s *Store) foundAgain(k segmentKey, gen record.Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lost[k]; l != nil && l.gen == gen {
		delete(s.lost, k)
	}
}

// lostNow lists the segments that are lost, and drops those that a cut names differently by now.
func (s *Store) lostNow() map[segmentKey]lostObject {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[segmentKey]lostObject{}
	for k, l := range s.lost {
		if s.ledger != nil {
			if ref, listed := s.ledger.Lookup(k); !listed || ref.Generation != l.gen {
				delete(s.lost, k)
				continue
			}
		}
		out[k] = *l
	}
	return out
}

// replaceLost encodes lost segments anew whose local copy is there, and looks again for the manifests of the others:
// a metadata node that comes back may have them, or a receipt. Missing shards are looked for by the audit.
func (s *Store) replaceLost(ctx context.Context) error {
	var errs []error
	for k, l := range s.lostNow() {
		if time.Now().Before(l.next) {
			continue
		}
		s.mu.Lock()
		if x := s.lost[k]; x != nil {
			x.next = time.Now().Add(6 * s.o.Maintain)
		}
		s.mu.Unlock()
		if s.isLocal(k) {
			errs = append(errs, s.encodeAnew(k))
			continue
		}
		m, v, err := s.readManifest(ctx, segmentObject(k), l.gen)
		if errors.Is(err, client.ErrDamaged) {
			// The receipt is the same manifest, perhaps an older version of it: what it does not know to be stored is
			// looked for.
			r, rerr := receipt.Read(s.state, k.Namespace, k.Segment)
			if rerr != nil || r.Manifest.Generation != l.gen {
				continue
			}
			m = &r.Manifest
			v, err = s.putManifest(ctx, m)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if s.objects.waiting(k) == nil { // one that was only read is not complete
			o := s.objects.add(k, m, v, nil)
			o.mu.Lock()
			o.inCut = true
			o.mu.Unlock()
		}
		if errors.Is(l.why, client.ErrDamaged) {
			s.foundAgain(k, l.gen)
		}
	}
	return errors.Join(errs...)
}
