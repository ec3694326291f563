package oracle

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Writer performs operations below a root that nobody else changes.
type Writer struct {
	root string
	rand *rand.Rand
	acks *os.File

	base   *model // state after all of the operations that are promised
	ops    []op   // operations after base, in order; the last one may have failed
	now    *model // state after all of ops
	serial int
	remote bool // only Shipped promises
	doubt  atomic.Bool

	total atomic.Int64 // acknowledgements since the beginning
	size  func(*rand.Rand) int
}

// New makes a writer for an empty directory root. Acknowledgements are logged to ackLog, which must lie outside of the
// filesystem under test.
func New(root, ackLog string, seed uint64) (*Writer, error) {
	acks, err := os.OpenFile(ackLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &Writer{
		root: root, rand: rand.New(rand.NewPCG(seed, 1)), acks: acks,
		base: newModel(), now: newModel(), size: usualSize,
	}, nil
}

// PromiseRemote changes what counts: from now on an fsync promises nothing, for the whole machine may be lost, and only
// Shipped does.
func (w *Writer) PromiseRemote() { w.remote = true }

// Shipped says that everything written so far is dispersed: it must survive the loss of the machine.
func (w *Writer) Shipped() { w.promise() }

// Doubt says that an fsync that returns from now on promises nothing, or does so again. The simulated loss of power needs it: while XFS shuts
// down it answers success to some that are lost. It may be called while Run runs.
func (w *Writer) Doubt(on bool) { w.doubt.Store(on) }

// Close closes the log of acknowledgements.
func (w *Writer) Close() error { return w.acks.Close() }

// Acks is the number of acknowledgements so far. It may be called while Run runs.
func (w *Writer) Acks() int64 { return w.total.Load() }

// Run performs operations until the context ends (then the error is nil) or one fails.
func (w *Writer) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.Step(); err != nil {
			return err
		}
	}
	return nil
}

// Step performs one operation.
func (w *Writer) Step() error {
	o := w.next()
	w.ops = append(w.ops, o)
	if err := o.do(w.root); err != nil {
		return fmt.Errorf("%v: %w", o, err)
	}
	w.now.apply(o)
	if !o.acknowledges() {
		return nil
	}
	return w.acknowledged(o)
}

// acknowledged logs that everything up to here is promised.
func (w *Writer) acknowledged(o op) error {
	n := w.total.Add(1)
	if _, err := fmt.Fprintf(w.acks, "%s ack %d: %v\n", time.Now().UTC().Format(time.RFC3339Nano), n, o); err != nil {
		return err
	}
	if err := w.acks.Sync(); err != nil {
		return err
	}
	if !w.remote && !w.doubt.Load() {
		w.promise()
	}
	return nil
}

// promise forgets the history that no check needs any more.
func (w *Writer) promise() {
	for _, done := range w.ops {
		w.base.apply(done)
	}
	w.ops = w.ops[:0]
}

// Sync acknowledges everything by an fsync of the root directory.
func (w *Writer) Sync() error {
	o := op{kind: opFsyncDir, path: "."}
	w.ops = append(w.ops, o)
	if err := o.do(w.root); err != nil {
		return err
	}
	return w.acknowledged(o)
}

// Check compares the tree at root with what was promised, after a crash or without one, and goes on from the state that it
// found. It gives the number of operations after the last acknowledgement that had survived.
func (w *Writer) Check(root string) (survived int, err error) {
	got, err := scan(root)
	if err != nil {
		return 0, fmt.Errorf("read the tree: %w", err)
	}
	m := w.base.clone()
	var reasons []string
	for i := 0; ; i++ {
		diff := differ(got, m.listing(), "")
		if diff == "" {
			w.settle(m)
			return i, nil
		}
		reasons = append(reasons, fmt.Sprintf("after %d of %d unpromised operations:\n%s", i, len(w.ops), diff))
		if i == len(w.ops) {
			break
		}
		if o := w.ops[i]; o.kind == opWrite && w.halfWritten(root, got, m, o) {
			w.settle(m)
			return i + 1, nil
		}
		m.apply(w.ops[i])
	}
	// The state that it misses by least is one of the first or one of the last.
	if len(reasons) > 4 {
		reasons = slices.Concat(reasons[:2], reasons[len(reasons)-2:])
	}
	return 0, fmt.Errorf("the tree is in no promised state: %s", strings.Join(reasons, "\n"))
}

// halfWritten reports whether the tree is m with the write o half done, and puts what it found into m.
func (w *Writer) halfWritten(root string, got map[string]entry, m *model, o op) bool {
	target := m.paths[o.path]
	want := m.listing()
	for path, n := range m.paths {
		if n == target { // all hard links of it
			want[path] = got[path]
		}
	}
	if differ(got, want, "") != "" {
		return false
	}
	content, err := os.ReadFile(root + "/" + o.path)
	if err != nil || !mixes(content, target.content, o) {
		return false
	}
	target.content, target.sum = content, nil
	return true
}

// settle goes on from a state that was found.
func (w *Writer) settle(m *model) {
	w.base, w.now = m, m.clone()
	w.ops = w.ops[:0]
}
