package zdb

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"qsfs/zdb/internal/vfs"
)

// fault is what happens at one file call of a run.
type fault struct {
	name string
	// after: every later call fails too, and the machine is off. power: what was not synced is lost.
	after, power bool
}

// faulty is a namespace with something dead, a pin, and a disk that fails at one call.
type faulty struct {
	t     *testing.T
	r     *rig
	n     *Namespace
	fault fault
	hook  *vfs.Hook
	at    atomic.Int64 // the call that fails; 0: none
	hit   atomic.Bool
	clone *vfs.Mem

	want, then map[string]string // now, and at the pin
	pin        Seq
	unpinned   bool
}

func newFaulty(t *testing.T, f fault) *faulty {
	m := &faulty{t: t, r: newRig(t), fault: f}
	m.r.ns.SegmentSize = 16 << 10
	m.hook = &vfs.Hook{FS: m.r.mem, Before: m.before}
	m.r.o.FS = m.hook
	m.n = m.r.open()
	m.then = overwritten(t, m.n)
	var err error
	if m.pin, err = m.n.Pin(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.want = maps.Clone(m.then)
	for i := range 100 {
		k := fmt.Sprintf("k%03d", 2*i)
		if i%3 == 0 {
			del(t, m.n, k)
			delete(m.want, k)
		} else {
			m.want[k] = strings.Repeat("later", i)
			put(t, m.n, k, m.want[k])
		}
	}
	if err := m.n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

var errInjected = errors.New("injected")

func (m *faulty) before(c vfs.Call) error {
	at := m.at.Load()
	if at == 0 || c.N < at || c.N > at && !m.fault.after {
		return nil
	}
	if m.hit.CompareAndSwap(false, true) && m.fault.after {
		if m.fault.power {
			m.clone = m.r.mem.CrashClone(rand.New(rand.NewPCG(uint64(c.N), 5)))
		} else {
			m.clone = m.r.mem.KillClone()
		}
	}
	return errInjected
}

// run compacts with the pin and without.
func (m *faulty) run() error {
	ctx := m.t.Context()
	if _, err := m.n.Compact(ctx, CompactOptions{All: true}); err != nil {
		return err
	}
	m.unpinned = true // or not: it may fail in the middle
	if err := m.n.Unpin(m.pin); err != nil {
		return err
	}
	_, err := m.n.Compact(ctx, CompactOptions{All: true})
	return err
}

func (m *faulty) check(n *Namespace) {
	m.t.Helper()
	wantAll(m.t, n, m.want)
	switch pins := n.Pins(); {
	case len(pins) == 0 && m.unpinned:
	case len(pins) != 1 || pins[0] != m.pin:
		m.t.Fatalf("pins %v, want %v", pins, m.pin)
	default:
		for i := range 200 {
			k := fmt.Sprintf("k%03d", i)
			e, err := n.GetAt(m.t.Context(), []byte(k), m.pin)
			if v, ok := m.then[k]; ok != (err == nil) || !ok && err != ErrNotFound || string(e.Value) != v {
				m.t.Fatalf("%s at the pin: %.20q, %v, want %.20q", k, e.Value, err, v)
			}
		}
	}
}

// restart ends the engine as the fault says, and opens what is left.
func (m *faulty) restart() *Namespace {
	m.t.Helper()
	clone := m.clone
	if clone == nil {
		clone = m.r.mem.KillClone()
	}
	m.r.stop()
	m.at.Store(0)
	m.r.mem, m.r.o.FS = clone, nil
	return m.r.open()
}

// TestCompactFaults lets the n-th file call of compactions fail, once or with all that come after it, by the death of the
// process or a loss of power: in the long run each n until none fails, else some. Nothing is lost, nothing comes back, the next
// compaction goes through, and an index made again from what is left of the log says the same.
func TestCompactFaults(t *testing.T) {
	t.Parallel()
	for _, f := range []fault{{name: "once"}, {name: "killed", after: true}, {name: "power", after: true, power: true}} {
		t.Run(f.name, func(t *testing.T) {
			quiet := newFaulty(t, f)
			calls := quiet.hook.Calls()
			if err := quiet.run(); err != nil {
				t.Fatal(err)
			}
			if calls = quiet.hook.Calls() - calls; calls < 200 {
				t.Fatalf("a run of %d calls", calls)
			}
			quiet.r.stop()
			step := func() int64 { return 1 }
			if os.Getenv("QSFS_LONG") == "" {
				step = func() int64 { return 1 + rand.Int64N(calls/4) }
			}
			missed := 0
			for call := step(); missed < 3; call += step() {
				if !faultAt(t, f, call) {
					missed++ // the number of calls differs a little from run to run
				}
			}
		})
	}
}

// faultAt does one run with a fault at a call, and says whether it came to that.
func faultAt(t *testing.T, f fault, call int64) bool {
	m := newFaulty(t, f)
	defer m.r.stop()
	m.at.Store(m.hook.Calls() + call)
	err := m.run()
	if err == nil && !m.hit.Load() {
		return false
	}
	if !f.after {
		m.check(m.n)
	}
	n := m.restart()
	m.check(n)
	if _, err := n.Compact(t.Context(), CompactOptions{All: true}); err != nil {
		t.Fatalf("after a fault at call %d: %v", call, err)
	}
	m.check(n)
	m.r.close()
	dropIndex(t, m.r)
	m.check(m.r.open())
	if t.Failed() {
		t.Fatalf("a fault at call %d", call)
	}
	return true
}
