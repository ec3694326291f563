package zdb

import "sync"

// holds numbers the readers that may still know places in the log that the
// index has left. A segment is removed only when none is older than the moment at which the index left it.
type holds struct {
	mu   sync.Mutex
	now  uint64
	open map[uint64]int
}

func (h *holds) enter() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open == nil {
		h.open = make(map[uint64]int)
	}
	h.open[h.now]++
	return h.now
}

func (h *holds) leave(at uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[at]--; h.open[at] == 0 {
		delete(h.open, at)
	}
}

// advance begins a new number: who enters from now on does not count for clear of it.
func (h *holds) advance() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	return h.now
}

// clear says whether all that entered before a number have left.
func (h *holds) clear(before uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at := range h.open {
		if at < before {
			return false
		}
	}
	return true
}

// Hold keeps places in the log readable: see Namespace.Hold.
type Hold struct {
	n    *Namespace
	at   uint64
	once sync.Once
}

// Hold keeps every Location that the namespace gives while it is held readable by ReadLocation, whatever
// compaction does. Without it a place may be gone by the time it is read: that is ErrSegment, and the key has a new one.
// It holds back the removal of segments, so it must be released.
func (n *Namespace) Hold() *Hold { return &Hold{n: n, at: n.holds.enter()} }

// Release ends the hold.
func (h *Hold) Release() { h.once.Do(func() { h.n.holds.leave(h.at) }) }
