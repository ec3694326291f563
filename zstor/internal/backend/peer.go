package backend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Timing of the health of a node.
const (
	probeEvery   = 2 * time.Second        // of a node that is up
	backoffFirst = 250 * time.Millisecond // of a node that is down, doubling
	backoffMax   = 5 * time.Second
	fullFor      = 30 * time.Second // a node that had no room is not chosen
	ewma         = 0.2
)

// PeerOptions describes one node. Zero values take the defaults.
type PeerOptions struct {
	ID    string
	Group string
	// Timeout bounds one operation. Default 15 s: a shard of 8 MiB on a slow line.
	Timeout time.Duration
	// ProbeTimeout bounds a probe. Default 5 s.
	ProbeTimeout time.Duration
	// ProbeEvery is the pause between probes. Default 2 s.
	ProbeEvery time.Duration
	// Parallel bounds the operations in flight on this node. Default 8.
	Parallel int
	// Durability, when set, overrides what the node says (the configuration knows better).
	Durability *Durability
	// OnChange is called, from a goroutine of the peer, after the node went up or down.
	OnChange func(p *Peer, up bool)
}

// Peer is a backend with a memory: latency and error scores, back-off while the node is away, and
// a prober that notices when it is back. It implements Backend.
type Peer struct {
	o     PeerOptions
	b     Backend
	slots chan struct{}
	kick  chan struct{}
	stop  context.CancelFunc
	done  chan struct{}

	failures atomic.Int64
	deleting atomic.Int64 // names that the node was asked to delete
	deleted  atomic.Int64 // of those, names whose deletion has ended somehow
	infoMu   sync.Mutex   // looks at the node come one after the other

	// mu guards what follows.
	mu      sync.Mutex
	known   bool // at least one answer since the start
	up      bool
	since   time.Time // of the last change
	latency time.Duration
	errors  float64 // share of failures of late, 0..1
	lastErr error
	info    Info
	answer  time.Time // of the last answer
	fullAt  time.Time // of the last answer that there is no room
	life    int64     // 0: never answered; see Life
	gone    int64     // deleted, before info was asked for
}

var _ Backend = (*Peer)(nil)

// NewPeer wraps b and starts its prober; Close stops both.
func NewPeer(b Backend, o PeerOptions) *Peer {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.Timeout, 15*time.Second)
	def(&o.ProbeTimeout, 5*time.Second)
	def(&o.ProbeEvery, probeEvery)
	if o.Parallel <= 0 {
		o.Parallel = 8
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Peer{o: o, b: b, slots: make(chan struct{}, o.Parallel), kick: make(chan struct{}, 1), stop: cancel, done: make(chan struct{}), since: time.Now()}
	go p.probe(ctx)
	return p
}

// ID names the node.
func (p *Peer) ID() string { return p.o.ID }

// Group names its group.
func (p *Peer) Group() string { return p.o.Group }

// Up reports whether the node answered the last time it was asked.
func (p *Peer) Up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

// Health is a snapshot for status and for choices.
type Health struct {
	Up       bool
	Since    time.Time
	Answered time.Time
	Latency  time.Duration
	Errors   float64
	Last     error
	Info     Info
	Failures int64
	Full     bool // it said so lately
}

// Health gives a snapshot.
func (p *Peer) Health() Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Health{Up: p.up, Since: p.since, Answered: p.answer, Latency: p.latency, Errors: p.errors, Last: p.lastErr, Info: p.info, Failures: p.failures.Load(), Full: time.Since(p.fullAt) < fullFor}
}

// Score is small for a node that answers fast and without errors: its expected latency,
// stretched by its recent errors. A node that is down scores worst.
func (p *Peer) Score() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.latency + time.Duration(float64(2*time.Second)*p.errors)
	if !p.up {
		s += time.Hour
	}
	return s
}

// Life tells the lives of a node apart: 1 from its first answer on, one more each time it turns out to be another one
// than before. That is another incarnation, or, of a node that has none, fewer entries than it had, what was deleted
// taken off. What it acknowledged in an earlier life may be gone. It comes with what the node said last.
func (p *Peer) Life() (int64, Info) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life, p.info
}

// Distrust lowers the score after an answer that did not verify.
func (p *Peer) Distrust() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errors += ewma * (1 - p.errors)
	p.failures.Add(1)
}

