package quorum

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zstor/internal/record"
)

// A simMachine is a state directory: what survives the death of its process.
type simMachine struct {
	w    *simWorld
	id   int
	note *Note  // nil: none
	head uint64 // token of the local state
	proc *simProcess
	set  *Set // of the last process that became an owner
	// fenced is set once a process was told that it was fenced: only a takeover helps.
	fenced bool
}

type simMode int

const (
	modeFormat   simMode = iota // first use, then work
	modeResume                  // after a restart
	modeRecover                 // on an empty machine, or to go on with a recovery
	modeTakeOver                // an old machine comes back
	modeLast                    // the last recovery: read and check, nothing else
)

// A simProcess is one run of the daemon on a machine.
type simProcess struct {
	w        *simWorld
	machine  *simMachine
	id       int
	rng      *rand.Rand
	ctx      context.Context
	cancel   context.CancelFunc
	dead     bool // its goroutines see it only while the scheduler waits, or under w.mu
	ended    atomic.Bool
	err      error
	gate     chan struct{} // the work begins
	rebuilds chan simRebuild
	ending   bool   // takes no more rebuilds; guarded by w.mu
	phase    string // kind of its last call
}

func (w *simWorld) newMachine() *simMachine {
	m := &simMachine{w: w, id: len(w.machines)}
	w.machines = append(w.machines, m)
	return m
}

// Load and Save make a machine a Notebook; a dead process writes nothing.
type simNotebook struct{ p *simProcess }

func (n simNotebook) Load() (Note, error) {
	if n.p.machine.note == nil {
		return Note{}, ErrNoNote
	}
	return n.p.machine.note.clone(), nil
}

func (n simNotebook) Save(note Note) error {
	n.p.w.mu.Lock()
	defer n.p.w.mu.Unlock()
	if n.p.dead {
		return errDead
	}
	c := note.clone()
	n.p.machine.note = &c
	return nil
}

// randReader feeds a process's random numbers from the seed.
type randReader struct{ r *rand.Rand }

func (r randReader) Read(b []byte) (int, error) {
	for i := 0; i < len(b); i += 8 {
		var v [8]byte
		binary.LittleEndian.PutUint64(v[:], r.r.Uint64())
		copy(b[i:], v[:])
	}
	return len(b), nil
}

