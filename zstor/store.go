package zstor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zstor/config"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/budget"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/keys"
	"qsfs/zstor/internal/note"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
	"qsfs/zstor/internal/watch"
)

// Store is the dispersal of one state directory. Its methods may be called concurrently.
//
// Lock order: recoverMu, roundMu, verifyMu, segment.up, segment.mu, segment.tmu, receipts, intentBook.gate, intentBook.mu, mu. Nothing waits for a node or a disk while it
// holds mu.
type Store struct {
	o      Options
	cfg    *config.Config
	log    *slog.Logger
	state  string
	ring   *keys.Ring
	sealer *record.Sealer
	budget *budget.Budget
	mover  *transfer.Mover
	set    *quorum.Set
	peers  map[string]*backend.Peer
	order  []string // ids of the data nodes as configured
	metas  []quorum.Node
	file   *os.File // the lock of the state directory
	watch  *watch.Watcher

	life  context.Context // ends with Close
	stop  context.CancelFunc
	wg    sync.WaitGroup
	once  sync.Once
	fetch flights

	recoverMu  lock                 // one recovery at a time
	roundMu    lock                 // one round, recovery, takeover at a time
	newBase    *transfer.Generation // of a base that is in no cut yet; roundMu
	verifyMu   lock                 // one comparison with the newest cut at a time
	kickRound  chan struct{}
	kickWork   chan struct{} // repair, deletions
	kickAudit  chan struct{}
	kickBehind chan struct{} // tails whose whole stripes are to be made up for
	pace       pace
	rounding   atomic.Bool // a round is under way
	intents    *intentBook
	objects    objectTable
	doubts     doubtBook
	chores     choreBook
	names      nameLocks  // of files, by object
	receipts   sync.Mutex // one receipt is written at a time, after a look at what the cut names

	// mu guards what follows.
	mu       sync.Mutex
	role     role
	fenced   error // set once another owner was seen
	att      *attachment
	ledger   *record.Ledger // nil until the newest cut was read
	cut      *record.Cut    // newest that is acknowledged; nil when there is none
	cutTook  time.Duration
	cutDone  chan struct{} // closed and replaced at the end of each round
	rounds   int64         // finished, well or not
	owed     int64         // cuts asked for by forceRound
	paid     int64         // of those, done
	segments map[record.SegmentKey]*segment
	lost     map[record.SegmentKey]*lostObject
	problem  error // why the last round failed; nil when it did not
	problems time.Time
	rate     rateMeter
	metaSeen quorum.Status
	looking  atomic.Bool // at the metadata nodes, for a status
	metaTime time.Time
}

// role is what this state directory is to the filesystem.
type role int

const (
	roleNone       role = iota // owns nothing: format, recover, or take over
	roleOwner                  // owns the epoch, as far as it knows
	roleRecovering             // a recovery has begun and is not complete
)

