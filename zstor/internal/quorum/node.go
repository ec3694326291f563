package quorum

import (
	"context"

	"qsfs/zstor/internal/record"
)

// A State is what a node says about itself.
type State struct {
	Epoch       []byte // value of record.EpochName; nil when it is not there
	Mark        []byte // value of record.MarkName; nil when it is not there
	Incarnation record.Incarnation
}

// A Node is one metadata node. All methods are safe for concurrent use and for repetition; each may fail at any time,
// and a failed call may still have taken effect, or take effect later. A call returns soon after its context ended.
//
// What each method must guarantee beside that:
//
//   - A change that was answered is durable on the node.
//   - State is one answer, but it need not be atomic: the incarnation is read before the other two, or again after
//     them, and a call that sees it change fails.
//   - Put and Delete read the state strictly after their change took effect, on the same connection and in the same
//     pipeline: SET…, INCARNATION, GET epoch, GET mark. (A connection's commands run in order.)
//   - List and Get read the state strictly before the first name or value, and the incarnation again after the last
//     one: if it changed, the call fails. They may take several round trips.
//   - CompareAndSet is atomic and durable on the node. It sets name to value if its present value is expected (nil:
//     if it is not there; record.EpochName and record.MarkName are set so), and returns the value that is there afterwards. A present value equal to value is success.
type Node interface {
	ID() string    // address/namespace
	Group() string // the site that it is lost with

	State(ctx context.Context) (State, error)
	Put(ctx context.Context, name, value []byte) (State, error)
	// Delete removes names; those that are not there are no error.
	Delete(ctx context.Context, names [][]byte) (State, error)
	// List gives all names that start with prefix, in any order.
	List(ctx context.Context, prefix []byte) (State, [][]byte, error)
	// Get gives the values of names, nil where there is none.
	Get(ctx context.Context, names [][]byte) (State, [][]byte, error)
	CompareAndSet(ctx context.Context, name, value, expected []byte) (current []byte, err error)
}
