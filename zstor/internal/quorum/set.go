package quorum

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"qsfs/zstor/internal/record"
)

// Options of Open. Nodes, Sealer and Notebook are needed, the rest has defaults.
type Options struct {
	Nodes           []Node
	Write, Read     int // quorums; 0 takes Defaults
	RedundantGroups int // groups whose loss must be survived
	Sealer          *record.Sealer
	Notebook        Notebook
	Log             *slog.Logger // nil discards
	Host            string       // told to whoever is fenced

	// CallTimeout bounds one call to one node, the wait for its turn included (default 15 s).
	CallTimeout time.Duration
	// Patience is how long reads, claims and listings wait for further nodes once a quorum has answered (default
	// 1 s). Writes return at once when W nodes count; their stragglers go on in the background, at most CallTimeout, and
	// at most 256 calls or 4 MiB for one node.
	Patience time.Duration
	// Backoff is the longest first pause after a lost claim (default 500 ms); it doubles with each further one.
	Backoff time.Duration
	// TombstoneGrace is how long a tombstone stays after all nodes have it, so that a late message cannot bring back
	// what it deleted (default 1 h).
	TombstoneGrace time.Duration
	// MaxCalls bounds the calls in flight to one node (default 64).
	MaxCalls int

	rand       io.Reader // nil: crypto/rand
	stragglers int       // of one node; 0: maxStragglers
	without    rule
}

// counterBlock is how many version counters are reserved with one write of the note.
const counterBlock = 1 << 12

// A Set is the metadata nodes seen as one store of records. It is safe for concurrent use.
//
// Lock order: maintain, noteMu, mu. Nothing waits for a node while it holds mu; saving the note holds noteMu.
type Set struct {
	o       Options
	nodes   []Node
	w, r    int
	sealer  *record.Sealer
	log     *slog.Logger
	without rule

	life context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup
	sems []chan struct{} // bounds calls in flight, by node

	maintain gate // one rebuild, prune or forget at a time

	noteMu  gate
	note    Note // what the notebook holds, or will with the next save
	counter uint64
	loaded  bool // counter and note belong to owner

	mu         sync.Mutex
	owner      record.Owner // zero: not an owner
	ownerValue []byte
	rounds     []int          // bumped when a node's rebuild starts or ends
	missed     []int          // records that a node did not take since its last rebuild
	lags       []lag          // by node
	unseen     []bool         // nodes of which it is not known what they missed before this run
	began      record.Version // what is below was written before this run
	ops        map[*sendOp]struct{}
	closed     bool
}

