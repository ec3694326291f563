package zdb

import (
	"container/list"
	"sync"
)

// indexes bounds the Badger instances that are open at once: the one that was
// not used for longest makes room. One that is in use stays, so the bound is soft while iterators run.
type indexes struct {
	max int

	mu   sync.Mutex
	used *list.List // of *Namespace, most recent in front
	at   map[*Namespace]*list.Element
}

func newIndexes(limit int) *indexes {
	return &indexes{max: limit, used: list.New(), at: make(map[*Namespace]*list.Element)}
}

// opened notes that a namespace has opened its index and returns those that should close theirs.
func (x *indexes) opened(n *Namespace) []*Namespace {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.touchLocked(n)
	var victims []*Namespace
	for e := x.used.Back(); e != nil && x.used.Len()-len(victims) > x.max; e = e.Prev() {
		if v := e.Value.(*Namespace); v != n {
			victims = append(victims, v)
		}
	}
	return victims
}

func (x *indexes) touch(n *Namespace) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.at[n] != nil {
		x.touchLocked(n)
	}
}

func (x *indexes) touchLocked(n *Namespace) {
	if e := x.at[n]; e != nil {
		x.used.MoveToFront(e)
		return
	}
	x.at[n] = x.used.PushFront(n)
}

func (x *indexes) closed(n *Namespace) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.at[n]; e != nil {
		x.used.Remove(e)
		delete(x.at, n)
	}
}
