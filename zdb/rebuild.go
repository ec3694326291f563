package zdb

import (
	"context"
	"errors"
)

var errAsked = errors.New("a rebuild was asked for")

// RebuildIndex drops the index and builds it again from all segments, i<N> where d<N> is not here. Reads of what is
// not in memory wait meanwhile.
func (n *Namespace) RebuildIndex(ctx context.Context) error {
	defer n.db.working()()
	x, err := n.acquireIndex(ctx)
	if err != nil {
		return n.public(err)
	}
	_ = x.Fail(errAsked)
	if err := x.Release(); err != nil {
		return n.public(err)
	}
	// The next use finds it broken and builds another.
	if x, err = n.acquireIndex(ctx); err != nil {
		return n.public(err)
	}
	return n.public(x.Release())
}

// RebuildIndexSegment writes i<id> of a sealed segment again from d<id>, or from its copy when d<id> is not here.
func (n *Namespace) RebuildIndexSegment(ctx context.Context, id SegmentID) error {
	defer n.db.working()()
	return n.public(n.log.RemakeIndex(ctx, id))
}
