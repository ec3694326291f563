package oracle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"
)

// Writer performs operations below a root that nobody else changes.
type Writer struct {
	root string
	rand *rand.Rand
	acks *os.File

	base   *model // state after all of the operations that are certain
	ops    []op   // operations after base, in order; the last one may have failed
	acked  int    // how many of ops are promised
	now    *model // state after all of ops
	serial int

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

// acknowledged logs that everything up to here is promised, and forgets the history that no check needs any more.
func (w *Writer) acknowledged(o op) error {
	n := w.total.Add(1)
	if _, err := fmt.Fprintf(w.acks, "%s ack %d: %v\n", time.Now().UTC().Format(time.RFC3339Nano), n, o); err != nil {
		return err
	}
	if err := w.acks.Sync(); err != nil {
		return err
	}
	for _, done := range w.ops {
		w.base.apply(done)
	}
	w.ops = w.ops[:0]
	return nil
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
	var reasons []error
	for i := 0; ; i++ {
		diff := differ(got, m.listing(), "")
		if diff == "" {
			w.settle(m)
			return i, nil
		}
		reasons = append(reasons, fmt.Errorf("after %d of %d unacknowledged operations:\n%s", i, len(w.ops), diff))
		if i == len(w.ops) {
			break
		}
		last := i == len(w.ops)-1
		if o := w.ops[i]; last && o.kind == opWrite && w.halfWritten(root, got, m, o) {
			w.settle(m)
			return i + 1, nil
		}
		m.apply(w.ops[i])
	}
	return 0, fmt.Errorf("the tree is in no promised state: %w", errors.Join(reasons...))
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
