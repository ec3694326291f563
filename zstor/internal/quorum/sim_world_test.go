package quorum

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qsfs/zstor/internal/record"
)

// A simWorld is one schedule: nodes, machines, and messages that a seeded scheduler delivers one at a time, late,
// twice or never. It runs inside a synctest bubble: the scheduler acts only while everybody else waits for it, so the
// code under test runs unchanged and yet in an order that the seed decides.
type simWorld struct {
	rng        *rand.Rand
	without    rule
	nodes      []*simNode
	top        simTopology
	machines   []*simMachine
	check      *simCheck
	sealer     *record.Sealer
	immediate  bool
	stragglers int // of one node, before calls are given up

	mu      sync.Mutex // guards fresh against the processes that one step may wake
	fresh   []*simMessage
	pending []*simMessage
	late    []*simMessage
	started int
	links   map[simLink]float64 // weights; 0: cut off for a while
	profile simProfile
	wipes   int
	crashes int
	flips   int
	asked   int
	steps   int
	seen    simSeen
}

// simSeen counts what a schedule really did, so that a test can tell that its paths were taken.
type simSeen struct {
	Lost, Late, Repeated, Wiped, Rebuilt, Crashed, Resumed, Recovered, TakeOvers, Stale, Fenced, Acked, Forgotten, Damaged, Skipped, Lagging int
}

func (s *simSeen) add(o simSeen) {
	s.Lost += o.Lost
	s.Late += o.Late
	s.Repeated += o.Repeated
	s.Wiped += o.Wiped
	s.Rebuilt += o.Rebuilt
	s.Crashed += o.Crashed
	s.Resumed += o.Resumed
	s.Recovered += o.Recovered
	s.TakeOvers += o.TakeOvers
	s.Stale += o.Stale
	s.Fenced += o.Fenced
	s.Acked += o.Acked
	s.Forgotten += o.Forgotten
	s.Damaged += o.Damaged
	s.Skipped += o.Skipped
	s.Lagging += o.Lagging
}

type simTopology struct {
	groups string // one letter per node
	w, r   int
	rg     int
	bad    bool // refused by Open
}

var simTopologies = []simTopology{
	{groups: "abc", w: 2, r: 2, rg: 1},
	{groups: "abcd", w: 3, r: 2, rg: 1},
	{groups: "aabbcc", w: 4, r: 3, rg: 1},
	{groups: "abc", w: 2, r: 1, rg: 1, bad: true},
	{groups: "aabc", w: 3, r: 2, rg: 1, bad: true},
}

// simProfile says which kinds of trouble a schedule has, and how much.
type simProfile struct {
	lose   float64 // of each message
	late   float64
	repeat float64
	split  float64 // other things happen between the halves of a call
	wipes  int
	crash  int
	damage bool
	ops    int
	aim    bool    // wipes come when they hurt most
	hold   float64 // of each message, for up to a hundred steps
	cutOff float64 // of each link, at each reweighing
	mix    [simOps]int
	every  int // steps between events, about
	flip   int // of how many changes of phase one reweighs the links
}

// What a daemon does, by weight.
const (
	opCut = iota
	opPut
	opTombstone
	opRead
	opRebuild
	opPrune
	opForget
	opIdle
	simOps
)

var simMixes = [][simOps]int{
	{opCut: 10, opPut: 3, opTombstone: 2, opRead: 2, opRebuild: 1, opPrune: 1, opForget: 1, opIdle: 3},
	{opCut: 8, opPrune: 1, opIdle: 6},
	{opCut: 2, opPut: 4, opTombstone: 4, opRead: 4, opForget: 4, opIdle: 2},
	{opCut: 6, opPut: 6, opRead: 4, opRebuild: 2, opIdle: 6},
}

const simLifetime = 5 * time.Second // of a late message

