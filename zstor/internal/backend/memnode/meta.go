package memnode

import (
	"bytes"
	"context"
	"crypto/rand"
	"maps"
	"strings"
	"sync"
	"time"

	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/record"
)

// Meta is a metadata node in memory.
type Meta struct {
	id, group string

	// mu guards what follows.
	mu     sync.Mutex
	values map[string][]byte
	kept   map[string][]byte
	inc    record.Incarnation
	down   bool
	delay  time.Duration
	fault  Fault
}

var _ quorum.Node = (*Meta)(nil)

// NewMeta gives an empty metadata node.
func NewMeta(id, group string) *Meta {
	m := &Meta{id: id, group: group}
	m.Wipe()
	return m
}

// Wipe empties the node and gives it a new incarnation.
func (m *Meta) Wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values = map[string][]byte{}
	_, _ = rand.Read(m.inc[:]) // never fails
}

// SetDown makes every call fail, or ends that.
func (m *Meta) SetDown(down bool) { m.mu.Lock(); m.down = down; m.mu.Unlock() }

// SetDelay makes every call take that long.
func (m *Meta) SetDelay(d time.Duration) { m.mu.Lock(); m.delay = d; m.mu.Unlock() }

// SetFault installs a fault; nil removes it.
func (m *Meta) SetFault(f Fault) { m.mu.Lock(); m.fault = f; m.mu.Unlock() }

// Len is the number of values held.
func (m *Meta) Len() int { m.mu.Lock(); defer m.mu.Unlock(); return len(m.values) }

// Damage flips a bit in every record that it holds.
func (m *Meta) Damage() { m.DamageThe(func(string) bool { return true }) }

// DamageThe flips a bit in the values whose name is one of those.
func (m *Meta) DamageThe(those func(name string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.values {
		if !those(k) {
			continue
		}
		v = bytes.Clone(v)
		v[len(v)/2] ^= 1
		m.values[k] = v
	}
}

// ID implements quorum.Node.
func (m *Meta) ID() string { return m.id }

// Group implements quorum.Node.
func (m *Meta) Group() string { return m.group }

// enter waits, fails, or locks the node; a nil error means that the caller unlocks.
func (m *Meta) enter(ctx context.Context, op string, name []byte) (late, err error) {
	m.mu.Lock()
	delay, down, fault := m.delay, m.down, m.fault
	m.mu.Unlock()
	if delay > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(delay):
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
				m.mu.Lock()
				return l.error, nil
			}
			return nil, err
		}
	}
	m.mu.Lock()
	return nil, nil
}

func (m *Meta) state() quorum.State {
	return quorum.State{Epoch: m.values[string(record.EpochName)], Mark: m.values[string(record.MarkName)], Incarnation: m.inc}
}

// State implements quorum.Node.
func (m *Meta) State(ctx context.Context) (quorum.State, error) {
	late, err := m.enter(ctx, "state", nil)
	if err != nil {
		return quorum.State{}, err
	}
	defer m.mu.Unlock()
	return m.state(), late
}

// Put implements quorum.Node.
func (m *Meta) Put(ctx context.Context, name, value []byte) (quorum.State, error) {
	late, err := m.enter(ctx, "put", name)
	if err != nil {
		return quorum.State{}, err
	}
	defer m.mu.Unlock()
	m.values[string(name)] = bytes.Clone(value)
	return m.state(), late
}

// Delete implements quorum.Node.
func (m *Meta) Delete(ctx context.Context, names [][]byte) (quorum.State, error) {
	late, err := m.enter(ctx, "delete", nil)
	if err != nil {
		return quorum.State{}, err
	}
	defer m.mu.Unlock()
	for _, n := range names {
		delete(m.values, string(n))
	}
	return m.state(), late
}

// List implements quorum.Node.
func (m *Meta) List(ctx context.Context, prefix []byte) (quorum.State, [][]byte, error) {
	late, err := m.enter(ctx, "list", prefix)
	if err != nil {
		return quorum.State{}, nil, err
	}
	defer m.mu.Unlock()
	var names [][]byte
	for k := range m.values {
		if strings.HasPrefix(k, string(prefix)) {
			names = append(names, []byte(k))
		}
	}
	return m.state(), names, late
}

// Get implements quorum.Node.
func (m *Meta) Get(ctx context.Context, names [][]byte) (quorum.State, [][]byte, error) {
	late, err := m.enter(ctx, "get", nil)
	if err != nil {
		return quorum.State{}, nil, err
	}
	defer m.mu.Unlock()
	values := make([][]byte, len(names))
	for i, n := range names {
		values[i] = m.values[string(n)]
	}
	return m.state(), values, late
}

// CompareAndSet implements quorum.Node.
func (m *Meta) CompareAndSet(ctx context.Context, name, value, expected []byte) ([]byte, error) {
	late, err := m.enter(ctx, "cas", name)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	present, ok := m.values[string(name)]
	if ok == (expected != nil) && bytes.Equal(present, expected) {
		m.values[string(name)] = bytes.Clone(value)
		present = value
	}
	return present, late
}

// Keep notes the content for GoBack.
func (m *Meta) Keep() { m.mu.Lock(); m.kept = maps.Clone(m.values); m.mu.Unlock() }

// GoBack brings the content of Keep back, incarnation and all: a node restored from a backup.
func (m *Meta) GoBack() { m.mu.Lock(); m.values = maps.Clone(m.kept); m.mu.Unlock() }
