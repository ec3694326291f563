package zdb

import (
	"bytes"
	"context"
	"fmt"

	"qsfs/zdb/internal/overlay"
	"qsfs/zdb/internal/wal"
	"qsfs/zdb/segfile"
)

// memoryOverhead is what a key costs in an index in memory, beside its bytes.
const memoryOverhead = overlay.Overhead + 160

// toMemory builds, from the log, what stands in for the index while the disk has
// no room for it: reads and deletes go on, and nothing has to be written. why is the reason, and
// part of the error when the memory is not enough either.
func (n *Namespace) toMemory(ctx context.Context, why error) error {
	n.memoryMu.Lock()
	defer n.memoryMu.Unlock()
	for {
		if n.view.Load().memory != nil {
			return nil
		}
		n.idxMu.Lock()
		base, open := n.base, n.idx != nil
		n.idxMu.Unlock()
		if open {
			return nil // room came back meanwhile
		}
		table, err := n.buildMemory(ctx, wal.Pos{Segment: base.Segment, Offset: base.Offset})
		if err != nil {
			return fmt.Errorf("%w (in memory: %w)", why, err)
		}
		if n.install(table, base.Offset, base.Segment) {
			n.logger.Warn("no room for the index: it is kept in memory", "namespace", n.name, "keys", table.Len(), "error", why)
			return nil
		}
	}
}

// install puts the table under the overlay, unless the index has moved on.
func (n *Namespace) install(table *overlay.Table, off int64, id SegmentID) bool {
	n.snapMu.Lock()
	defer n.snapMu.Unlock()
	n.idxMu.Lock()
	defer n.idxMu.Unlock()
	if n.idx != nil || n.base.Offset != off || n.base.Segment != id {
		return false
	}
	n.view.Store(&view{tables: n.view.Load().tables, memory: table})
	return true
}

// dropMemory ends it; the index is open.
func (n *Namespace) dropMemory() {
	if n.view.Load().memory == nil {
		return
	}
	n.snapMu.Lock()
	defer n.snapMu.Unlock()
	n.view.Store(&view{tables: n.view.Load().tables})
	n.logger.Info("the index has room again", "namespace", n.name)
}

// leaveMemory tries whether the disk has room for the index now.
func (n *Namespace) leaveMemory() {
	if x, err := n.acquireIndex(n.ctx); err == nil {
		if err := x.Release(); err != nil {
			n.logger.Warn("close index", "namespace", n.name, "error", err)
		}
	}
}

// buildMemory replays the log up to a place. As in the index, the highest sequence of a key wins.
func (n *Namespace) buildMemory(ctx context.Context, to wal.Pos) (*overlay.Table, error) {
	n.replayMu.RLock()
	defer n.replayMu.RUnlock()
	newest := make(map[string]overlay.Entry)
	size, limit := int64(0), n.db.o.MemoryIndex
	err := n.log.Replay(ctx, n.log.First(), to, false,
		func(it wal.Item) error {
			old, ok := newest[string(it.Key)]
			if ok && old.Seq > it.Seq {
				return nil
			}
			if !ok {
				if size += int64(len(it.Key)) + memoryOverhead; size > limit {
					return fmt.Errorf("more than %d bytes", limit)
				}
			}
			newest[string(it.Key)] = overlay.Entry{Seq: it.Seq, Time: it.Time, Delete: it.Delete, Location: it.Location}
			return nil
		},
		func(wal.Pos, segfile.Incarnation) error { return nil })
	if err != nil {
		return nil, err
	}
	table := overlay.New()
	version := uint64(0)
	for key, e := range newest {
		if e.Delete {
			continue
		}
		version++
		e.Key, e.Version = bytes.Clone([]byte(key)), version
		table.Add(e)
	}
	return table, nil
}