func (m *simMachine) start(mode simMode) *simProcess {
	w := m.w
	p := &simProcess{w: w, machine: m, id: w.processID(), rng: rand.New(rand.NewPCG(w.rng.Uint64(), w.rng.Uint64())), gate: make(chan struct{}), rebuilds: make(chan simRebuild, 64)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	m.proc = p
	var nodes []Node
	for i := range w.nodes {
		nodes = append(nodes, &simClient{p, i})
	}
	set, err := Open(Options{
		Nodes: nodes, Write: w.top.w, Read: w.top.r, RedundantGroups: w.top.rg, Sealer: w.sealer, Notebook: simNotebook{p},
		CallTimeout: 3 * time.Second, Patience: 200 * time.Millisecond, Backoff: 100 * time.Millisecond,
		TombstoneGrace: 2 * simLifetime, rand: randReader{p.rng}, stragglers: w.stragglers, without: w.without,
	})
	if err != nil {
		p.err = err
		p.ended.Store(true)
		w.check.broken("open: %v", err)
		return p
	}
	w.check.note("start m%d/p%d mode %d", m.id, p.id, mode)
	go func() {
		p.err = p.life(set, mode)
		p.cancel()
		if err := set.Close(); err != nil && !errors.Is(err, errDead) {
			p.err = errors.Join(p.err, err)
		}
		p.ended.Store(true)
		w.check.note("end m%d/p%d: %v", m.id, p.id, p.err)
	}()
	return p
}

// processID numbers processes.
func (w *simWorld) processID() int {
	w.started++
	return w.started
}

// kill ends a process between two instructions: what it had under way goes on without it, or not.
func (p *simProcess) kill() {
	w := p.w
	w.settle()
	w.mu.Lock()
	p.dead = true
	w.mu.Unlock()
	w.check.note("kill m%d/p%d", p.machine.id, p.id)
	w.seen.Crashed++
	var mine, rest []*simMessage
	for _, m := range w.pending {
		if m.from == p {
			mine = append(mine, m)
		} else {
			rest = append(rest, m)
		}
	}
	w.pending = rest
	for _, m := range mine {
		if !m.ran && !m.half && w.rng.IntN(2) == 0 {
			w.late = append(w.late, m)
		}
		m.ch <- simReply{err: errDead}
	}
	p.cancel()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

func (p *simProcess) goOn() { close(p.gate) }

// restart starts the daemon again, in the way that the state directory asks for.
func (m *simMachine) restart() bool {
	switch {
	case m.note == nil:
		if m.id == 0 {
			return false
		}
		m.start(modeRecover)
	case m.note.Recovering:
		m.start(modeRecover)
	case m.fenced:
		m.start(modeTakeOver)
	default:
		m.start(modeResume)
	}
	return true
}

var errStop = errors.New("simulated: nothing more to do")

// life is what a daemon does: become the owner, then work until it is fenced.
func (p *simProcess) life(s *Set, mode simMode) error {
	m, w := p.machine, p.w
	switch mode {
	case modeFormat:
		o, err := s.Format(p.ctx)
		if err != nil {
			return err
		}
		w.check.claims(o)
		m.set = s
		<-p.gate
	case modeResume:
		note, err := s.Resume()
		if err != nil {
			return err
		}
		w.check.owns(note.Owner)
		w.seen.Resumed++
	case modeRecover, modeLast:
		if err := p.recover(s, mode); err != nil {
			return err
		}
		if mode == modeLast {
			return p.lastReads(s)
		}
	case modeTakeOver:
		if err := p.takeOver(s); err != nil {
			return err
		}
	}
	m.fenced = false
	// One goroutine does all rebuilds, beside the work: with two, chance would choose who comes first.
	var repair sync.WaitGroup
	defer repair.Wait()
	defer close(p.rebuilds)
	repair.Go(func() {
		for r := range p.rebuilds {
			err := p.doRebuild(s, r.node)
			if err != nil && r.done == nil && !p.isDead() {
				err = p.doRebuild(s, r.node) // once more; then the next owner does it
			}
			if r.done != nil {
				r.done <- err
			}
		}
	})
	defer func() { p.setEnding() }()
	for range w.profile.ops {
		if p.isDead() {
			return errDead
		}
		err := p.work(s)
		if errors.Is(err, ErrFenced) {
			m.fenced = true
			w.seen.Fenced++
			return err
		}
		if errors.Is(err, errDead) {
			return err
		}
	}
	return nil
}

func (p *simProcess) isDead() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.dead
}

func (p *simProcess) recover(s *Set, mode simMode) error {
	m, w := p.machine, p.w
	before := w.check.ackedSoFar()
	out, err := s.Recover(p.ctx)
	if p.isDead() {
		return errDead
	}
	if errors.Is(err, ErrInUse) {
		w.check.broken("recovery refuses its own note")
	}
	if err != nil {
		return err
	}
	w.seen.Recovered++
	if !out.Resumed {
		w.check.claims(out.Owner)
	} else {
		w.check.owns(out.Owner)
	}
	if out.Cut == nil {
		w.check.foundCut("recovery", 0, before)
		m.head = 0
	} else {
		if !out.Resumed { // one that goes on may have been fenced since; its next acknowledgement tells
			w.check.foundCut("recovery", out.Cut.Session, before)
			w.check.ackCut("recovery", out.Cut.Session, before)
		}
		m.head = out.Cut.Session
	}
	if mode != modeLast && p.rng.IntN(3) == 0 { // restoring takes its time, and may be broken off
		time.Sleep(time.Duration(p.rng.IntN(2000)) * time.Millisecond)
		if p.rng.IntN(2) == 0 {
			return errStop
		}
	}
	if p.isDead() {
		return errDead
	}
	return s.FinishRecovery()
}

func (p *simProcess) takeOver(s *Set) error {
	m, w := p.machine, p.w
	before := w.check.ackedSoFar()
	out, err := s.TakeOver(p.ctx)
	if p.isDead() {
		return errDead
	}
	if err != nil {
		if errors.Is(err, ErrStale) {
			w.seen.Stale++
			m.note = nil // renamed aside; the machine may only recover
		}
		return err
	}
	w.seen.TakeOvers++
	w.check.claims(out.Owner)
	if out.Cut == nil {
		w.check.foundCut("takeover", 0, before)
	} else {
		// The state contains the cut it found, for the cut is its own.
		if !w.check.contains(m.head, out.Cut.Session) {
			w.check.broken("takeover with state %d, which lacks the cut %d it goes on from", m.head, out.Cut.Session)
		}
		w.check.foundCut("takeover", m.head, before)
		w.check.ackCut("takeover", out.Cut.Session, before)
	}
	return nil
}

func (p *simProcess) work(s *Set) error {
	w := p.w
	if bad := w.incomplete(); len(bad) > 0 && p.rng.IntN(2) == 0 {
		return p.rebuild(s, bad[p.rng.IntN(len(bad))])
	}
	x := 0
	for _, n := range w.profile.mix {
		x += n
	}
	x = p.rng.IntN(x)
	op := 0
	for ; x >= w.profile.mix[op]; op++ {
		x -= w.profile.mix[op]
	}
	switch op {
	case opCut:
		return p.cut(s)
	case opPut:
		return p.register(s, false)
	case opTombstone:
		return p.register(s, true)
	case opRead:
		return p.readRegister(s, "reg")
	case opRebuild:
		return p.rebuild(s, p.rng.IntN(len(w.nodes)))
	case opPrune:
		_, err := s.Prune(p.ctx, record.KindCut, record.CutObject, 1)
		return err
	case opForget:
		return p.forget(s)
	default: // a quiet filesystem: what happens meanwhile it learns with its next call
		time.Sleep(time.Duration(p.rng.IntN(3000)) * time.Millisecond)
		return nil
	}
}

// A simRebuild asks for a rebuild; done is nil when nobody waits for it.
type simRebuild struct {
	node int
	done chan error
}

func (p *simProcess) setEnding() {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.ending = true
}

func (p *simProcess) rebuild(_ *Set, i int) error {
	r := simRebuild{i, make(chan error, 1)}
	p.rebuilds <- r
	return <-r.done
}

func (p *simProcess) doRebuild(s *Set, i int) error {
	_, err := s.RebuildNode(p.ctx, i)
	if err == nil {
		p.w.seen.Rebuilt++
	}
	return err
}

func (p *simProcess) cut(s *Set) error {
	m, w := p.machine, p.w
	m.head = w.check.newToken(m.head)
	c := &record.Cut{Session: m.head, Time: time.Unix(1, 0)}
	w.check.note("m%d publishes %d", m.id, c.Session)
	before := w.check.ackedSoFar()
	_, err := s.PublishCut(p.ctx, c)
	if p.isDead() {
		return errDead
	}
	if err == nil {
		w.check.ackCut("acknowledgement", c.Session, before)
	} else {
		w.check.note("m%d publish %d failed: %v", m.id, c.Session, err)
	}
	return err
}

func (p *simProcess) register(s *Set, del bool) error {
	w := p.w
	var v record.Version
	var err error
	if del {
		v, err = s.Tombstone(p.ctx, record.KindManifest, "reg", record.Version{})
	} else {
		v, err = s.Put(p.ctx, record.KindManifest, "reg", []byte(fmt.Sprint(p.rng.Uint32())))
	}
	if p.isDead() {
		return errDead
	}
	if err == nil {
		w.check.settle("reg", v, del)
	}
	return err
}

func (p *simProcess) readRegister(s *Set, object string) error {
	w := p.w
	before := w.check.floorOf(object)
	f, err := s.Newest(p.ctx, record.KindManifest, object)
	if p.isDead() {
		return errDead
	}
	if err == nil || errors.Is(err, ErrNotFound) {
		w.check.read(object, f.Version, f.Tombstone, before)
		if f.Settled {
			w.check.settle(object, f.Version, f.Tombstone)
		}
		return nil
	}
	return err
}

func (p *simProcess) forget(s *Set) error {
	gone, err := s.Forget(p.ctx, record.KindManifest, "reg")
	if err == nil && !gone && p.rng.IntN(2) == 0 {
		time.Sleep(2*simLifetime + time.Second)
		gone, err = s.Forget(p.ctx, record.KindManifest, "reg")
	}
	if gone {
		p.w.seen.Forgotten++
	}
	return err
}

// lastReads checks the registers after the last recovery.
func (p *simProcess) lastReads(s *Set) error {
	if err := p.readRegister(s, "reg"); err != nil {
		return fmt.Errorf("last read: %w", err)
	}
	if p.w.without != noRule || p.w.profile.damage {
		return nil
	}
	return p.lastRepairs(s)
}

// lastRepairs: whatever the processes before forgot when they ended, the last owner finds, and then every node that
// is there has the newest version of every record that was acknowledged.
func (p *simProcess) lastRepairs(s *Set) error {
	w := p.w
	if err := s.FindLagging(p.ctx); err != nil {
		return fmt.Errorf("compare nodes: %w", err)
	}
	st := s.Status(p.ctx)
	if st.Unseen() {
		return errors.New("nodes that answer were not compared")
	}
	newest := map[record.Family]record.Name{} // on nodes that count: what another may have was never acknowledged
	for i, n := range w.nodes {
		for name := range n.data {
			k, err := record.ParseName([]byte(name))
			if err == nil && st.Nodes[i].Counts && k.Version().Compare(newest[k.Family()].Version()) >= 0 {
				newest[k.Family()] = k
			}
		}
	}
	for _, i := range st.NeedsRebuild() {
		if st.Nodes[i].Missed > 0 {
			w.seen.Lagging++
		}
		if err := p.doRebuild(s, i); errors.Is(err, ErrQuorum) {
			return nil // a site is lost, and the others are too few to rebuild from
		} else if err != nil {
			return fmt.Errorf("rebuild: %w", err)
		}
	}
	for _, n := range w.nodes {
		for _, k := range newest {
			if _, has := n.data[string(k[:])]; !has && !n.down {
				return fmt.Errorf("%s still lacks %v", n.id, k)
			}
		}
	}
	return nil
}