func newWorld(seed uint64, without rule, sealer *record.Sealer) *simWorld {
	w := &simWorld{
		rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), without: without, sealer: sealer,
		check: newCheck(sealer), links: map[simLink]float64{},
		stragglers: []int{maxStragglers, 2, 1, -1}[seed%4], // of the last, none
	}
	good := []int{0, 0, 0, 0, 1, 1, 1, 2}
	t := good[w.rng.IntN(len(good))]
	switch {
	case without == ruleQuorumsOverlap:
		t = 3
	case without == ruleGroupMayFail:
		t = 4
	}
	w.top = simTopologies[t]
	for i, g := range w.top.groups {
		n := &simNode{id: fmt.Sprintf("n%d", i), group: string(g), data: map[string][]byte{}}
		w.newIncarnation(n)
		w.nodes = append(w.nodes, n)
	}
	pick := func(v ...float64) float64 { return v[w.rng.IntN(len(v))] }
	w.profile = simProfile{
		lose: pick(0, 0.02, 0.1, 0.3), late: pick(0, 0.05, 0.2), repeat: pick(0, 0.05, 0.3), split: pick(0, 0.2, 0.5),
		wipes: w.rng.IntN(4), crash: w.rng.IntN(3), ops: 3 + w.rng.IntN(8),
		mix: simMixes[w.rng.IntN(len(simMixes))], every: []int{5, 12, 25}[w.rng.IntN(3)], flip: 1000,
	}
	switch w.rng.IntN(6) { // besides, each schedule has its own style
	case 0, 1:
		w.profile.cutOff, w.profile.flip = 0.25, []int{3, 10}[w.rng.IntN(2)]
	case 2:
		w.profile.cutOff, w.profile.flip, w.profile.lose = 0.4, 3, 0
	case 3:
		w.profile.hold = pick(0.05, 0.2)
	case 4:
		w.profile.aim, w.profile.lose, w.profile.cutOff = true, pick(0, 0.05), pick(0, 0.25)
	}
	if w.rng.IntN(3) == 0 {
		w.profile.wipes += 4
	}
	if w.rng.IntN(8) == 0 {
		w.profile.wipes, w.profile.damage = 0, true
	}
	return w
}

func (w *simWorld) newIncarnation(n *simNode) {
	for i := range n.inc {
		n.inc[i] = byte(w.rng.Uint32())
	}
}

func (w *simWorld) enqueue(m *simMessage) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.from.dead {
		return false
	}
	w.fresh = append(w.fresh, m)
	return true
}

// settle lets everybody run until all wait, and takes up the messages sent meanwhile, in an order that does not
// depend on which goroutine ran first.
func (w *simWorld) settle() {
	synctest.Wait()
	time.Sleep(time.Nanosecond) // no two steps share an instant, or their timers would end in any order
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortFunc(w.fresh, func(a, b *simMessage) int {
		return cmp.Or(cmp.Compare(a.from.id, b.from.id), cmp.Compare(a.node, b.node), strings.Compare(a.what, b.what))
	})
	for _, m := range w.fresh {
		if m.kind != m.from.phase {
			m.from.phase = m.kind
			w.flips++
		}
		if w.rng.Float64() < w.profile.hold {
			m.until = w.steps + w.rng.IntN(100)
		}
	}
	w.pending = append(w.pending, w.fresh...)
	w.fresh = nil
}

// incomplete lists the nodes that do not count at present, whoever asks.
func (w *simWorld) incomplete() []int {
	var out []int
	for i, n := range w.nodes {
		inc, err := w.sealer.OpenMark(n.data[string(record.MarkName)])
		if err != nil || inc != n.inc {
			out = append(out, i)
		}
	}
	return out
}

// tolerated is how many nodes may be out of order at once without stopping a takeover.
func (w *simWorld) tolerated() int { return len(w.nodes) - max(w.top.w, w.top.r) }

// run plays the schedule.
func (w *simWorld) run() {
	w.immediate = true
	a := w.newMachine()
	w.check.note("topology %s W=%d R=%d profile %+v", w.top.groups, w.top.w, w.top.r, w.profile)
	p := a.start(modeFormat)
	synctest.Wait()
	if a.set == nil {
		w.check.broken("format failed: %v", p.err)
	}
	w.immediate = false
	w.repeatSome()
	p.goOn()

	budget := 250 + 60*w.profile.ops
	for w.steps = 0; w.steps < budget && w.check.fault == ""; w.steps++ {
		w.settle()
		if !w.step() {
			break
		}
		if acks := w.check.ackedSoFar(); acks != w.asked || w.steps%16 == 0 {
			w.asked = acks
			w.ask()
		}
	}
	w.settle()
	w.ask()
	w.finish()
}

func (w *simWorld) ask() {
	skip := -1
	if w.profile.damage {
		skip = 0
	}
	w.check.held(w.nodes, w.top.r, skip)
}

// repeatSome keeps late copies of some of the messages of the format.
func (w *simWorld) repeatSome() {
	slices.SortFunc(w.late, func(a, b *simMessage) int {
		return cmp.Or(cmp.Compare(a.node, b.node), strings.Compare(a.what, b.what))
	})
	w.late = slices.DeleteFunc(w.late, func(*simMessage) bool { return w.rng.Float64() > 3*w.profile.repeat })
}

