// Package index keeps, in Badger, where the newest entry of each key lies in the log.
//
// It holds nothing that the log has not made durable, records how far it has
// come in the same transactions, and can be dropped at any time: the log is the truth.
// Its values carry a checksum of their own; what does not check is ErrBroken, and the owner rebuilds.
package index

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const (
	// MemTableSize is Badger's; ErrTxnTooBig comes at 15 % of it.
	MemTableSize = 8 << 20
	// A transaction holds no more than this.
	maxTxnBytes   = 1 << 20
	maxTxnEntries = 8192 - 64
	// valueLogSize is the smallest that Badger takes; no value ever goes there.
	valueLogSize = 1 << 20

	// Fewer levels and more runs at once than Badger's own choice: keys come in no order, so what a level holds is written again
	// for each run that arrives from above.
	baseLevelSize   = 128 << 20
	baseTableSize   = 2 << 20
	levelZeroTables = 8
	// blockSize of tables: four times Badger's own. Fewer blocks are fewer things to make and shorter searches through cold memory.
	blockSize = 16 << 10

	// Marks beside the directory: an opening, and an open index. What a process
	// leaves of them says where it died.
	openingMark = "opening"
	openMark    = ".open" // behind the name of the directory
)

// ErrBroken says that the index cannot be used and must be rebuilt.
var ErrBroken = errors.New("index is broken")

// Index is an open index. It closes with its last user after Retire.
type Index struct {
	dir string
	db  *badger.DB
	log *slog.Logger

	mu      sync.Mutex
	refs    int
	retired bool
	drop    bool
	abandon bool
	reads   map[uint64]int // running snapshots by timestamp
	ts      uint64         // of the last transaction

	state  state // what the applier has written; only the applier looks
	broken atomic.Bool
	absent absence
	closed chan struct{} // by the last user

	owner     uint32      // of what is remembered of it
	remembers atomic.Bool // that something may be
}

// Open opens the index in dir, or an empty one. A mark left by an opening that
// never ended, or an error, is ErrBroken: Remove it and open again.
func Open(dir string, log *slog.Logger) (*Index, error) {
	mark := filepath.Join(filepath.Dir(dir), openingMark)
	if _, err := os.Stat(mark); err == nil {
		return nil, fmt.Errorf("%w: an earlier opening never ended", ErrBroken)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return nil, err
	}
	x := &Index{dir: dir, log: log, refs: 1, reads: make(map[uint64]int), closed: make(chan struct{}), owner: indexes.Add(1)}
	db, err := open(dir, log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	x.db, x.ts = db, db.MaxVersion()
	if err := x.load(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, errors.Join(err, db.Close()))
	}
	if err := os.Rename(mark, dir+openMark); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return x, nil
}

// Dirty says whether the index in dir was open when its process died, so that
// opening it writes out what was in memory then.
func Dirty(dir string) bool {
	_, err := os.Stat(dir + openMark)
	return err == nil
}

// open turns a panic of Badger over files it cannot make sense of into an error.
func open(dir string, log *slog.Logger) (db *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("open index: %v", r)
		}
	}()
	o := badger.DefaultOptions(dir).
		WithLogger(quiet{log}).
		WithMemTableSize(MemTableSize).
		WithNumMemtables(2).
		WithNumVersionsToKeep(1).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithChecksumVerificationMode(options.NoVerification).
		WithValueThreshold(maxTxnBytes).
		WithValueLogFileSize(valueLogSize).
		WithNumCompactors(2).
		WithBaseLevelSize(baseLevelSize).
		WithBaseTableSize(baseTableSize).
		WithBlockSize(blockSize).
		WithNumLevelZeroTables(levelZeroTables).
		WithNumLevelZeroTablesStall(2 * levelZeroTables).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithSyncWrites(true)
	db, err = badger.OpenManaged(o)
	if err != nil {
		return nil, err // what Badger returns beside an error is half open and has been cleaned up
	}
	return db, nil
}

// Remove drops the index in dir and the mark beside it.
func Remove(dir string) error {
	err := os.RemoveAll(dir)
	if merr := os.Remove(filepath.Join(filepath.Dir(dir), openingMark)); merr != nil && !errors.Is(merr, os.ErrNotExist) {
		err = errors.Join(err, merr)
	}
	return err
}

// Fail marks the index as broken: its owner found that it contradicts the log.
func (x *Index) Fail(why error) error { return x.fail(why) }

// Broken says whether something in it did not check.
func (x *Index) Broken() bool { return x.broken.Load() }

// Retain adds a user, unless the index is retired.
func (x *Index) Retain() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.retired {
		return false
	}
	x.refs++
	return true
}

