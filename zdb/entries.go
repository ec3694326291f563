package zdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/internal/wal"
	"qsfs/zdb/segfile"
)

// LogEntry is an entry as the log has it, replaced or deleted ones and deletes included.
type LogEntry struct {
	Entry   // the value is nil where it is not at hand; its Location tells
	Deleted bool
}

// Entries gives the entries of a segment in their order, beginning with the batch at offset from; 0 is the first. batch, if
// it is not nil, is told the end of each batch, where a later call may begin. The slices are valid during the call. An error of entry
// ends it and is returned as it is; ErrSegment: there is no such segment.
func (n *Namespace) Entries(ctx context.Context, id SegmentID, from int64, entry func(LogEntry) error, batch func(end int64) error) error {
	_, length, ok := n.log.Locate(id)
	if !ok {
		return n.public(fmt.Errorf("%w: %d", ErrSegment, id))
	}
	var mine error
	keep := func(err error) error {
		mine = err
		return err
	}
	err := n.log.Replay(ctx, wal.Pos{Segment: id, Offset: from}, wal.Pos{Segment: id, Offset: length}, true,
		func(it wal.Item) error {
			e := LogEntry{Deleted: it.Delete}
			e.Key, e.Seq, e.Time, e.Location = it.Key, it.Seq, time.Unix(0, it.Time), it.Location
			if it.HasValue {
				e.Value = it.Value
			}
			return keep(entry(e))
		},
		func(p wal.Pos, _ segfile.Incarnation) error {
			if batch == nil {
				return nil
			}
			return keep(batch(p.Offset))
		})
	if mine != nil {
		return mine
	}
	if _, _, ok := n.log.Locate(id); !ok && errors.Is(err, vfs.ErrNotExist) {
		err = fmt.Errorf("%w: %d", ErrSegment, id) // removed before its file was open
	}
	return n.public(err)
}
