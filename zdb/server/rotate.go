package server

import (
	"errors"
	"time"

	"qsfs/zdb"
)

// rotate seals active segments that grew older than Options.Rotate. It runs until the server ends.
func (s *Server) rotate() {
	tick := time.NewTicker(max(s.o.Rotate/4, 10*time.Millisecond))
	defer tick.Stop()
	began := map[*namespace]opened{}
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		for n := range began {
			if n.removed.Load() {
				delete(began, n)
			}
		}
		for _, name := range s.names() {
			if n := s.lookup(name); n != nil {
				s.rotateOne(n, began)
			}
		}
	}
}

// opened says when a segment was first seen active.
type opened struct {
	id zdb.SegmentID
	at time.Time
}

func (s *Server) rotateOne(n *namespace, began map[*namespace]opened) {
	n.life.RLock()
	defer n.life.RUnlock()
	eng := n.eng.Load()
	if eng == nil {
		delete(began, n)
		return
	}
	id := eng.Head().Segment
	if b, ok := began[n]; !ok || b.id != id {
		began[n] = opened{id, time.Now()}
		return
	} else if time.Since(b.at) < s.o.Rotate {
		return
	}
	if _, err := eng.Seal(s.ctx); err != nil && !errors.Is(err, zdb.ErrEmpty) {
		s.trouble("rotate", n.name, err)
	}
	began[n] = opened{eng.Head().Segment, time.Now()}
}