// Open makes a Store of a configuration. It locks <state>/zstor/lock, starts talking to the nodes, and
// resumes the ownership that the state directory notes. It does not wait for nodes that are away;
// a node that refuses the password is an error (backend.ErrPassword).
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	o = o.withDefaults()
	s := &Store{
		o: o, cfg: o.Config, log: o.Log, state: o.Config.QSFS.State, ring: o.Ring,
		peers: map[string]*backend.Peer{}, segments: map[record.SegmentKey]*segment{}, lost: map[record.SegmentKey]*lostObject{},
		recoverMu: newLock(), roundMu: newLock(), verifyMu: newLock(),
		kickRound: make(chan struct{}, 1), kickWork: make(chan struct{}, 1), kickAudit: make(chan struct{}, 1), kickBehind: make(chan struct{}, 1),
		cutDone: make(chan struct{}),
	}
	s.pace.interval = s.cfg.QSFS.SyncInterval
	s.life, s.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(ctx))
		}
	}()
	if s.ring == nil {
		if s.ring, err = s.cfg.Keys(); err != nil {
			return nil, err
		}
	}
	if s.sealer, err = record.NewSealer(recordKeys{s.ring}); err != nil {
		return nil, fmt.Errorf("record keys: %w", err)
	}
	if err := s.takeLock(); err != nil {
		return nil, err
	}
	if err := s.openNodes(); err != nil {
		return nil, err
	}
	c, err := codec.New(s.ring)
	if err != nil {
		return nil, err
	}
	s.budget = budget.New(int64(s.cfg.QSFS.ZstorMemory))
	s.mover = transfer.New(transfer.Options{
		Codec: c, Budget: s.budget, Peer: func(id string) *backend.Peer { return s.peers[id] },
		Log: s.log, Hedge: s.cfg.QSFS.Hedge, Grace: o.Grace,
	})
	s.intents = newIntentBook(s.set, s.log)
	s.objects.init()
	s.chores.init()
	s.doubts.init(s.readNodesNote())
	if err := s.checkNodes(ctx); err != nil {
		return nil, err
	}
	if err := s.resume(); err != nil {
		return nil, err
	}
	s.watch = watch.New(s.state, []string{nsData, nsMeta}, o.Rescan, s.log)
	s.wg.Go(s.runRounds)
	s.wg.Go(s.runUploads)
	s.wg.Go(s.runBehind)
	s.wg.Go(s.runWork)
	s.wg.Go(s.runAudits)
	s.wg.Go(s.runMaintenance)
	return s, nil
}

// localDir is the directory for local state that may be lost.
const localDir = "zstor"

// takeLock makes the directory for local state and locks it against a second zstor.
func (s *Store) takeLock() error {
	dir := filepath.Join(s.state, localDir)
	if err := note.MakeDir(dir); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%w: %s", ErrInUse, s.state)
		}
		return fmt.Errorf("lock state directory: %w", err)
	}
	s.file = f
	return nil
}

// resume takes up the ownership that the state directory notes, if any.
func (s *Store) resume() error {
	n, err := s.set.Resume()
	switch {
	case errors.Is(err, quorum.ErrNoNote):
		return nil
	case err != nil:
		return err
	case n.Recovering:
		s.role = roleRecovering
	default:
		s.role = roleOwner
	}
	return nil
}

// Close ends the round that runs, as far as ctx allows, then stops everything. It is idempotent.
func (s *Store) Close(ctx context.Context) error {
	var errs []error
	s.once.Do(func() {
		s.finishRound(ctx)
		s.stop()
		s.wg.Wait()
		if s.watch != nil {
			errs = append(errs, s.watch.Close())
		}
		if s.set != nil {
			errs = append(errs, s.set.Close())
		}
		for _, p := range s.peers {
			errs = append(errs, p.Close())
		}
		for _, m := range s.metas {
			if c, ok := m.(interface{ Close() error }); ok {
				errs = append(errs, c.Close())
			}
		}
		if s.file != nil {
			errs = append(errs, s.file.Close())
		}
	})
	return errors.Join(errs...)
}

// Drain lets what was announced reach a cut, as far as ctx allows. It stops nothing.
func (s *Store) Drain(ctx context.Context) { s.finishRound(ctx) }

// finishRound lets what was announced reach a cut, if something was and ctx allows it.
func (s *Store) finishRound(ctx context.Context) {
	if s.watch == nil || ctx.Err() != nil || !s.dirty() {
		return
	}
	if err := s.round(ctx); err != nil {
		s.log.Warn("the last round did not finish", "error", err)
	}
}

// recordKeys gives package record its keys.
type recordKeys struct{ ring *keys.Ring }

func (r recordKeys) KeyEpochs() []uint32 {
	var out []uint32
	for _, e := range r.ring.Epochs() {
		out = append(out, uint32(e))
	}
	return out
}

func (r recordKeys) RecordKey(e uint32) ([32]byte, bool) {
	k, err := r.ring.Record(keys.Epoch(e))
	return k.Secret, err == nil
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
