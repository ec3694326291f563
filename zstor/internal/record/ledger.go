package record

import (
	"fmt"
	"maps"
	"slices"
)

// Below leastChanges no new base is due, however small the old one is; above mostChangeBytes one is due, however
// large it is, for a cut must stay well below MaxBody (the tails need room, too).
const (
	leastChanges    = 256
	mostChangeBytes = 128 << 10
	changeBytes     = 1 + 1 + 5 + 16 + 9 + 9 // at most
)

// A Ledger keeps the exact live set as the newest base and the changes since. It is pure logic and not safe for
// concurrent use.
type Ledger struct {
	base    *Base // nil: no base yet
	ref     *BaseRef
	changes map[SegmentKey]Change
	high    map[string]uint32
	live    int
}

// NewLedger starts with nothing live.
func NewLedger() *Ledger {
	return &Ledger{changes: make(map[SegmentKey]Change), high: make(map[string]uint32)}
}

// LoadLedger starts from a cut and the base that it refers to (nil when it refers to none).
func LoadLedger(c *Cut, b *Base) (*Ledger, error) {
	if (c.Base == nil) != (b == nil) {
		return nil, fmt.Errorf("cut %v: base is missing, or it has none", c.ID())
	}
	l := NewLedger()
	for _, ns := range c.Namespaces {
		l.high[ns.Name] = ns.High
	}
	if b != nil {
		if b.Epoch != c.Base.Epoch || b.Number != c.Base.Number || uint64(len(b.Segments)) != uint64(c.Base.Count) {
			return nil, fmt.Errorf("cut %v: %w: base e%d.%d is not the one it names", c.ID(), ErrDamaged, b.Epoch, b.Number)
		}
		ref := *c.Base
		l.base, l.ref, l.live = b, &ref, len(b.Segments)
	}
	for _, ch := range c.Changes {
		_, inBase := b.find(ch.SegmentKey)
		switch {
		case ch.Remove && !inBase:
			return nil, fmt.Errorf("cut %v: %w: %s/%d is removed but not in the base", c.ID(), ErrDamaged, ch.Namespace, ch.Segment)
		case ch.Remove:
			l.live--
		case !inBase:
			l.live++
		}
		l.changes[ch.SegmentKey] = ch
	}
	return l, nil
}

// Expand gives the full live set of a cut, sorted: the base it names with its changes applied.
func Expand(c *Cut, b *Base) ([]SegmentRef, error) {
	l, err := LoadLedger(c, b)
	if err != nil {
		return nil, err
	}
	return l.Live(), nil
}

// Add makes a generation of a segment live, in place of the one before if there was one.
func (l *Ledger) Add(s SegmentRef) {
	if !l.Has(s.SegmentKey) {
		l.live++
	}
	l.Raise(s.Namespace, s.Segment)
	if old, ok := l.base.find(s.SegmentKey); ok && old == s {
		delete(l.changes, s.SegmentKey)
		return
	}
	l.changes[s.SegmentKey] = Change{SegmentRef: s}
}

// Remove takes a segment out of the live set; it reports whether it was in it.
func (l *Ledger) Remove(k SegmentKey) bool {
	if !l.Has(k) {
		return false
	}
	l.live--
	if old, ok := l.base.find(k); ok {
		l.changes[k] = Change{Remove: true, SegmentRef: old}
	} else {
		delete(l.changes, k)
	}
	return true
}

// Has reports whether a segment is live.
func (l *Ledger) Has(k SegmentKey) bool {
	_, ok := l.Lookup(k)
	return ok
}

// Lookup gives the live generation of a segment.
func (l *Ledger) Lookup(k SegmentKey) (SegmentRef, bool) {
	if ch, ok := l.changes[k]; ok {
		if ch.Remove {
			return SegmentRef{}, false
		}
		return ch.SegmentRef, true
	}
	return l.base.find(k)
}

// Raise notes that a segment number was used.
func (l *Ledger) Raise(namespace string, segment uint32) {
	l.high[namespace] = max(l.high[namespace], segment)
}

// Len is the number of live segments.
func (l *Ledger) Len() int { return l.live }

// Live lists the live set, sorted.
func (l *Ledger) Live() []SegmentRef {
	out := make([]SegmentRef, 0, l.live)
	if l.base != nil {
		for _, s := range l.base.Segments {
			if _, changed := l.changes[s.SegmentKey]; !changed {
				out = append(out, s)
			}
		}
	}
	for _, ch := range l.changes {
		if !ch.Remove {
			out = append(out, ch.SegmentRef)
		}
	}
	sortRefs(out)
	return out
}

// Due reports whether a new base should be made: the changes exceed an eighth of the base, or crowd the cut.
func (l *Ledger) Due() bool {
	n := len(l.changes)
	if n*changeBytes > mostChangeBytes {
		return true
	}
	size := 0
	if l.base != nil {
		size = len(l.base.Segments)
	}
	return n > leastChanges && n > size/8
}

// Snapshot freezes the live set as a base to be dispersed; epoch and number name the newest cut. The ledger goes on
// with the old base until Rebase.
func (l *Ledger) Snapshot(epoch, number uint64) *Base {
	return &Base{Epoch: epoch, Number: number, Segments: l.Live()}
}

// Rebase takes a base whose object has reached the floor: the changes are from now on those since it, whatever has
// been added or removed in between.
func (l *Ledger) Rebase(b *Base, ref BaseRef) error {
	if b.Epoch != ref.Epoch || b.Number != ref.Number || uint64(len(b.Segments)) != uint64(ref.Count) {
		return fmt.Errorf("rebase: base e%d.%d and its reference e%d.%d differ", b.Epoch, b.Number, ref.Epoch, ref.Number)
	}
	live := l.Live()
	l.changes = make(map[SegmentKey]Change)
	l.base, l.ref = b, &ref
	alive := make(map[SegmentKey]bool, len(live))
	for _, s := range live {
		alive[s.SegmentKey] = true
		if old, ok := b.find(s.SegmentKey); !ok || old != s {
			l.changes[s.SegmentKey] = Change{SegmentRef: s}
		}
	}
	for _, s := range b.Segments {
		if !alive[s.SegmentKey] {
			l.changes[s.SegmentKey] = Change{Remove: true, SegmentRef: s}
		}
	}
	return nil
}

// Changes lists the changes since the base, sorted.
func (l *Ledger) Changes() []Change {
	out := slices.Collect(maps.Values(l.changes))
	sortChanges(out)
	return out
}

// Fill puts namespaces, base and changes into a cut. Tails must be set before, so that their namespaces are known.
func (l *Ledger) Fill(c *Cut) {
	for i := range c.Tails {
		l.Raise(c.Tails[i].Namespace, c.Tails[i].Segment)
	}
	for _, ch := range l.changes {
		l.Raise(ch.Namespace, ch.Segment)
	}
	c.Namespaces = nil
	for _, name := range slices.Sorted(maps.Keys(l.high)) {
		c.Namespaces = append(c.Namespaces, NamespaceInfo{Name: name, High: l.high[name]})
	}
	c.Base = nil
	if l.ref != nil {
		ref := *l.ref
		c.Base = &ref
	}
	c.Changes = l.Changes()
}
