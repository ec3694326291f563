package server

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"qsfs/zdb"
)

// dirtySegments are those in which an entry was replaced or deleted since the last reset, as far as this process knows.
// No file of ours is ever changed in place; the list says what the original's does: where a copy of the namespace still
// takes entries for live that are not.
type dirtySegments struct {
	mu  sync.Mutex
	ids map[zdb.SegmentID]bool
}

func (d *dirtySegments) mark(id zdb.SegmentID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ids == nil {
		d.ids = map[zdb.SegmentID]bool{}
	}
	d.ids[id] = true
}

// list returns the segments in order.
func (d *dirtySegments) list() []zdb.SegmentID {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := make([]zdb.SegmentID, 0, len(d.ids))
	for id := range d.ids {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// clear forgets the given segments, or all.
func (d *dirtySegments) clear(ids []zdb.SegmentID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		delete(d.ids, id)
	}
}

// words writes the list as hooks get it.
func words(ids []zdb.SegmentID) string {
	var list []string
	for _, id := range ids {
		list = append(list, strconv.FormatUint(uint64(id), 10))
	}
	return strings.Join(list, " ")
}

// cmdIndex is INDEX DIRTY → the dirty segments, and INDEX DIRTY RESET → OK.
func cmdIndex(s *session, args [][]byte) {
	d := &s.ns.dirty
	switch {
	case len(args[1]) > maxProperty:
		s.fail(errTooLong)
	case !strings.EqualFold(string(args[1]), "DIRTY"):
		s.fail(errIndexSub)
	case len(args) != 3:
		ids := d.list()
		s.array(len(ids))
		for _, id := range ids {
			s.integer(int64(id))
		}
	case !strings.EqualFold(string(args[2]), "RESET"):
		s.fail(errDirtySub)
	default:
		d.clear(d.list())
		s.ok()
	}
}
