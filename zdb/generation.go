package zdb

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"

	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/overlay"
	"qsfs/zdb/internal/wal"
)

// generation is one table of the overlay.
type generation struct {
	*overlay.Table
	began time.Time
	end   wal.Head // set when it is frozen
	// moves are entries that compaction wrote again. They are not in the table: until the index knows the new places
	// the old ones are read. They change under commitMu only, and no more once the generation is frozen.
	moves []index.Change
	moved atomic.Int64 // bytes that they take
}

func newGeneration() *generation { return &generation{Table: overlay.New(), began: time.Now()} }

func (g *generation) empty() bool { return g.Len() == 0 && g.moved.Load() == 0 }

// taken is what it takes up in memory, about.
func (g *generation) taken() int64 { return g.Bytes() + g.moved.Load() }

// changes gives what the index has to know of the generation, in the order of its keys: the newest
// entry of each, after what the policy keeps of those before it.
func (g *generation) changes(policy *index.Policy, add func(index.Change) error) error {
	var err error
	group := make([]*overlay.Entry, 0, 8)
	active := policy.Active()
	g.All(func(e *overlay.Entry) bool {
		if len(group) > 0 && bytes.Equal(group[0].Key, e.Key) {
			if active {
				group = append(group, e)
			}
			return true
		}
		err = addGroup(group, policy, add)
		group = append(group[:0], e)
		return err == nil
	})
	if err == nil {
		err = addGroup(group, policy, add)
	}
	for i := 0; i < len(g.moves) && err == nil; i++ {
		err = add(g.moves[i])
	}
	return err
}

// addGroup takes the entries of one key, newest first.
func addGroup(group []*overlay.Entry, policy *index.Policy, add func(index.Change) error) error {
	if len(group) > 1 {
		kept, next, rank := group[:1], overlaid(group[0]), 0
		for i := 1; i < len(group); i++ {
			v := overlaid(group[i])
			if !v.Repeats(&next) {
				rank++
			}
			// A delete stays here: whether there is something below it only the index can tell.
			if v.Delete || policy.Wants(group[i].Key, rank, &v, &next) {
				kept = append(kept, group[i])
			}
			next = v
		}
		group = kept
	}
	for _, e := range slices.Backward(group) {
		c := index.Change{Key: e.Key, Delete: e.Delete}
		c.Location, c.Seq, c.Time, c.Given, c.Inline, c.Value = e.Location, e.Seq, e.Time, e.Given, e.Inline, e.Value
		if err := add(c); err != nil {
			return err
		}
	}
	return nil
}