// step does one thing; false when nothing can happen any more.
func (w *simWorld) step() bool {
	if w.rng.IntN(40) == 0 {
		w.reweigh()
	}
	if w.flips > 0 {
		w.flips = 0
		if w.rng.IntN(w.profile.flip) == 0 {
			w.reweigh()
		}
	}
	if w.rng.IntN(w.profile.every) == 0 && w.event() {
		return true
	}
	if w.profile.aim && w.rng.IntN(w.profile.every) == 0 && w.mayWipe() {
		if i := w.halfWritten(); i >= 0 && w.rng.IntN(2) == 0 {
			w.wipe(i)
			return true
		}
		if i := w.takenInPart(); i >= 0 && w.rng.IntN(2) == 0 {
			w.wipe(i)
			return true
		}
		if w.claimedInPart() {
			w.wipe(w.victim())
			return true
		}
	}
	if len(w.late) > 0 && w.rng.IntN(10) == 0 {
		w.deliverLate(w.rng.IntN(len(w.late)))
		return true
	}
	next := w.choose()
	if next == nil || w.rng.IntN(150) == 0 {
		w.pass(time.Duration(1+w.rng.IntN([]int{100, 400, 1500}[w.rng.IntN(3)])) * time.Millisecond)
		if len(w.pending) == 0 && w.idle() && !w.event() {
			return false
		}
		return true
	}
	w.deliver(next)
	return true
}

// reweigh makes some links fast and some slow, so that deep orders are found, not only well-mixed ones. Some kinds of
// calls are cut off on some links for a while: real networks are not as kind as that, but what is possible at all
// shows up sooner.
func (w *simWorld) reweigh() {
	for _, m := range w.machines {
		f := []float64{0.05, 1, 1, 5}[w.rng.IntN(4)]
		for i := range w.nodes {
			link := f * []float64{0.01, 0.3, 1, 1, 10}[w.rng.IntN(5)]
			off := w.rng.Float64() < w.profile.cutOff
			for _, kind := range simKinds {
				k := simLink{m.id, i, kind}
				w.links[k] = link
				if off || w.rng.Float64() < w.profile.cutOff {
					w.links[k] = 0
				}
			}
		}
	}
}

var simKinds = []string{"state", "cas", "put", "list", "get", "delete"}

// A simLink is one kind of call from a machine to a node.
type simLink struct {
	machine, node int
	kind          string
}

func (m *simMessage) link() simLink { return simLink{m.from.machine.id, m.node, m.kind} }

// choose picks a message that can move; nil when there is none.
func (w *simWorld) choose() *simMessage {
	weight := func(m *simMessage) float64 {
		if m.until > w.steps {
			return 0
		}
		if f, ok := w.links[m.link()]; ok {
			return f
		}
		return 1
	}
	sum := 0.0
	for _, m := range w.pending {
		sum += weight(m)
	}
	x := w.rng.Float64() * sum
	for _, m := range w.pending {
		if x -= weight(m); x < 0 {
			return m
		}
	}
	return nil
}

func (w *simWorld) drop(m *simMessage) {
	w.pending = slices.DeleteFunc(w.pending, func(o *simMessage) bool { return o == m })
}

func (w *simWorld) answer(m *simMessage, r simReply) {
	w.drop(m)
	m.ch <- r
}

// deliver moves one message on.
func (w *simWorld) deliver(m *simMessage) {
	n := w.nodes[m.node]
	if m.ran { // the reply arrives, or is lost
		if w.rng.Float64() < w.profile.lose/2 {
			w.seen.Lost++
			m.reply = simReply{err: errLost}
		}
		w.check.note("reply  %v", m)
		w.answer(m, m.reply)
		return
	}
	if n.down {
		w.answer(m, simReply{err: errLost})
		return
	}
	if !m.half {
		switch x := w.rng.Float64(); {
		case x < w.profile.lose:
			w.seen.Lost++
			w.check.note("lost   %v", m)
			w.answer(m, simReply{err: errLost})
			return
		case x < w.profile.lose+w.profile.late: // the caller gives up, the message does not
			w.check.note("later  %v", m)
			w.late = append(w.late, m)
			w.answer(m, simReply{err: errLost})
			return
		}
		if w.rng.Float64() < w.profile.repeat {
			again := *m
			w.late = append(w.late, &again)
			w.seen.Repeated++
		}
		w.check.note("at n%d  %v", m.node, m)
		m.runFirst(n)
		if m.then != nil && w.rng.Float64() < w.profile.split {
			return
		}
	}
	m.runThen(n)
	if w.rng.IntN(3) == 0 {
		return // the reply travels
	}
	w.check.note("reply  %v", m)
	w.answer(m, m.reply)
}