// Release takes a user away.
func (x *Index) Release() error {
	x.mu.Lock()
	x.refs--
	last := x.refs == 0
	x.mu.Unlock()
	if !last {
		return nil
	}
	if x.abandon {
		return nil
	}
	err := x.db.Close()
	if err == nil {
		err = os.Remove(x.dir + openMark)
		if errors.Is(err, os.ErrNotExist) {
			err = nil // a newer index has swept it away
		}
	}
	if x.drop {
		err = errors.Join(err, os.RemoveAll(x.dir))
	}
	close(x.closed)
	return err
}

// Done is closed when the last user has gone and the files are no longer in use.
func (x *Index) Done() <-chan struct{} { return x.closed }

// Closed says whether Done is closed.
func (x *Index) Closed() bool {
	select {
	case <-x.closed:
		return true
	default:
		return false
	}
}

// Abandon is Retire on a disk that has no room: closing would write, and end the
// process if the disk cannot take it. The files stay as a crash leaves them, and
// locked: until the process ends, another Open of them is ErrBroken.
func (x *Index) Abandon() {
	x.absent.end()
	x.mu.Lock()
	x.retired, x.abandon = true, true
	x.refs--
	x.mu.Unlock()
}

// Retire takes the user away that Open gave. With drop the files go with the last user.
func (x *Index) Retire(drop bool) error {
	x.absent.end()
	x.mu.Lock()
	x.retired, x.drop = true, x.drop || drop
	x.mu.Unlock()
	return x.Release()
}

// Idle says whether only the one user of Open is left.
func (x *Index) Idle() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.refs == 1
}

// look asks Badger for the newest entry of key.
func (x *Index) look(key []byte) (Entry, bool, error) {
	txn := x.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	return x.get(txn, key)
}

func (x *Index) get(txn *badger.Txn, key []byte) (e Entry, ok bool, err error) {
	item, err := txn.Get(userKey(key))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return e, false, nil
	}
	if err != nil {
		return e, false, x.fail(err)
	}
	err = item.Value(func(p []byte) error {
		e, err = parseEntry(key, p)
		return err
	})
	if err != nil {
		return e, false, x.fail(err)
	}
	return e, true, nil
}

func (x *Index) fail(err error) error {
	x.broken.Store(true)
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

// guard turns a panic of Badger over blocks that are damaged into an error, and the index into a broken one.
func (x *Index) guard(err *error) {
	if r := recover(); r != nil {
		*err = x.fail(fmt.Errorf("badger: %v", r))
		x.log.Warn("index cannot be read", "error", *err)
	}
}

// Snapshot is the index at one moment.
type Snapshot struct {
	x    *Index
	txn  *badger.Txn
	ts   uint64
	once sync.Once
}

// Snapshot gives the index as it is now. It retains the index until Close.
func (x *Index) Snapshot() *Snapshot {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.refs++
	x.reads[x.ts]++
	return &Snapshot{x: x, ts: x.ts, txn: x.db.NewTransactionAt(x.ts, false)}
}

// Close ends the snapshot.
func (s *Snapshot) Close() error {
	var err error
	s.once.Do(func() {
		s.txn.Discard()
		s.x.mu.Lock()
		if s.x.reads[s.ts]--; s.x.reads[s.ts] == 0 {
			delete(s.x.reads, s.ts)
		}
		s.x.mu.Unlock()
		err = s.x.Release()
	})
	return err
}

// committed notes a transaction and lets Badger drop what no reader can see any more.
func (x *Index) committed(ts uint64) {
	x.mu.Lock()
	x.ts = ts
	oldest := ts
	for r := range x.reads {
		oldest = min(oldest, r)
	}
	x.mu.Unlock()
	x.db.SetDiscardTs(oldest)
}

type quiet struct{ log *slog.Logger }

func (q quiet) Errorf(f string, a ...any)   { q.log.Error("index", "badger", fmt.Sprintf(f, a...)) }
func (q quiet) Warningf(f string, a ...any) { q.log.Warn("index", "badger", fmt.Sprintf(f, a...)) }
func (q quiet) Infof(string, ...any)        {}
func (q quiet) Debugf(string, ...any)       {}

// Size is what its files take up on the disk.
func (x *Index) Size() int64 {
	entries, err := os.ReadDir(x.dir)
	if err != nil {
		return 0
	}
	sum := int64(0)
	for _, e := range entries {
		// By blocks: some files are made much longer than what is in them.
		if info, err := e.Info(); err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += s.Blocks * 512
			}
		}
	}
	return sum
}

// Verify reads all of the index and checks Badger's own sums.
func (x *Index) Verify() error {
	if err := x.db.VerifyChecksum(); err != nil {
		return x.fail(err)
	}
	return nil
}

// Dir is where its files are.
func (x *Index) Dir() string { return x.dir }
