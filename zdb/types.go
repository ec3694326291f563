package zdb

import (
	"time"

	"qsfs/zdb/segfile"
)

// Names shared with those who handle segment files without the engine.
type (
	// Seq is the sequence of an entry: epoch (16 bits) and counter (48 bits).
	Seq = segfile.Seq
	// SegmentID is the N of d<N> and i<N>.
	SegmentID = segfile.ID
	// Location is where a value lies in the log.
	Location = segfile.Location
	// SessionStart says from which sequence on a session wrote.
	SessionStart = segfile.SessionStart
)

// MakeSeq joins epoch and counter.
func MakeSeq(epoch uint16, counter uint64) Seq { return segfile.MakeSeq(epoch, counter) }

// Entry is one key with its value. The slices belong to the engine: read only.
type Entry struct {
	Key   []byte
	Value []byte
	Seq   Seq
	Time  time.Time // when its batch was committed, or what Batch.SetTime gave
	// Location is where the value lies in the log, also when Value came from memory or from the index.
	Location Location
}

// Commit says what a batch became.
type Commit struct {
	First, Last Seq
}

// Head is a place in the log, always at the boundary of a batch.
type Head struct {
	Seq         Seq // highest sequence up to here
	Needs       Seq
	Segment     SegmentID
	Offset      int64 // bytes of d<Segment>
	Incarnation [16]byte
	Session     uint64
}

// SegmentInfo describes one segment.
type SegmentInfo struct {
	ID       SegmentID
	Sealed   bool  // i<N> exists
	Length   int64 // bytes of d<N> that count
	Local    bool  // d<N> is on this machine
	FirstSeq Seq   // 0 when the segment holds no entry
	LastSeq  Seq
	// Live is what the entries that the index refers to take up in d<N>, kept history among them, as of the last
	// apply; Dead is the rest of Length: compaction frees it, but for the deletes that are still needed.
	Live, Dead int64
	Size       int64 // bytes that d<N> and i<N> take up here

	entries int64
	framed  int64 // see Namespace.framed; 0 unless it was asked for
}

// Stats of a namespace.
type Stats struct {
	Keys         int64 // as of the last apply; Count is exact
	LiveBytes    int64 // bytes of keys and values that are live, as of the last apply
	LogBytes     int64 // sum of the lengths of all segments, evicted ones included
	LocalBytes   int64 // bytes of d<N> and i<N> on this machine
	DiskBytes    int64 // LocalBytes and what the index takes
	DeadBytes    int64 // sum of SegmentInfo.Dead
	Versions     int64 // superseded versions that are kept, as of the last apply
	Segments     int
	OverlayBytes int64
	Unsynced     int64 // bytes of the log that no fsync covers
	Commits      uint64
	Syncs        uint64
	Fetches      uint64
	FetchedBytes uint64
	IndexRebuilt uint64 // how often the index was dropped and rebuilt since open
	NoSpace      bool   // writes are refused

	// Of compaction since open, in the background and asked for: groups of segments whose live entries were copied, the
	// bytes of these, and what was removed.
	CompactRuns     uint64
	CompactSegments uint64
	CopiedBytes     int64
	FreedBytes      int64
}

// Reader is what the check function of CommitIf sees.
type Reader interface {
	Get(key []byte) (Entry, error)
	Has(key []byte) (bool, error)
}

// Version is one version of a key: what History lists.
type Version struct {
	Seq      Seq
	Time     time.Time
	Deleted  bool // the key had no value from here on
	Location Location
	Length   int64 // of the value
}

// IterOptions bound an iterator to Lower ≤ key < Upper; nil is open.
type IterOptions struct {
	// At, unless 0, is a pinned sequence: the iterator shows the keys as they were then.
	At           Seq
	Lower, Upper []byte
	Reverse      bool
	KeysOnly     bool // values are not read; Value returns nil
}
