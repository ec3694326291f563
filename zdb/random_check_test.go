package zdb

import (
	"errors"
	"maps"
	"path/filepath"
	"strings"
)

// checkOnline reads all files again while the machine runs: whatever it went through, there is nothing to find.
func (m *machine) checkOnline() {
	res, err := m.n.Check(m.t.Context(), CheckOptions{Repair: m.rng.IntN(4) == 0})
	switch {
	case m.dead.Load():
	case err != nil:
		m.t.Fatalf("check: %v", err)
	case !res.Clean():
		m.t.Fatalf("check: %+v", res)
	}
	m.checks++
}

// checkOffline does so while it is off, right after a crash.
func (m *machine) checkOffline() {
	if m.rng.IntN(3) > 0 {
		return
	}
	o := Options{
		DataDir: filepath.Join(m.dir, "data"), IndexDir: filepath.Join(m.dir, "index"), Epoch: 3, FS: m.mem, Fetch: m.fetch,
	}
	res, err := Check(m.t.Context(), o, "ns", CheckOptions{})
	if err != nil {
		m.t.Fatalf("check: %v", err)
	}
	for _, f := range res.Findings {
		// The index may lag behind a crash, or have been at an opening: the next one brings it in order.
		if !strings.HasPrefix(f.File, filepath.Join(o.IndexDir, "ns", badgerDir)) {
			m.t.Fatalf("check after a crash: %+v", res)
		}
	}
	m.checks++
}

// hold opens an iterator, which is read much later.
func (m *machine) hold() {
	if m.held != nil {
		return
	}
	it, err := m.n.NewIter(m.t.Context(), IterOptions{Reverse: m.rng.IntN(2) == 0})
	if err != nil {
		m.mustBeDead("iterator", err)
		return
	}
	m.held, m.heldWant = it, m.states[len(m.states)-1]
}

// release reads the iterator to its end: it gives what there was when it was made.
func (m *machine) release(read bool) {
	it := m.held
	if it == nil {
		return
	}
	m.held = nil
	got := make(map[string]string)
	var err error
	for ok := read && it.First(); ok && err == nil; ok = it.Next() {
		var v []byte
		v, err = it.Value()
		got[string(it.Key())] = string(v)
	}
	err = errors.Join(err, it.Err(), it.Close())
	if !read || m.dead.Load() {
		return
	}
	if err != nil || !maps.Equal(got, m.heldWant) {
		m.t.Fatalf("the iterator gave %d keys of %d, %v", len(got), len(m.heldWant), err)
	}
}
