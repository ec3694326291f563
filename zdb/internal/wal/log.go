// Package wal is the log of one namespace: a sequence of data segments, of which
// the highest is appended to.
//
// It appends batches, makes them durable by shared fsyncs, seals full segments, and at open
// finds out where the log ends and what of it had been confirmed. What was confirmed is never cut
// and never rewritten; what was not is written again into a segment of its own.
package wal

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// Errors that the engine passes on under its own names.
var (
	ErrClosed   = errors.New("closed")
	ErrPoisoned = errors.New("namespace is read-only after a failed write or fsync")
	ErrEpoch    = errors.New("log belongs to a later epoch")
	ErrNeeds    = errors.New("needs of a batch decreases")
	ErrSegment  = errors.New("no such sealed segment")
	ErrEmpty    = errors.New("active segment is empty")
	ErrRange    = errors.New("range outside of the value")
)

// Options of a Log. FS, Handles and Log are required.
type Options struct {
	FS                vfs.FS
	DataDir, IndexDir string // of this namespace
	Namespace         string
	Epoch             uint16
	Session           uint64
	SegmentSize       int64
	Prewrite          bool
	FlushInterval     time.Duration
	KnownDurable      map[segfile.ID]int64
	MinSegment        segfile.ID
	NeedsHead         func() segfile.Seq
	SyncNeeds         func(context.Context, segfile.Seq) error
	Fetch             func(ctx context.Context, ns string, id segfile.ID, off, n int64) ([]byte, error)
	FetchTimeout      time.Duration
	OnDurable         func(Head)
	OnSeal            func(segfile.ID)
	Handles           *Handles
	// Room says whether n bytes may be written ahead without touching the reserve; nil is always.
	Room func(n int64) bool
	Log  *slog.Logger
}

// Pos is a place in the log.
type Pos struct {
	Segment segfile.ID
	Offset  int64
}

// Before orders places.
func (p Pos) Before(q Pos) bool {
	return p.Segment < q.Segment || p.Segment == q.Segment && p.Offset < q.Offset
}

// Head is the place behind a batch and what the log had reached there.
type Head struct {
	Pos
	Seq         segfile.Seq
	Needs       segfile.Seq
	Incarnation segfile.Incarnation
}

// Counters are facts for statistics.
type Counters struct {
	Syncs, Fetches, FetchedBytes atomic.Uint64
}

// Log of one namespace.
//
// Lock order: appendMu, then removeMu, then fsyncMu, then mu. mu is never held over a file operation.
type Log struct {
	o     Options
	count Counters
	// segmentSize is the length at which the active segment is sealed.
	segmentSize atomic.Int64

	appendMu sync.Mutex  // held by who writes to the active segment or rotates it
	needs    segfile.Seq // of the last batch
	next     segfile.Seq // sequence of the next entry

	// fsyncMu is held over each fsync of the active segment, so that who finds a lost page says so
	// before another fsync, which would not be told of it, is believed.
	fsyncMu sync.Mutex

	removeMu sync.Mutex   // held over a change of gaps
	orphans  []segfile.ID // removed segments that may still have files

	mu       sync.Mutex
	segments map[segfile.ID]*segment
	order    []segfile.ID // of segments, ascending
	active   *segment
	head     Head
	durable  Head
	// witnessed is the highest durable place that a batch in the log records.
	witnessed Pos
	entryEnd  Pos // behind the last batch with entries in the active segment
	lastSync  time.Time
	keeperAt  time.Time // when the keeper looks by itself
	unsynced  time.Time // when the oldest unsynced batch was written; zero: none
	round     *syncRound
	poison    error
	closed    bool
	sessions  []segfile.SessionStart
	recorded  []segfile.SessionStart // what the file says of them
	gaps      gaps                   // numbers that no segment has, by right
	gapsErr   error                  // why a survey could not read the record of them
	lost      []segfile.ID           // numbers of segments of which neither file is there
	unsealed  []segfile.ID           // closed segments that wait for the sealer, ascending
	sealDone  chan struct{}          // closed and renewed after each attempt to seal
	sealErr   error                  // of the last attempt

	notifyMu sync.Mutex // held over OnDurable
	notified Pos

	zero   zeroer
	begun  Pos           // up to where write-back of the active segment has begun, or is not worth it
	behind chan struct{} // tells writeBehind that there is a step to write

	found Found

	wake     chan struct{} // tells the keeper that there is something to time
	sealWake chan struct{}
	stop     chan struct{}
	wg       sync.WaitGroup
}