// Durability is what an acknowledgement of this node is worth; unconfirmed while it is unknown.
func (p *Peer) Durability() Durability {
	if p.o.Durability != nil {
		return *p.o.Durability
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known {
		return Durability{Unconfirmed: true}
	}
	return p.info.Durability
}

// Put stores a shard.
func (p *Peer) Put(ctx context.Context, name, value []byte) error {
	return p.run(ctx, "put", func(ctx context.Context) error { return p.b.Put(ctx, name, value) })
}

// Get reads a shard.
func (p *Peer) Get(ctx context.Context, name []byte) (v []byte, err error) {
	err = p.run(ctx, "get", func(ctx context.Context) error {
		v, err = p.b.Get(ctx, name)
		return err
	})
	return v, err
}

// Has asks for claims of presence.
func (p *Peer) Has(ctx context.Context, names [][]byte) (has []bool, err error) {
	err = p.run(ctx, "has", func(ctx context.Context) error {
		has, err = p.b.Has(ctx, names)
		return err
	})
	return has, err
}

// Delete removes shards.
func (p *Peer) Delete(ctx context.Context, names [][]byte) error {
	p.deleting.Add(int64(len(names)))
	defer p.deleted.Add(int64(len(names)))
	return p.run(ctx, "delete", func(ctx context.Context) error { return p.b.Delete(ctx, names) })
}

// Info contacts the node, down or not.
func (p *Peer) Info(ctx context.Context) (Info, error) {
	p.infoMu.Lock()
	defer p.infoMu.Unlock()
	start := time.Now()
	gone := p.deleted.Load()
	in, err := p.b.Info(ctx)
	asked := p.deleting.Load()
	if err == nil {
		p.mu.Lock()
		if !p.known || in.Incarnation != p.info.Incarnation || in.Incarnation == "" && in.Entries < p.info.Entries-(asked-p.gone) {
			p.life++
		}
		p.info, p.known, p.gone = in, true, gone
		p.mu.Unlock()
	}
	p.note(ctx, start, err) // after it: whoever hears that the node is up sees its life
	if err != nil {
		return Info{}, &NodeError{Node: p.o.ID, Op: "info", Err: err}
	}
	return in, nil
}

// Close stops the prober and closes the node.
func (p *Peer) Close() error {
	p.stop()
	<-p.done
	return p.b.Close()
}

// run does one operation on a node that is up, bounded in time and number.
func (p *Peer) run(ctx context.Context, op string, f func(context.Context) error) error {
	if !p.Up() {
		return &NodeError{Node: p.o.ID, Op: op, Err: p.downError()}
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return &NodeError{Node: p.o.ID, Op: op, Err: ctx.Err()}
	}
	opCtx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	start := time.Now()
	err := f(opCtx)
	p.note(ctx, start, err)
	if err != nil {
		return &NodeError{Node: p.o.ID, Op: op, Err: err}
	}
	return nil
}

func (p *Peer) downError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lastErr != nil && !errors.Is(p.lastErr, ErrDown) {
		return fmt.Errorf("%w: %w", ErrDown, p.lastErr)
	}
	return ErrDown
}

// note learns from an outcome. That a caller gave up says nothing about the node, unless the
// cause says that the node was too slow. It has to be the very ErrLate: a caller that gives up because
// some other node is down has a cause that wraps an ErrDown, too.
func (p *Peer) note(ctx context.Context, start time.Time, err error) {
	if err != nil && ctx.Err() != nil {
		if context.Cause(ctx) != ErrLate {
			return
		}
		err = ErrLate
	}
	took := time.Since(start)
	alive := Answered(err)
	usable := alive && !errors.Is(err, ErrPassword) && !errors.Is(err, ErrNoNamespace)
	p.mu.Lock()
	if errors.Is(err, ErrFull) {
		p.fullAt = time.Now()
	}
	if alive {
		p.answer = time.Now()
		if p.latency == 0 {
			p.latency = took
		} else {
			p.latency += time.Duration(ewma * float64(took-p.latency))
		}
	}
	bad := 0.0
	if !alive {
		bad = 1
	}
	p.errors += ewma * (bad - p.errors)
	if usable {
		if errors.Is(err, ErrAbsent) {
			err = nil
		}
		p.lastErr = err
	} else {
		p.lastErr = err
		p.failures.Add(1)
	}
	changed := p.up != usable
	if changed {
		p.up, p.since = usable, time.Now()
	}
	p.mu.Unlock()
	if changed {
		select {
		case p.kick <- struct{}{}:
		default:
		}
		if p.o.OnChange != nil {
			go p.o.OnChange(p, usable)
		}
	}
}

// probe asks the node from time to time: rarely while it is up, with growing pauses while it is
// down. Anything else that goes wrong kicks it.
func (p *Peer) probe(ctx context.Context) {
	defer close(p.done)
	pause := backoffFirst
	for {
		pctx, cancel := context.WithTimeout(ctx, p.o.ProbeTimeout)
		_, err := p.Info(pctx)
		if err != nil && ctx.Err() == nil && pctx.Err() != nil {
			p.note(ctx, time.Now(), ErrDown)
		}
		cancel()
		wait := p.o.ProbeEvery
		if p.Up() {
			pause = backoffFirst
		} else {
			wait = min(pause, p.o.ProbeEvery*4)
			pause = min(2*pause, backoffMax)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-time.After(wait):
		}
	}
}
