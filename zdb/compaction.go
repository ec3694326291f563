package zdb

import "context"

// Compaction says how the space of what was overwritten and deleted comes back:
// segments with little live data are copied to the end of the log and removed.
type Compaction struct {
	// Auto compacts in the background.
	Auto bool
	// LiveFraction is the share of the log that should be live; while it is less, segments are compacted. The frames of batches count as
	// their entries do. Default 0.6.
	LiveFraction float64
	// RateBytes bounds what the background copies, in bytes per second, as long as neither the log nor the disk is
	// much fuller than it should be. Default 32 MiB; negative is no bound.
	RateBytes int64
	// Release, unless nil, is asked before a segment is removed whose live entries are durable elsewhere in the log.
	// An error keeps the segment; it is asked again later.
	Release func(ctx context.Context, id SegmentID) error
}

// CompactOptions of one run.
type CompactOptions struct {
	// All compacts every sealed segment with anything dead in it, not only what the options of the namespace ask for.
	All bool
	// Progress, unless nil, is told after each step. It must not block.
	Progress func(CompactProgress)
}

// CompactProgress of a run.
type CompactProgress struct {
	Segment     SegmentID // at work
	Done, Total int64     // bytes of the segments of this run
}

// CompactResult of a run.
type CompactResult struct {
	Segments int         // removed
	Copied   int64       // bytes of live entries that were written again
	Freed    int64       // bytes of removed d<N> and i<N>
	Kept     []SegmentID // copied, but Release did not let them go
}
