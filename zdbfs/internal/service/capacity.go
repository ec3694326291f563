package service

import (
	"sync/atomic"

	"qsfs/zdbfs"
	"qsfs/zstor/client"
)

// unknownCapacity is shown while the nodes do not say how much room they have.
const unknownCapacity = 1 << 50

// capacity is what statfs shows: what the nodes hold and can still take, in bytes of content.
type capacity struct {
	free  atomic.Int64 // of the nodes, as content; negative: unknown
	local func() int64 // bytes of content in the local log
}

func newCapacity(local func() int64) *capacity {
	c := &capacity{local: local}
	c.free.Store(-1)
	return c
}

// update takes in what the nodes have free. Shards of one object spread over the nodes, so k of n
// bytes are content; the room of nodes that are away counts, it comes back.
func (c *capacity) update(st *client.Status) {
	var raw int64
	for _, n := range st.Nodes {
		if n.Role == "data" {
			raw += n.Free
		}
	}
	if raw == 0 || st.Policy.ExpectedShards == 0 {
		return
	}
	c.free.Store(int64(float64(raw) * float64(st.Policy.MinimalShards) / float64(st.Policy.ExpectedShards)))
}

// room is zdbfs.Options.Capacity.
func (c *capacity) room() zdbfs.Capacity {
	used := uint64(max(c.local(), 0))
	free := c.free.Load()
	if free < 0 {
		free = max(unknownCapacity-int64(used), 0)
	}
	f := uint64(free)
	return zdbfs.Capacity{Total: used + f, Free: f, Avail: f}
}
