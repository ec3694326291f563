// Package memnode is a storage node in memory that can be made to misbehave: down, slow, lying,
// losing what was not yet durable, wiped, full, late. It is what the transfer code is tested on.
package memnode

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"qsfs/zstor/internal/backend"
)

// Fault decides about one operation before it happens. A nil Fault never interferes.
//
//	return nil                      go on
//	return Lost(err)                fail without doing it
//	return Late(err)                do it, then fail all the same
type Fault func(op string, name []byte) error

type lateError struct{ error }

// Late makes a Fault let the operation happen and lose the answer.
func Late(err error) error { return lateError{err} }

// Node is a node in memory. Use New.
type Node struct {
	// mu guards what follows.
	mu          sync.Mutex
	values      map[string][]byte
	volatile    map[string]bool // not yet durable, lost by Crash
	durability  backend.Durability
	incarnation string
	anonymous   bool
	wipes       int
	down        bool
	delay       time.Duration
	fault       Fault
	rate        int64 // bytes per second that Put takes; zero: any
	line        sync.Mutex
	lie         func(name, value []byte) []byte
	puts        map[string]int
	counts      Counts
	free        int64
}

// Counts are operations that reached the node.
type Counts struct {
	Puts, Gets, Has, Deletes, Infos int
	GetBytes, PutBytes              int64
}

var _ backend.Backend = (*Node)(nil)

// New gives an empty node that is durable on acknowledgement.
func New() *Node {
	return &Node{values: map[string][]byte{}, volatile: map[string]bool{}, puts: map[string]int{}, incarnation: "inc-0", free: 1 << 40}
}

// SetDown makes every operation fail, or ends that.
func (n *Node) SetDown(down bool) { n.mu.Lock(); n.down = down; n.mu.Unlock() }

// SetDelay makes every operation take that long.
func (n *Node) SetDelay(d time.Duration) { n.mu.Lock(); n.delay = d; n.mu.Unlock() }

// SetRate puts the node at the end of a slow line: one value at a time, so many bytes per second. Zero ends that.
func (n *Node) SetRate(rate int64) { n.mu.Lock(); n.rate = rate; n.mu.Unlock() }

// SetFault installs a fault; nil removes it.
func (n *Node) SetFault(f Fault) { n.mu.Lock(); n.fault = f; n.mu.Unlock() }

// SetLie makes Get answer something else; nil makes the node honest.
func (n *Node) SetLie(f func(name, value []byte) []byte) { n.mu.Lock(); n.lie = f; n.mu.Unlock() }

// SetDurability changes what the node declares.
func (n *Node) SetDurability(d backend.Durability) { n.mu.Lock(); n.durability = d; n.mu.Unlock() }

// SetAnonymous makes the node one that has no incarnation, like the original server.
func (n *Node) SetAnonymous() { n.mu.Lock(); n.anonymous, n.incarnation = true, ""; n.mu.Unlock() }

// SetFree sets the room that is left; puts beyond it fail.
func (n *Node) SetFree(free int64) { n.mu.Lock(); n.free = free; n.mu.Unlock() }

// Wipe empties the node and gives it a new incarnation.
func (n *Node) Wipe() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wipes++
	n.values, n.volatile = map[string][]byte{}, map[string]bool{}
	if !n.anonymous {
		n.incarnation = fmt.Sprintf("inc-%d", n.wipes)
	}
}

// Crash loses what was acknowledged and not durable.
func (n *Node) Crash() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k := range n.volatile {
		delete(n.values, k)
	}
	n.volatile = map[string]bool{}
}

// Counts gives the counters.
func (n *Node) Counts() Counts { n.mu.Lock(); defer n.mu.Unlock(); return n.counts }

// Len is the number of values held.
func (n *Node) Len() int { n.mu.Lock(); defer n.mu.Unlock(); return len(n.values) }

// Snapshot copies the content, to bring it back later with Restore: a stale node.
func (n *Node) Snapshot() map[string][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[string][]byte, len(n.values))
	for k, v := range n.values {
		out[k] = v
	}
	return out
}