// Found is what Open found.
type Found struct {
	// Clean: the last writer stopped in order, or there was none.
	Clean bool
	// Last is the highest sequence in the log that was kept.
	Last segfile.Seq
	// Moved batches had not been confirmed and were written again.
	Moved int
	// Cut: batches were dropped because what they need is not there.
	Cut bool
	// Created: there was no segment at all.
	Created bool
	// adopted: there was no record of removed segments.
	adopted bool
}

// SetSegmentSize changes the length at which segments are sealed, from the next batch on.
func (l *Log) SetSegmentSize(n int64) { l.segmentSize.Store(n) }

// SegmentSize is the length at which segments are sealed.
func (l *Log) SegmentSize() int64 { return l.segmentSize.Load() }

// Open opens the log, or begins one, and starts its background work.
func Open(ctx context.Context, o Options) (*Log, error) {
	l := &Log{
		o:        o,
		segments: make(map[segfile.ID]*segment),
		wake:     make(chan struct{}, 1),
		sealWake: make(chan struct{}, 1),
		behind:   make(chan struct{}, 1),
		stop:     make(chan struct{}),
		sealDone: make(chan struct{}),
	}
	l.segmentSize.Store(o.SegmentSize)
	if err := errors.Join(o.FS.MkdirAll(o.DataDir), o.FS.MkdirAll(o.IndexDir)); err != nil {
		return nil, err
	}
	if err := l.recover(ctx); err != nil {
		if l.active != nil {
			_ = l.active.handle.Release()
		}
		return nil, err
	}
	l.start()
	return l, nil
}

func (l *Log) start() {
	l.wg.Go(l.keep)
	l.wg.Go(l.sealer)
	l.wg.Go(l.writeBehind)
	if l.o.Prewrite {
		l.zero.start(l)
	}
}

// Found tells what Open found.
func (l *Log) Found() Found { return l.found }

// Counters of this log.
func (l *Log) Counters() *Counters { return &l.count }

// Head is the end of the log.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Durable is the end of what is on stable storage, with all before it.
func (l *Log) Durable() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable
}

// Err is the reason why the log takes no more writes, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateLocked()
}

func (l *Log) stateLocked() error {
	if l.poison != nil {
		return l.poison
	}
	if l.closed {
		return ErrClosed
	}
	return nil
}

// Poison turns the log read-only for good, with the first reason.
func (l *Log) Poison(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.poison == nil {
		l.poison = errors.Join(ErrPoisoned, err)
		l.o.Log.Error("namespace is read-only: a write or fsync failed", "namespace", l.o.Namespace, "error", err)
	}
	return l.poison
}

// Close syncs what is there, leaves the clean-stop marker and stops. A poisoned log leaves none.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	err := l.Sync(context.Background())
	close(l.stop)
	l.zero.halt()
	l.wg.Wait()
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	if err == nil {
		err = l.stopCleanLocked()
	}
	l.mu.Lock()
	l.closed = true
	ids := slices.Clone(l.order)
	l.mu.Unlock()
	// A namespace that is made under this name after it was dropped has other files of the same names.
	for _, id := range ids {
		err = errors.Join(err, l.o.Handles.Forget(l.dataPath(id)))
	}
	return errors.Join(err, l.active.handle.Release())
}

// stopCleanLocked leaves the clean-stop marker. One that is not known to be on the disk is taken back:
// the next open must not believe it. appendMu is held.
func (l *Log) stopCleanLocked() error {
	at := l.Head().Offset
	err := l.markLocked(true)
	if err == nil {
		err = l.syncAll(context.Background())
	}
	if err != nil {
		_, werr := l.active.handle.WriteAt(zeros[:batch.HeaderSize], at)
		err = errors.Join(err, werr)
	}
	return err
}

func (l *Log) dataPath(id segfile.ID) string  { return filepath.Join(l.o.DataDir, id.DataName()) }
func (l *Log) indexPath(id segfile.ID) string { return filepath.Join(l.o.IndexDir, id.IndexName()) }
