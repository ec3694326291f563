package zdb

import (
	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/wal"
	"qsfs/zdb/segfile"
)

const (
	// frameBytes is what a batch takes beside its entries.
	frameBytes = batch.HeaderSize + batch.TrailerSize
	// frameShare: frames that can be no more than this share of a segment are not looked for.
	frameShare = 20
)

// framed gives, of a sealed segment, the share of its batches' frames that its live entries have. The index counts entries only; where each
// has a batch of its own and is small, half of the log is frames, although nothing in it is dead. What entries there are, i<N> tells: it is walked
// once. compactor.mu is held.
func (n *Namespace) framed(s SegmentInfo) int64 {
	if s.Live == 0 || !s.Sealed || s.entries*frameBytes*frameShare < s.Length {
		return 0
	}
	entries, known := n.compactor.entries[s.ID]
	if !known {
		var err error
		if entries, err = n.entryBytes(s.ID); err != nil {
			if n.ctx.Err() != nil {
				return 0
			}
			// Whoever compacts the segment meets the same error and says so.
			n.logger.Debug("walk segment", "namespace", n.name, "segment", s.ID, "error", err)
			entries = s.Length
		}
		n.compactor.entries[s.ID] = entries
	}
	frames := s.Length - segfile.HeaderSize - entries
	if entries <= 0 || frames <= 0 {
		return 0
	}
	return int64(float64(frames) * float64(min(s.Live, entries)) / float64(entries))
}

// entryBytes is what the entries of a segment take in it.
func (n *Namespace) entryBytes(id SegmentID) (sum int64, err error) {
	err = n.log.Entries(id, func(it wal.Item) error {
		size := batch.EntrySize
		if it.Moved {
			size = batch.MovedSize
		}
		sum += int64(size(len(it.Key), int(it.Location.Length)))
		return n.ctx.Err()
	})
	return sum, err
}