// Open checks the options and returns a Set that owns nothing yet: it can read; Format, Recover, TakeOver or Resume
// make it an owner.
func Open(o Options) (*Set, error) {
	if o.Sealer == nil || o.Notebook == nil {
		return nil, errors.New("quorum: Sealer and Notebook are needed")
	}
	m := len(o.Nodes)
	if o.Write == 0 && o.Read == 0 {
		o.Write, o.Read = Defaults(m)
	}
	if err := checkOptions(&o); err != nil {
		return nil, fmt.Errorf("metadata nodes: %w", err)
	}
	setDefault(&o.CallTimeout, 15*time.Second)
	setDefault(&o.Patience, time.Second)
	setDefault(&o.Backoff, 500*time.Millisecond)
	setDefault(&o.TombstoneGrace, time.Hour)
	if o.MaxCalls <= 0 {
		o.MaxCalls = 64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.stragglers == 0 {
		o.stragglers = maxStragglers
	}
	if o.rand == nil {
		o.rand = rand.Reader
	}
	s := &Set{
		o: o, nodes: o.Nodes, w: o.Write, r: o.Read, sealer: o.Sealer, log: o.Log, without: o.without,
		maintain: newGate(), noteMu: newGate(),
		rounds: make([]int, m), missed: make([]int, m), unseen: make([]bool, m), lags: make([]lag, m),
		ops: make(map[*sendOp]struct{}),
	}
	for range m {
		s.sems = append(s.sems, make(chan struct{}, o.MaxCalls))
	}
	s.life, s.stop = context.WithCancel(context.Background())
	return s, nil
}

func checkOptions(o *Options) error {
	var groups []string
	ids := make(map[string]bool)
	for _, n := range o.Nodes {
		if ids[n.ID()] {
			return fmt.Errorf("%s is listed twice", n.ID())
		}
		ids[n.ID()] = true
		groups = append(groups, n.Group())
	}
	if err := checkSizes(len(groups), o.Write, o.Read); err != nil {
		return err
	}
	if err := checkOverlap(len(groups), o.Write, o.Read); err != nil && o.without != ruleQuorumsOverlap {
		return err
	}
	if err := checkGroups(groups, o.Write, o.Read, o.RedundantGroups); err != nil && o.without != ruleGroupMayFail {
		return err
	}
	return nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// Close stops what runs in the background and waits for it. The note is brought up to date first.
func (s *Set) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	if was {
		return nil
	}
	s.noteMu.lock()
	defer s.noteMu.unlock()
	if !s.loaded {
		return nil
	}
	n := s.note.clone()
	n.Reserved = s.counter // what was reserved but not used is given back
	if err := s.renote(n); !errors.Is(err, ErrNoNote) {
		return err
	}
	return nil // it was put away, and nothing is to be given back
}

// Quorums gives the numbers of nodes, W and R.
func (s *Set) Quorums() (m, w, r int) { return len(s.nodes), s.w, s.r }

// Owner is the epoch that this Set owns; false when it owns none. An owner may have been fenced without knowing.
func (s *Set) Owner() (record.Owner, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner, s.owner.Epoch != 0
}

func (s *Set) ownerValueOf() (record.Owner, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner, s.ownerValue
}

// own makes o the owner that this Set acts as.
func (s *Set) own(o record.Owner) error {
	v, err := s.sealer.SealOwner(o)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owner, s.ownerValue = o, v
	return nil
}

// Disown is for a state directory that was put away with its note: this Set is no owner any more, and reads only.
// What is under way fails with its next version or cut. Recover makes it an owner again.
func (s *Set) Disown() { s.disown() }

// disown forgets the ownership: this Set reads only.
func (s *Set) disown() {
	s.mu.Lock()
	s.owner, s.ownerValue = record.Owner{}, nil
	s.mu.Unlock()
	s.noteMu.lock()
	s.loaded = false
	s.noteMu.unlock()
}

// nextVersion gives a version that was never given before: its counter is reserved durably.
func (s *Set) nextVersion() (record.Version, error) {
	owner, _ := s.ownerValueOf()
	s.noteMu.lock()
	defer s.noteMu.unlock()
	if owner.Epoch == 0 || !s.loaded || !owner.Same(s.note.Owner) {
		return record.Version{}, ErrNotOwner
	}
	if s.counter >= s.note.Reserved {
		n := s.note.clone()
		n.Reserved = s.counter + counterBlock
		if s.keeps(ruleCountersReserved) {
			if err := s.renote(n); err != nil {
				return record.Version{}, fmt.Errorf("reserve counters: %w", err)
			}
		}
		s.note = n
	}
	v := record.Version{Epoch: owner.Epoch, Counter: s.counter, Rand: s.random64()}
	s.counter++
	return v, nil
}

func (s *Set) random(b []byte) {
	if _, err := io.ReadFull(s.o.rand, b); err != nil {
		panic("quorum: no random numbers: " + err.Error()) // crypto/rand never fails
	}
}

func (s *Set) random64() uint64 {
	var b [8]byte
	s.random(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// Writer names the owner and the counter that its next version will have at least.
func (s *Set) Writer() record.Writer {
	s.noteMu.lock()
	defer s.noteMu.unlock()
	return record.Writer{Epoch: s.note.Owner.Epoch, Counter: s.counter}
}

// start adopts o: its note is saved with the given cuts, and counters go on at reserved.
func (s *Set) start(n Note) error {
	s.noteMu.lock()
	defer s.noteMu.unlock()
	if err := s.own(n.Owner); err != nil {
		return err
	}
	s.note, s.counter, s.loaded = n.clone(), n.Reserved, true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = record.Version{Epoch: n.Owner.Epoch, Counter: n.Reserved}
	for i := range s.unseen {
		s.unseen[i] = true
	}
	return nil
}

// A gate is a lock that may be held while its holder waits for a node or for the disk. (A simulated wait inside a
// mutex would not be seen as waiting.)
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

func (g gate) lock()   { g <- struct{}{} }
func (g gate) unlock() { <-g }

// lockCtx gives up when ctx ends.
func (g gate) lockCtx(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func now() time.Time { return time.Now().UTC() }