func (m *simMessage) String() string {
	what := m.what
	if len(what) > 100 {
		what = what[:100] + "…"
	}
	return fmt.Sprintf("m%d/p%d→n%d %s", m.from.machine.id, m.from.id, m.node, what)
}

// deliverLate runs a message whose caller is long gone.
func (w *simWorld) deliverLate(i int) {
	m := w.late[i]
	w.late = slices.Delete(w.late, i, i+1)
	if n := w.nodes[m.node]; !n.down {
		w.check.note("late   %v", m)
		w.seen.Late++
		m.run(n)
	}
}

// pass lets time go by.
func (w *simWorld) pass(d time.Duration) {
	time.Sleep(d)
	w.settle()
	old := func(m *simMessage) bool { return time.Since(m.born) > simLifetime }
	w.late = slices.DeleteFunc(w.late, old)
	var gone []*simMessage
	for _, m := range w.pending {
		if old(m) {
			gone = append(gone, m)
		}
	}
	for _, m := range gone {
		w.answer(m, simReply{err: errLost})
	}
}

// idle reports whether no process has anything left to do.
func (w *simWorld) idle() bool {
	for _, m := range w.machines {
		if m.proc != nil && !m.proc.dead && !m.proc.ended.Load() {
			return false
		}
	}
	return true
}

// event lets something happen to machines and nodes; false when nothing was possible.
func (w *simWorld) event() bool {
	m := w.machines[w.rng.IntN(len(w.machines))]
	switch w.rng.IntN(8) {
	case 0, 1: // a node is wiped
		if !w.mayWipe() {
			return false
		}
		w.wipe(w.victim())
		return true
	case 2: // a process dies
		if w.crashes >= w.profile.crash || m.proc == nil || m.proc.dead {
			return false
		}
		w.crashes++
		m.proc.kill()
		return true
	case 3, 4: // and is started again
		if m.proc != nil && !m.proc.dead && !m.proc.ended.Load() {
			return false
		}
		return m.restart()
	case 5, 6: // another machine recovers
		if len(w.machines) >= 4 {
			return false
		}
		w.newMachine().start(modeRecover)
		return true
	case 7:
		if !w.profile.damage {
			return false
		}
		return w.damage()
	}
	return false
}

func (w *simWorld) mayWipe() bool {
	return w.wipes < w.profile.wipes && len(w.incomplete()) < w.tolerated()
}

// halfWritten finds a node that has a record which is still on its way to another; −1 when there is none. What is on
// its way then takes a while longer.
func (w *simWorld) halfWritten() int {
	for _, m := range w.pending {
		if m.kind != "put" || m.half || m.from.dead {
			continue
		}
		name, err := hex.DecodeString(strings.TrimPrefix(m.what, "put "))
		if err != nil {
			continue
		}
		for i, n := range w.nodes {
			if _, has := n.data[string(name)]; has && i != m.node {
				for _, o := range w.pending {
					if o.what == m.what && o.node != i {
						o.until = w.steps + 10 + w.rng.IntN(60)
					}
				}
				return i
			}
		}
	}
	return -1
}

// takenInPart finds a node that a new owner holds while another node still shows an older one, whose process lives;
// −1 when there is none. The new owner is then cut off for a while.
func (w *simWorld) takenInPart() int {
	if !w.claimedInPart() {
		return -1
	}
	node := w.highest()
	o, err := w.sealer.OpenOwner(w.nodes[node].data[string(record.EpochName)])
	if err != nil || !w.check.owned(o) {
		return -1
	}
	newOwner, old := (*simMachine)(nil), false
	for _, m := range w.machines {
		switch {
		case m.note == nil || m.proc == nil || m.proc.dead || m.proc.ended.Load():
		case m.note.Owner.Same(o):
			newOwner = m
		default:
			old = true
		}
	}
	if !old {
		return -1
	}
	if newOwner != nil {
		for i := range w.nodes {
			for _, kind := range simKinds {
				w.links[simLink{newOwner.id, i, kind}] = 0
			}
		}
	}
	return node
}

