package zdb

import (
	"iter"
	"slices"
	"time"
)

const (
	// evictedLive is the share of an evicted segment that may be live at most, for that has to be fetched.
	evictedLive = 0.3
)

// compactPlan is what the background does next.
type compactPlan struct {
	victims []SegmentInfo
	rate    int64
}

// plan picks the segments to compact next, if the log has more dead bytes than it should.
func (n *Namespace) plan() (compactPlan, bool) {
	n.reviewNeeded(false)
	list := n.candidates()
	total, goal, debt := n.lookAtDebt()
	p := compactPlan{rate: max(0, n.o.Compaction.RateBytes)}
	if debt > debtUrgent || !n.space.ample(2*n.log.SegmentSize()) {
		p.rate = 0
	}
	if len(list) == 0 {
		n.compactor.pace.look(noDebt, goal) // nobody waits for what does not come
		return p, false
	}
	if total > goal {
		for i := range list {
			list[i].framed = n.framed(list[i])
		}
	}
	n.emptiestFirst(list)
	best := list[0]
	if best.Live == 0 && n.compactor.needed[best.ID].bytes == 0 || total > goal && n.gain(best)*5 > best.Length {
		p.victims = list[:1]
		return p, true
	}
	if tiny := n.tiny(list); len(tiny) >= tinyRun {
		p.victims = tiny
		return p, true
	}
	n.compactor.pace.look(noDebt, goal)
	return p, false
}

func (n *Namespace) isWaiting(id SegmentID) bool {
	return slices.ContainsFunc(n.compactor.waiting, func(w waiting) bool { return w.id == id })
}

// candidates are the segments that may be compacted and would make the log smaller, or fewer.
func (n *Namespace) candidates() []SegmentInfo {
	n.idxMu.Lock()
	base, open := n.base, n.idx != nil
	n.idxMu.Unlock()
	if !open {
		return nil
	}
	var list []SegmentInfo
	for _, s := range n.Segments() {
		// What the index has not seen to its end counts as dead in it.
		unseen := s.ID > base.Segment || s.ID == base.Segment && base.Offset < s.Length
		if !s.Sealed || unseen || n.isWaiting(s.ID) || n.hasFailed(s.ID) || !n.log.Removable(s.ID) {
			continue
		}
		if !s.Local && float64(s.Live) > evictedLive*float64(s.Length) {
			continue
		}
		if n.gain(s) > 0 || n.isTiny(s) {
			list = append(list, s)
		}
	}
	return list
}

// hasFailed says whether a segment could not be compacted lately.
func (n *Namespace) hasFailed(id SegmentID) bool {
	at, failed := n.compactor.failed[id]
	return failed && time.Since(at) < failedRetry
}

// emptiestFirst orders segments; of equals the oldest goes first, whose tombstones are the surest to go.
func (n *Namespace) emptiestFirst(list []SegmentInfo) {
	slices.SortFunc(list, func(a, b SegmentInfo) int {
		fa, fb := n.gain(a)*1000/a.Length, n.gain(b)*1000/b.Length
		if fa != fb {
			return int(fb - fa)
		}
		return int(a.ID) - int(b.ID)
	})
}

// gain is about what compacting a segment frees. Entries grow by the sequence and time that they then carry.
func (n *Namespace) gain(s SegmentInfo) int64 {
	live := s.Live + s.framed + n.compactor.needed[s.ID].bytes
	return s.Length - live - 16*s.entries*live/max(s.Length, 1)
}

func (n *Namespace) isTiny(s SegmentInfo) bool {
	return s.Local && s.Length <= n.log.SegmentSize()/tinyShare
}

// tiny takes tiny segments, together not more than one full one.
func (n *Namespace) tiny(list []SegmentInfo) []SegmentInfo {
	var out []SegmentInfo
	size := int64(0)
	for _, s := range list {
		if n.isTiny(s) && size+s.Length <= n.log.SegmentSize() {
			out = append(out, s)
			size += s.Length
		}
	}
	slices.SortFunc(out, func(a, b SegmentInfo) int { return int(a.ID) - int(b.ID) })
	return out
}

// worthwhile gives, in groups, what a run is to compact; total becomes the sum of their lengths.
func (n *Namespace) worthwhile(all bool, total *int64) iter.Seq[[]SegmentInfo] {
	if !all {
		return func(yield func([]SegmentInfo) bool) {
			for {
				p, ok := n.plan()
				if !ok {
					return
				}
				for _, s := range p.victims {
					*total += s.Length
				}
				if !yield(p.victims) {
					return
				}
			}
		}
	}
	n.reviewNeeded(true)
	list := n.candidates()
	list = slices.DeleteFunc(list, func(s SegmentInfo) bool { return n.gain(s)*100 < s.Length && !n.isTiny(s) })
	if !n.space.ample(2 * n.log.SegmentSize()) {
		n.emptiestFirst(list) // each makes room for the next; else in order, so that fewer tombstones are needed
	}
	for _, s := range list {
		*total += s.Length
	}
	return func(yield func([]SegmentInfo) bool) {
		for _, s := range list {
			if !yield([]SegmentInfo{s}) {
				return
			}
		}
	}
}
