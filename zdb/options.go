package zdb

import (
	"context"
	"log/slog"
	"time"

	"qsfs/zdb/internal/vfs"
)

// Defaults of Options and NamespaceOptions.
const (
	DefaultOverlayBytes  = 32 << 20
	DefaultFetchTimeout  = 30 * time.Second
	DefaultSegmentSize   = 64 << 20
	DefaultFlushInterval = time.Second
	DefaultMaxOpenFiles  = 256
	DefaultMaxIndexes    = 32
	DefaultReserve       = 16 << 20
	DefaultIndexRoom     = 4 * memTableSize
	DefaultMemoryIndex   = 256 << 20
	DefaultBallast       = DefaultIndexRoom + 64<<20
	DefaultLiveFraction  = 0.6
	DefaultCompactRate   = 32 << 20

	memTableSize = 8 << 20
)

// FetchFunc brings n bytes at off of a data segment that is not (or no longer
// readable) on this machine. What it returns has been verified by whoever
// fetched it; the engine checks the length only.
type FetchFunc func(ctx context.Context, namespace string, segment SegmentID, off, n int64) ([]byte, error)

// Options of a DB. DataDir and IndexDir are required and may be the same directory.
type Options struct {
	DataDir  string // <DataDir>/<namespace>/d<N>
	IndexDir string // <IndexDir>/<namespace>/i<N> and badger/
	// Epoch is the writer's epoch; the upper 16 bits of every sequence. A log
	// that holds a higher epoch refuses to open (ErrEpoch).
	Epoch uint16
	// Session identifies this opening; 0 draws one at random.
	Session uint64
	Log     *slog.Logger // nil discards
	// Fetch brings ranges of evicted segments; nil means that they cannot be read.
	Fetch        FetchFunc
	FetchTimeout time.Duration // one Fetch call at most; default 30 s
	// Working is told when work in the background begins that takes a processor for some time, and calls done when it ends; nil: nobody is.
	Working func() (done func())
	// FS is the file system under the log; nil is the operating system's. The index always uses the latter.
	FS vfs.FS
	// OverlayBytes bounds, per namespace, the recent entries in memory; writers wait when it is full. Default 32 MiB.
	OverlayBytes int64
	// MaxOpenFiles bounds the open descriptors of sealed segments. Default 256.
	MaxOpenFiles int
	// MaxIndexes bounds the Badger instances open at once. Default 32.
	MaxIndexes int
	// Reserve is the free space of the data file system below which writes are
	// refused with ErrNoSpace (deletes may use it). Default 16 MiB; negative is none.
	Reserve int64
	// IndexRoom is the free space of the index file system without which the
	// index is neither opened nor written. Default 32 MiB; negative is none.
	IndexRoom int64
	// MemoryIndex bounds the memory of the index of one namespace that stands in
	// while the disk has no room for it; a larger one is ErrNoSpace. Default 256 MiB.
	MemoryIndex int64

	clock func() (wall time.Time, running time.Duration) // nil is the machine's
}

// NamespaceOptions of one namespace.
type NamespaceOptions struct {
	// SegmentSize is the length at which the active segment is sealed. Default 64 MiB.
	SegmentSize int64
	// Prewrite keeps zeros written ahead of the log, so that a small fsync does not journal a new length.
	Prewrite bool
	// InlineMax is the longest value that is kept in the index too; 0 keeps none there.
	InlineMax int
	// FlushInterval is the age at which unsynced batches are synced without being asked. Default 1 s.
	FlushInterval time.Duration
	// KnownDurable gives lengths of data segments that are durable elsewhere (the newest cut): what
	// does not check below them is damage, not a torn tail.
	KnownDurable map[SegmentID]int64
	// MinSegment is a lower bound for the numbers of new segments.
	MinSegment SegmentID
	// NeedsHead gives the highest sequence present in the namespace that this one refers to. The log
	// ends before the first batch whose needs is above it. Asked once, at open.
	NeedsHead func() Seq
	// SyncNeeds makes that other namespace durable up to a sequence. It is called before
	// each fsync of this namespace, so that no batch becomes durable before what it needs.
	SyncNeeds func(ctx context.Context, needs Seq) error
	// Ballast holds this many bytes of the index file system back for the index and
	// for deletes on a full disk. 0 is none; DefaultBallast is what Badger can need.
	Ballast int64
	// Retention says what of the past is kept; nil is what was last recorded for this namespace, at first nothing.
	Retention *Retention
	// Plain, unless nil, is a key without history: Retention does not count for it, pins do. It is for a key of the
	// application's own that changes with every batch, such as a counter. What was kept of it before is dropped.
	Plain []byte
	// Compaction says how dead bytes are got rid of.
	Compaction Compaction
	// OnDurable is told each new durable head, in order, from the goroutine that synced. It must not block.
	OnDurable func(Head)
	// OnSeal is told each segment whose i<N> is durable, also those that are sealed
	// while the namespace opens. It must not block.
	OnSeal func(SegmentID)
}
