package quorum

import (
	"context"
	"slices"

	"qsfs/zstor/internal/record"
)

// A NodeStatus is what one node shows now.
type NodeStatus struct {
	ID, Group string
	Counts    bool
	Complete  bool         // it shows the mark of its present incarnation
	Shows     record.Owner // zero when it shows none
	Missed    int          // records that it did not take while it was away or slow, as far as is known
	Unseen    bool         // what it missed before this run is not known; see FindLagging
	Err       error        // why it does not count; nil when it does
}

// A Status says what the metadata nodes are good for now.
type Status struct {
	Nodes       []NodeStatus
	M, W, R     int
	Counting    int
	CanRead     bool
	CanWrite    bool // this Set is the owner, and W nodes show it
	CanTakeOver bool
	FencedBy    *record.Owner // the highest other owner that a node shows, if it is above ours
}

// NeedsRebuild lists the nodes that are up but do not count until they are rebuilt, and those that count but missed
// records: without them these lie on fewer nodes than they could.
func (st *Status) NeedsRebuild() []int {
	var out []int
	for i, n := range st.Nodes {
		if n.Err == errIncomplete || n.Err == errBadEpochKey || n.Counts && n.Missed > 0 {
			out = append(out, i)
		}
	}
	return out
}

// Unseen reports whether FindLagging has something to find out.
func (st *Status) Unseen() bool {
	return st.CanWrite && slices.ContainsFunc(st.Nodes, func(n NodeStatus) bool { return n.Counts && n.Unseen })
}

// Status asks all nodes. It waits for each, up to CallTimeout.
func (s *Set) Status(ctx context.Context) Status {
	mine, value := s.ownerValueOf()
	out := Status{Nodes: make([]NodeStatus, len(s.nodes)), M: len(s.nodes), W: s.w, R: s.r}
	s.mu.Lock()
	missed, unseen := slices.Clone(s.missed), slices.Clone(s.unseen)
	s.mu.Unlock()
	for i, n := range s.nodes {
		out.Nodes[i] = NodeStatus{ID: n.ID(), Group: n.Group(), Err: context.DeadlineExceeded}
	}
	complete := 0
	states, _ := gather(ctx, s, s.all(), len(s.nodes), 0, func(ctx context.Context, i int) (NodeStatus, error) {
		n := NodeStatus{ID: s.nodes[i].ID(), Group: s.nodes[i].Group(), Missed: missed[i], Unseen: unseen[i]}
		var st State
		n.Err = s.call(ctx, i, func(ctx context.Context, node Node) (err error) {
			st, err = node.State(ctx)
			return err
		})
		if n.Err != nil {
			return n, nil
		}
		v, _ := s.judge(st, mine, value)
		n.Shows, _ = s.shown(st)
		n.Complete = s.complete(st)
		n.Err = s.reason(v, mine, n.Shows, n.ID)
		n.Counts = v == counts
		return n, nil
	})
	for _, a := range states {
		out.Nodes[a.i] = a.v
		if a.v.Counts {
			out.Counting++
		}
		if a.v.Complete {
			complete++
		}
		if o := a.v.Shows; o.Epoch != 0 && mine.Epoch != 0 && !o.Same(mine) && o.Epoch >= mine.Epoch {
			if out.FencedBy == nil || o.Epoch > out.FencedBy.Epoch {
				out.FencedBy = &o
			}
		}
	}
	out.CanRead = out.Counting >= s.r
	out.CanWrite = mine.Epoch != 0 && out.Counting >= s.w
	out.CanTakeOver = complete >= max(s.w, s.r)
	return out
}
