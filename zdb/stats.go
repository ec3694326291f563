package zdb

import (
	"context"

	"qsfs/zdb/segfile"
)

// Segments lists the segments of the log, in order.
func (n *Namespace) Segments() []SegmentInfo {
	live := n.live()
	var list []SegmentInfo
	for _, s := range n.log.Segments() {
		i := SegmentInfo{
			ID: s.ID, Sealed: s.Sealed, Length: s.Length, Local: s.Local,
			FirstSeq: s.First, LastSeq: s.Last, Live: live[s.ID], Size: s.IndexSize,
		}
		i.entries = s.Entries
		i.Dead = max(0, s.Length-segfile.HeaderSize-i.Live)
		if s.Local {
			i.Size += s.Length
		}
		list = append(list, i)
	}
	return list
}

// live asks the index if it is open; without it nothing is known.
func (n *Namespace) live() map[SegmentID]int64 {
	n.idxMu.Lock()
	x := n.idx
	n.idxMu.Unlock()
	if x == nil {
		return nil
	}
	return x.Live()
}

// Sessions lists the openings that wrote into the log, with the first sequence of each.
func (n *Namespace) Sessions() []SessionStart { return n.log.Sessions() }

// Stats gives figures that cost nothing to gather.
func (n *Namespace) Stats() Stats {
	c := n.log.Counters()
	s := Stats{
		OverlayBytes: n.overlayBytes(),
		Commits:      n.commits.Load(),
		Syncs:        c.Syncs.Load(), Fetches: c.Fetches.Load(), FetchedBytes: c.FetchedBytes.Load(),
		IndexRebuilt: n.rebuilt.Load(),
		NoSpace:      n.space.low(),
		CompactRuns:  n.compactor.groups.Load(), CompactSegments: n.compactor.segments.Load(),
		CopiedBytes: n.compactor.copied.Load(), FreedBytes: n.compactor.freed.Load(),
	}
	n.idxMu.Lock()
	if n.idx != nil {
		s.Keys, s.LiveBytes = n.idx.Totals()
		s.Versions = n.idx.Versions()
		s.DiskBytes = n.idx.Size()
	}
	n.idxMu.Unlock()
	head, durable := n.log.Head(), n.log.Durable()
	live := n.live()
	for _, i := range n.log.Segments() {
		s.Segments++
		if live != nil {
			s.DeadBytes += max(0, i.Length-segfile.HeaderSize-live[i.ID])
		}
		s.LogBytes += i.Length
		s.LocalBytes += i.IndexSize
		if i.Local {
			s.LocalBytes += i.Length
		}
		if i.ID == head.Segment {
			s.Unsynced = i.Length
			if durable.Segment == head.Segment {
				s.Unsynced = head.Offset - durable.Offset
			}
		}
	}
	s.DiskBytes += s.LocalBytes
	return s
}

// Lost lists the segments of which neither d<N> nor i<N> is there although nothing removed them. Their values
// are read through Options.Fetch; without a copy they are a MissingError, as is a rebuild of the index.
func (n *Namespace) Lost() []SegmentID { return n.log.Lost() }

// AcceptLoss gives up a lost segment: it counts as removed from now on.
func (n *Namespace) AcceptLoss(id SegmentID) error { return n.public(n.log.AcceptLoss(id)) }

// Count walks all keys and gives their number and the bytes of keys and values, exactly.
func (n *Namespace) Count(ctx context.Context) (keys, bytes int64, err error) {
	it, err := n.NewIter(ctx, IterOptions{KeysOnly: true})
	if err != nil {
		return 0, 0, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		e, err := it.Entry()
		if err != nil {
			return 0, 0, err
		}
		keys++
		bytes += int64(len(e.Key)) + int64(e.Location.Length)
	}
	return keys, bytes, it.Err()
}

// VerifyIndex reads all of the index; if something in it does not check, it is rebuilt from the log.
func (n *Namespace) VerifyIndex(ctx context.Context) error {
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return n.public(err)
	}
	verr := x.Verify()
	if err := x.Release(); err != nil {
		return n.public(err)
	}
	if verr == nil {
		return nil
	}
	// The next use finds it broken and rebuilds.
	x, err = n.acquireIndex(ctx)
	if err != nil {
		return n.public(err)
	}
	return n.public(x.Release())
}