// highest is a node that shows the highest epoch.
func (w *simWorld) highest() int {
	best, highest := 0, uint64(0)
	for i, n := range w.nodes {
		if o, err := w.sealer.OpenOwner(n.data[string(record.EpochName)]); err == nil && (o.Epoch > highest || o.Epoch == highest && w.rng.IntN(2) == 0) {
			best, highest = i, o.Epoch
		}
	}
	return best
}

// claimedInPart reports whether the nodes show different epoch keys.
func (w *simWorld) claimedInPart() bool {
	for _, n := range w.nodes[1:] {
		if !bytes.Equal(n.data[string(record.EpochName)], w.nodes[0].data[string(record.EpochName)]) {
			return true
		}
	}
	return false
}

// victim chooses the node to wipe: often one for which an old mark is still on its way, or one that was claimed when
// others were not yet.
func (w *simWorld) victim() int {
	if w.rng.IntN(2) == 0 {
		for _, m := range slices.Concat(w.late, w.pending) {
			if strings.HasPrefix(m.what, simMarkPut) && w.rng.IntN(2) == 0 {
				return m.node
			}
		}
	}
	if w.rng.IntN(2) == 0 {
		return w.highest()
	}
	return w.rng.IntN(len(w.nodes))
}

var simMarkPut = fmt.Sprintf("cas %x", record.MarkName)

func (w *simWorld) wipe(i int) {
	w.check.note("wipe n%d", i)
	w.wipes++
	w.seen.Wiped++
	w.nodes[i].data = map[string][]byte{}
	w.newIncarnation(w.nodes[i])
	for j := len(w.late) - 1; j >= 0; j-- { // what was on its way often arrives just now
		if w.late[j].node == i && w.rng.IntN(2) == 0 {
			w.deliverLate(j)
		}
	}
	for _, m := range w.machines { // whoever thinks it is the owner repairs it at once
		if p := m.proc; p != nil && !p.dead && !p.ending && len(p.rebuilds) < 32 {
			p.rebuilds <- simRebuild{node: i}
		}
	}
}

// damage flips a bit in one record of the one bad node of this schedule.
func (w *simWorld) damage() bool {
	n := w.nodes[0]
	names := n.names(record.AllPrefix())
	if len(names) == 0 {
		return false
	}
	name := string(names[w.rng.IntN(len(names))])
	w.seen.Damaged++
	w.check.note("damage n0 %x", name)
	v := slices.Clone(n.data[name])
	v[w.rng.IntN(len(v))] ^= 1 << w.rng.IntN(8)
	n.data[name] = v
	return true
}

// finish ends everything, heals the network, and recovers on a last machine: nothing may be missing then, and it may
// not be stuck.
func (w *simWorld) finish() {
	for _, m := range w.machines {
		if m.proc != nil && !m.proc.dead {
			m.proc.kill()
		}
	}
	w.settle()
	w.pending = nil
	for len(w.late) > 0 {
		if w.rng.IntN(2) == 0 {
			w.deliverLate(w.rng.IntN(len(w.late)))
		} else {
			i := w.rng.IntN(len(w.late))
			w.late = slices.Delete(w.late, i, i+1)
		}
	}
	defer func() {
		time.Sleep(4 * simLifetime) // nobody sleeps longer
		synctest.Wait()
	}()
	if w.check.fault != "" {
		return
	}
	w.immediate = true
	broken := len(w.incomplete())
	if broken == 0 && !w.profile.damage && w.rng.IntN(2) == 0 {
		// A whole site is lost for good.
		g := w.top.groups[w.rng.IntN(len(w.nodes))]
		for _, n := range w.nodes {
			n.down = n.group == string(g)
		}
		w.check.note("group %c is lost", g)
	}
	m := w.newMachine()
	p := m.start(modeLast)
	for range 200 {
		synctest.Wait()
		if p.ended.Load() {
			break
		}
		time.Sleep(time.Second)
	}
	if p.err != nil || !p.ended.Load() {
		w.check.broken("the last recovery is stuck: %v", p.err)
	}
	p.kill()
	synctest.Wait()
}

// simulate runs one schedule and returns the fault found, if any.
func simulate(t *testing.T, seed uint64, without rule, sealer *record.Sealer, trace bool) (fault string, w *simWorld) {
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(seed, without, sealer)
		if trace {
			w.check.trace = []string{}
		}
		w.run()
		w.seen.Acked = w.check.acks
	})
	return w.check.fault, w
}