// Restore replaces the content.
func (n *Node) Restore(values map[string][]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.values = map[string][]byte{}
	for k, v := range values {
		n.values[k] = v
	}
}

// Distinct counts the different values that were ever offered under one name, at most.
func (n *Node) Distinct() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	most := 0
	seen := map[string]int{}
	for k := range n.puts {
		name, _, _ := strings.Cut(k, "|")
		if strings.HasSuffix(name, "ffffffff") {
			continue // the head of the newest cut, the one value that is replaced
		}
		seen[name]++
		most = max(most, seen[name])
	}
	return most
}

func (n *Node) enter(ctx context.Context, op string, name []byte) (late error, err error) {
	n.mu.Lock()
	delay, down, fault := n.delay, n.down, n.fault
	n.mu.Unlock()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.C:
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if down {
		return nil, backend.ErrDown
	}
	if fault != nil {
		if err := fault(op, name); err != nil {
			if l, ok := err.(lateError); ok {
				return l.error, nil
			}
			return nil, err
		}
	}
	return nil, nil
}

// Put implements backend.Backend.
func (n *Node) Put(ctx context.Context, name, value []byte) error {
	late, err := n.enter(ctx, "put", name)
	if err != nil {
		return err
	}
	if err := n.carry(ctx, int64(len(value))); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts.Puts++
	n.counts.PutBytes += int64(len(value))
	if int64(len(value)) > n.free {
		return backend.ErrFull
	}
	n.puts[fmt.Sprintf("%x|%x", name, value)]++
	n.values[string(name)] = bytes.Clone(value)
	if !n.durability.OnAck() {
		n.volatile[string(name)] = true
	}
	return late
}

// carry takes the time that a slow line takes.
func (n *Node) carry(ctx context.Context, size int64) error {
	n.mu.Lock()
	slow := n.rate > 0
	n.mu.Unlock()
	if !slow {
		return nil
	}
	n.line.Lock()
	defer n.line.Unlock()
	for ; size > 0; size -= 512 {
		n.mu.Lock()
		rate := n.rate
		n.mu.Unlock()
		if rate <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(min(size, 512)) * time.Second / time.Duration(rate)):
		}
	}
	return nil
}

// Get implements backend.Backend.
func (n *Node) Get(ctx context.Context, name []byte) ([]byte, error) {
	late, err := n.enter(ctx, "get", name)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts.Gets++
	v, ok := n.values[string(name)]
	if late != nil {
		return nil, late
	}
	v = bytes.Clone(v)
	if n.lie != nil {
		if v = n.lie(name, v); v != nil {
			return v, nil
		}
		return nil, backend.ErrAbsent
	}
	if !ok {
		return nil, backend.ErrAbsent
	}
	n.counts.GetBytes += int64(len(v))
	return v, nil
}

// Has implements backend.Backend.
func (n *Node) Has(ctx context.Context, names [][]byte) ([]bool, error) {
	late, err := n.enter(ctx, "has", nil)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts.Has++
	out := make([]bool, len(names))
	for i, name := range names {
		_, out[i] = n.values[string(name)]
	}
	return out, late
}

// Delete implements backend.Backend.
func (n *Node) Delete(ctx context.Context, names [][]byte) error {
	late, err := n.enter(ctx, "delete", nil)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts.Deletes++
	for _, name := range names {
		delete(n.values, string(name))
		delete(n.volatile, string(name))
	}
	return late
}

// Info implements backend.Backend.
func (n *Node) Info(ctx context.Context) (backend.Info, error) {
	late, err := n.enter(ctx, "info", nil)
	if err != nil {
		return backend.Info{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts.Infos++
	return backend.Info{Durability: n.durability, Incarnation: n.incarnation, Entries: int64(len(n.values)), Free: n.free}, late
}

// Close implements backend.Backend.
func (n *Node) Close() error { return nil }
