package zdb

import (
	"hash/maphash"
	"slices"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/wal"
)

const (
	// tombBytes of deletes are looked up at once.
	tombBytes = 8 << 20
	// scanMin and scanShare bound what is read of the other segments' i<N> to find out which deletes are still needed; beyond it
	// they are kept.
	scanMin   = 64 << 20
	scanShare = 8
)

// tombstones collects deletes of a segment that the index does not refer to.
type tombstones struct {
	id    SegmentID
	list  []wal.Item
	bytes int64
}

// add takes one and says whether there is room for more.
func (t *tombstones) add(it wal.Item) bool {
	it.Key, it.Value = append([]byte(nil), it.Key...), nil
	t.list = append(t.list, it)
	t.bytes += int64(len(it.Key)) + moveOverhead
	return t.bytes < tombBytes
}

// deletes copies those of the collected deletes without which something older
// would come back when the index is rebuilt.
func (c *copier) deletes(x *index.Snapshot) error {
	t := &c.tombs
	list := t.list
	t.list, t.bytes = nil, 0
	// The highest sequence of all stays in the log: the next opening, and another log that needs it, go by that.
	top := c.n.log.Head().Seq
	var kept, last []wal.Item
	for _, it := range list {
		if it.Seq == top {
			last = append(last, it)
			continue
		}
		// A newer version in the log does what the delete did, unless a pin stands between the two: to it something
		// older would seem to be the newest.
		e, ok, err := x.Get(it.Key)
		if err != nil {
			return err
		}
		if !ok || e.Seq < it.Seq || c.n.keep.pinnedIn(it.Seq, e.Seq) {
			kept = append(kept, it)
		}
	}
	// What was copied a moment ago may be dead by now, and is something older in the log all the same.
	if err := c.flush(); err != nil {
		return err
	}
	kept, because, err := c.n.neededDeletes(t.id, kept)
	if err != nil {
		return err
	}
	c.because = because
	for _, it := range append(kept, last...) {
		if err := c.move(it); err != nil {
			return err
		}
		c.carried += int64(batch.MovedSize(len(it.Key), 0))
	}
	return c.ctx.Err()
}

// neededDeletes gives those deletes of segment id of whose keys an older value lies in another segment, and the segments
// where one may.
func (n *Namespace) neededDeletes(id SegmentID, list []wal.Item) (needed []wal.Item, because []SegmentID, err error) {
	if len(list) == 0 {
		return nil, nil, nil
	}
	highest := Seq(0)
	seed := maphash.MakeSeed()
	of := make(map[uint64]Seq, len(list))
	for _, it := range list {
		h := maphash.Bytes(seed, it.Key)
		of[h] = max(of[h], it.Seq)
		highest = max(highest, it.Seq)
	}
	others, size := n.older(id, highest)
	if len(n.log.Lost()) > 0 || size > max(scanMin, scanShare*n.log.SegmentSize()) {
		return list, others, nil // a lost segment may hold anything
	}
	found := make(map[uint64]bool)
	for _, o := range others {
		err := n.log.Entries(o, func(it wal.Item) error {
			h := maphash.Bytes(seed, it.Key)
			if seq, ok := of[h]; ok && !it.Delete && it.Seq < seq {
				found[h] = true
			}
			return nil
		})
		if err != nil {
			n.logger.Warn("deletes are kept, a segment cannot be read", "namespace", n.name, "segment", o, "error", err)
			return list, others, nil
		}
	}
	out := list[:0]
	for _, it := range list {
		if found[maphash.Bytes(seed, it.Key)] {
			out = append(out, it)
		}
	}
	return out, others, nil
}

// older lists the other segments with entries below a sequence, and what reading them costs.
func (n *Namespace) older(id SegmentID, seq Seq) (list []SegmentID, size int64) {
	for _, s := range n.log.Segments() {
		if s.ID == id || s.First == 0 || s.First >= seq {
			continue
		}
		list = append(list, s.ID)
		if size += s.IndexSize; !s.Sealed {
			size += s.Length
		}
	}
	return list, size
}

// needed deletes of a segment.
type needed struct {
	bytes   int64
	because []SegmentID // where something older was, or may have been
}

// noteNeeded takes deletes into account that were copied into a segment.
func (c *compactor) noteNeeded(id SegmentID, bytes int64, because []SegmentID) {
	n := c.needed[id]
	n.bytes += bytes
	n.because = slices.Compact(slices.Sorted(slices.Values(append(n.because, because...))))
	c.needed[id] = n
}

// reviewNeeded lets the deletes of a segment be looked at again when half of what they were needed for has gone; eager: any of
// it. Half, so that they are not copied each time something goes.
func (n *Namespace) reviewNeeded(eager bool) {
	here := make(map[SegmentID]bool)
	for _, s := range n.log.Segments() {
		here[s.ID] = true
	}
	for id, v := range n.compactor.needed {
		gone := 0
		for _, o := range v.because {
			if !here[o] {
				gone++
			}
		}
		if gone > 0 && (eager || 2*gone >= len(v.because)) {
			delete(n.compactor.needed, id)
		}
	}
}
