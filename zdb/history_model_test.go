package zdb

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// past is what the model knows of the versions of the keys, and of pins.
type past struct {
	versions map[string][]modelVersion // oldest first
	keep     Retention
	pins     map[Seq]map[string]string // acknowledged; what the keys had then
	maybe    map[Seq]map[string]string // the power went while they were set or taken back
}

type modelVersion struct {
	batch   int
	value   string
	deleted bool
	// gone: there was a time when nothing wanted it.
	gone bool
}

func newPast() past {
	return past{versions: make(map[string][]modelVersion), pins: make(map[Seq]map[string]string), maybe: make(map[Seq]map[string]string)}
}

// set adds a version. A delete of what is not there is none.
func (p *past) set(batch int, key, value string, deleted bool) {
	list := p.versions[key]
	if deleted && (len(list) == 0 || list[len(list)-1].deleted) {
		return
	}
	p.versions[key] = append(list, modelVersion{batch: batch, value: value, deleted: deleted})
}

// forget marks what retention does not want.
func (p *past) forget() {
	for _, list := range p.versions {
		for i := range list {
			rank := len(list) - 1 - i
			if rank > 0 && rank >= p.keep.KeepLast && p.keep.KeepFor == 0 {
				list[i].gone = true
			}
		}
	}
}

// cut takes back what came after a batch.
func (p *past) cut(batch int) {
	for key, list := range p.versions {
		p.versions[key] = slices.DeleteFunc(list, func(v modelVersion) bool { return v.batch > batch })
	}
}

// checkPast compares history and pins with the model.
func (m *machine) checkPast() {
	m.t.Helper()
	if m.dead.Load() {
		return
	}
	have := m.n.Pins()
	for seq := range m.past.pins {
		if !slices.Contains(have, seq) {
			m.t.Fatalf("pin %v is lost, %v are there", seq, have)
		}
	}
	for _, seq := range have {
		want, ok := m.past.pins[seq]
		if !ok {
			if want, ok = m.past.maybe[seq]; !ok {
				m.t.Fatalf("pin %v came from nowhere", seq)
			}
			m.past.pins[seq] = want
		}
		m.checkAt(seq, want)
	}
	clear(m.past.maybe)
	for key, list := range m.past.versions {
		m.checkHistory(key, list)
	}
}

func (m *machine) checkAt(seq Seq, want map[string]string) {
	m.t.Helper()
	got, err := m.dumpAt(seq, m.rng.IntN(2) == 0)
	if err != nil {
		m.mustBeDead("iterate at a pin", err)
		return
	}
	if !maps.Equal(got, want) {
		for k := range want {
			if got[k] != want[k] {
				m.t.Errorf("at %v %s = %.30q, want %.30q", seq, k, got[k], want[k])
			}
		}
		for k := range got {
			if _, ok := want[k]; !ok {
				raw, _ := m.n.indexHistory(m.t.Context(), []byte(k), ^Seq(0), 100)
				m.t.Errorf("at %v %s is there: index %+v", seq, k, raw)
			}
		}
		m.t.Fatalf("at %v: %d keys, want %d, pins %v, retention %+v", seq, len(got), len(want), m.n.Pins(), m.past.keep)
	}
	for range 5 {
		key := fmt.Sprintf("k%02d", m.rng.IntN(60))
		e, err := m.n.GetAt(m.t.Context(), []byte(key), seq)
		value, ok := want[key]
		if m.dead.Load() {
			return
		}
		if ok != (err == nil) || !ok && err != ErrNotFound || string(e.Value) != value {
			m.t.Fatalf("GetAt(%s, %v) = %.20q %v, want %.20q", key, seq, e.Value, err, value)
		}
	}
}

func (m *machine) checkHistory(key string, list []modelVersion) {
	m.t.Helper()
	got, err := m.n.History(m.t.Context(), []byte(key), 0, 1000)
	if err != nil {
		m.mustBeDead("history", err)
		return
	}
	hold := m.n.Hold()
	defer hold.Release()
	i := 0
	text := fmt.Sprintf("history of %s:", key)
	for at := len(list) - 1; at >= 0; at-- {
		want := list[at]
		found := false
		if i < len(got) && got[i].Deleted == want.deleted && got[i].Length == int64(len(want.value)) {
			value := make([]byte, got[i].Length)
			if _, err := m.n.ReadLocation(m.t.Context(), got[i].Location, 0, value); err != nil {
				if got, err = m.n.History(m.t.Context(), []byte(key), 0, 1000); err != nil || i >= len(got) {
					m.mustBeDead("history again", err)
					return
				}
				if _, err := m.n.ReadLocation(m.t.Context(), got[i].Location, 0, value); err != nil {
					m.mustBeDead("read a version", err)
					return
				}
			}
			found = string(value) == want.value
		}
		text += fmt.Sprintf(" %d/%v/%d/gone=%v/found=%v", want.batch, want.deleted, len(want.value), want.gone, found)
		if found {
			i++
			continue
		}
		if !want.gone && !want.deleted {
			raw, _ := m.n.indexHistory(m.t.Context(), []byte(key), ^Seq(0), 100)
			m.t.Fatalf("%s: a version that is to be kept is not there (%+v); retention %+v, pins %v, index %+v", text, got, m.past.keep, m.n.Pins(), raw)
		}
	}
	if i != len(got) {
		m.t.Fatalf("%s: %d versions from nowhere in %+v", text, len(got)-i, got)
	}
}

func (m *machine) pin() {
	state := maps.Clone(m.states[len(m.states)-1])
	seq, err := m.n.Pin(m.t.Context())
	if err != nil {
		m.mustBeDead("pin", err)
		m.past.maybe[seq] = state
		return
	}
	m.past.pins[seq] = state
	m.acked = m.latest()
}

func (m *machine) unpin() {
	for _, seq := range m.n.Pins() {
		if m.rng.IntN(3) > 0 || m.past.pins[seq] == nil {
			continue
		}
		state := m.past.pins[seq]
		for slices.Contains(m.n.Pins(), seq) { // it may have been pinned more than once
			if err := m.n.Unpin(seq); err != nil {
				m.mustBeDead("unpin", err)
				m.past.maybe[seq] = state
				break
			}
		}
		delete(m.past.pins, seq)
		return
	}
}

func (m *machine) retain() {
	r := Retention{KeepLast: []int{0, 1, 2, 5}[m.rng.IntN(4)], KeepFor: []time.Duration{0, 0, time.Hour}[m.rng.IntN(3)]}
	before := m.past.keep
	if err := m.n.SetRetention(r); err != nil {
		m.mustBeDead("retention", err)
		// Either may hold now: require what both want.
		r = Retention{KeepLast: min(r.KeepLast, before.KeepLast), KeepFor: min(r.KeepFor, before.KeepFor)}
	}
	m.past.keep = r
	m.past.forget()
}

func (m *machine) compact() {
	_, err := m.n.Compact(m.t.Context(), CompactOptions{All: m.rng.IntN(2) == 0})
	if err != nil {
		m.mustBeDead("compact", err)
	}
}
