package zdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"qsfs/zdb/internal/clock"
	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/overlay"
	"qsfs/zdb/internal/wal"
)

// Namespace is an ordered set of keys with a log of its own.
//
// A commit goes to the log and to the overlay; the applier takes what became
// durable from the overlay to the index. Reads look at the overlay first, newest generation
// first, then at the index, then read the value from the log.
//
// Lock order: compactor.mu, applyMu, replayMu, commitMu, snapMu, idxMu. The log's locks come after commitMu.
type Namespace struct {
	db          *DB
	op          *opening // as DB knows it
	name        string
	dataDir     string
	indexDir    string
	o           NamespaceOptions
	logger      *slog.Logger
	incarnation [16]byte
	log         *wal.Log
	space       *space
	keep        retention
	holds       holds
	compactor   compactor
	sweep       sweeper // under compactor.mu
	ages        *clock.Marks

	// commitMu: one batch at a time, so that its places in log and overlay agree.
	commitMu sync.Mutex
	slab     []byte // see outlive; guarded by commitMu
	version  uint64

	// snapMu is held for reading while a snapshot of overlay and index is taken,
	// and for writing while the overlay begins a new generation.
	snapMu  sync.RWMutex
	view    atomic.Pointer[view]
	visible atomic.Uint64 // version up to which commits are complete

	idxMu   sync.Mutex
	idx     *index.Index
	opening chan struct{}  // the index is being opened, or closed because it was idle; closed at the end
	leaving []*index.Index // broken, and not closed yet as far as is known
	// base is the place in the log before which the index has to know everything;
	// what comes after is in the overlay.
	base     index.Position
	lastUsed atomic.Int64
	rebuilt  atomic.Uint64
	gone     bool       // closeIndex was here: nobody opens it again
	memoryMu sync.Mutex // held while the index is built in memory

	// replayMu is held for reading while the log is read from its beginning, for writing while segments go.
	replayMu sync.RWMutex

	applyMu  sync.Mutex // one apply at a time
	stateMu  sync.Mutex
	room     chan struct{} // closed and renewed after each attempt to apply
	applyErr error         // of the last attempt
	closed   bool

	commits   atomic.Uint64
	wake      chan struct{}
	stop      context.CancelFunc
	ctx       context.Context
	wg        sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// view is the overlay's generations, newest first. It is never changed, only replaced.
type view struct {
	tables []*generation
	// memory stands in for the index while the disk has no room for it.
	memory *overlay.Table
}

func openNamespace(ctx context.Context, db *DB, name, dir string, o NamespaceOptions) (*Namespace, error) {
	set(&o.SegmentSize, DefaultSegmentSize)
	set(&o.FlushInterval, DefaultFlushInterval)
	set(&o.Compaction.LiveFraction, DefaultLiveFraction)
	set(&o.Compaction.RateBytes, DefaultCompactRate)
	if f := o.Compaction.LiveFraction; f < 0 || f > 0.95 {
		return nil, fmt.Errorf("LiveFraction is %v, not between 0 and 0.95", f)
	}
	n := &Namespace{
		db: db, name: name, o: o,
		dataDir: filepath.Join(db.o.DataDir, dir), indexDir: filepath.Join(db.o.IndexDir, dir),
		logger:    db.o.Log,
		wake:      make(chan struct{}, 1),
		compactor: newCompactor(),
		room:      make(chan struct{}),
	}
	for _, d := range []string{n.dataDir, n.indexDir} {
		if err := db.o.FS.MkdirAll(d); err != nil {
			return nil, err
		}
	}
	n.view.Store(&view{tables: []*generation{newGeneration()}})
	n.space = newSpace(&db.o, &db.written, n.dataDir, n.indexDir, o.Ballast)
	if err := n.identify(); err != nil {
		return nil, err
	}
	if err := n.readKeep(); err != nil {
		return nil, err
	}
	log, err := n.openLog(ctx)
	if err != nil {
		return nil, err
	}
	n.log = log
	n.openAges()
	n.policy() // ages count from here on
	n.base = position(log.Head())
	if !log.Found().Clean {
		if err := n.recoverIndex(ctx); err != nil {
			return nil, errors.Join(err, log.Close())
		}
	}
	n.compactor.pace.look(noDebt, 1)
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.wg.Go(n.applyLoop)
	n.wg.Go(n.compactLoop)
	return n, nil
}

func (n *Namespace) openLog(ctx context.Context) (*wal.Log, error) {
	o := wal.Options{
		FS: n.db.o.FS, DataDir: n.dataDir, IndexDir: n.indexDir, Namespace: n.name,
		Epoch: n.db.o.Epoch, Session: n.db.o.Session,
		SegmentSize: n.o.SegmentSize, Prewrite: n.o.Prewrite, FlushInterval: n.o.FlushInterval,
		KnownDurable: n.o.KnownDurable, MinSegment: n.o.MinSegment,
		NeedsHead: n.o.NeedsHead, SyncNeeds: n.o.SyncNeeds,
		Fetch: n.db.o.Fetch, FetchTimeout: n.db.o.FetchTimeout,
		OnSeal: n.sealed, Handles: n.db.handles, Log: n.logger, Room: n.space.ample,
	}
	if n.o.OnDurable != nil {
		o.OnDurable = func(h wal.Head) { n.o.OnDurable(n.head(h)) }
	}
	log, err := wal.Open(ctx, o)
	if wal.IsNoSpace(err) && n.space.release() {
		// The ballast was held for this.
		log, err = wal.Open(ctx, o)
	}
	return log, noSpace(err)
}

func position(h wal.Head) index.Position {
	return index.Position{Segment: h.Segment, Offset: h.Offset, Incarnation: h.Incarnation, Seq: h.Seq}
}

// Name of the namespace.
func (n *Namespace) Name() string { return n.name }

// Incarnation was drawn at random when the namespace was made on this machine.
func (n *Namespace) Incarnation() [16]byte { return n.incarnation }

func (n *Namespace) head(h wal.Head) Head {
	return Head{Seq: h.Seq, Needs: h.Needs, Segment: h.Segment, Offset: h.Offset, Incarnation: h.Incarnation, Session: n.db.o.Session}
}

// Head is the end of the log: what Commit returned last, or a marker behind it.
func (n *Namespace) Head() Head { return n.head(n.log.Head()) }

// Durable is the place up to which everything is on stable storage: bytes
// [0, Offset) of d<Segment> and all lower segments. It is the boundary of a batch.
func (n *Namespace) Durable() Head { return n.head(n.log.Durable()) }

// Sync makes all that was committed before the call durable.
func (n *Namespace) Sync(ctx context.Context) error { return n.public(n.log.Sync(ctx)) }

// SyncTo makes all up to seq durable. Callers at the same time share one fsync.
func (n *Namespace) SyncTo(ctx context.Context, seq Seq) error {
	return n.public(n.log.SyncTo(ctx, seq))
}

// Seal ends the active segment and returns when its i<N> is durable. ErrEmpty says that it has no entries.
func (n *Namespace) Seal(ctx context.Context) (SegmentID, error) {
	id, err := n.log.Seal(ctx)
	return id, n.public(err)
}

// SetSegmentSize changes the length at which the active segment is sealed, from the next batch on until the namespace is
// closed; 0 is the default.
func (n *Namespace) SetSegmentSize(size int64) {
	set(&size, DefaultSegmentSize)
	n.log.SetSegmentSize(size)
}

// Evict removes d<id> of a sealed segment from this machine. Who is reading it goes
// on; later reads go to Fetch. Whether there is a copy elsewhere is for the caller to know.
func (n *Namespace) Evict(ctx context.Context, id SegmentID) error {
	return n.public(n.log.Evict(id))
}

// Err says why the namespace takes no more writes; nil while it does.
func (n *Namespace) Err() error { return n.public(n.log.Err()) }

// public gives the errors of the parts below the names of this package.
func (n *Namespace) public(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("namespace %s: %w", n.name, noSpace(err))
}

// noSpace adds ErrNoSpace to what the file system calls it.
func noSpace(err error) error {
	if wal.IsNoSpace(err) && !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// Close makes everything durable, brings the index up to date, leaves the
// clean-stop marker and closes the namespace.
func (n *Namespace) Close() error {
	n.closeOnce.Do(func() {
		n.commitMu.Lock()
		n.stateMu.Lock()
		n.closed = true
		n.stateMu.Unlock()
		n.commitMu.Unlock()
		n.stop()
		n.wg.Wait()
		n.compactor.mu.Lock() // a run of Compact ends; a later one finds the namespace closed
		sound := n.log.Err() == nil
		n.compactor.mu.Unlock()
		if sound {
			// Without it the next opening replays what is missing.
			if err := n.apply(context.Background()); err != nil {
				n.logger.Warn("index is left behind", "namespace", n.name, "error", err)
			}
		}
		n.ages.Save(true)
		n.tryAgain() // who waits for room finds the namespace closed
		n.closeErr = errors.Join(n.public(n.log.Close()), n.closeIndex())
		if n.op != nil {
			n.db.forget(n.name, n.op)
		}
	})
	return n.closeErr
}

func (n *Namespace) isClosed() bool {
	n.stateMu.Lock()
	defer n.stateMu.Unlock()
	return n.closed
}
