package zdb

import (
	"hash/maphash"

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
	kept := list[:0]
	for _, it := range list {
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
	needed, err := c.n.neededDeletes(t.id, kept)
	if err != nil {
		return err
	}
	for _, it := range needed {
		if err := c.move(it); err != nil {
			return err
		}
		c.carried += int64(batch.MovedSize(len(it.Key), 0))
	}
	return c.ctx.Err()
}

// neededDeletes gives those deletes of segment id of whose keys an older value lies in another segment.
func (n *Namespace) neededDeletes(id SegmentID, list []wal.Item) ([]wal.Item, error) {
	if len(list) == 0 || len(n.log.Lost()) > 0 {
		return list, nil // a lost segment may hold anything
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
	if size > max(scanMin, scanShare*n.o.SegmentSize) {
		return list, nil
	}
	needed := make(map[uint64]bool)
	for _, o := range others {
		err := n.log.Entries(o, func(it wal.Item) error {
			h := maphash.Bytes(seed, it.Key)
			if seq, ok := of[h]; ok && !it.Delete && it.Seq < seq {
				needed[h] = true
			}
			return nil
		})
		if err != nil {
			n.logger.Warn("deletes are kept, a segment cannot be read", "namespace", n.name, "segment", o, "error", err)
			return list, nil
		}
	}
	out := list[:0]
	for _, it := range list {
		if needed[maphash.Bytes(seed, it.Key)] {
			out = append(out, it)
		}
	}
	return out, nil
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
