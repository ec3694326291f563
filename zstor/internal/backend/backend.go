// Package backend holds the contract between zstor and a storage node.
//
// A backend is a flat store of small immutable values on a machine that nobody trusts: what it
// returns is checked elsewhere (every shard carries a MAC), what it acknowledges counts for as much
// as it declares (Durability). Calls are safe to repeat. The suite in backendtest is the contract in
// executable form; it runs on every implementation, the faulty one in memnode included.
package backend

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limits that every backend accepts.
const (
	MaxName  = 255
	MaxValue = 8 << 20
)

// Backend is one namespace on one node.
type Backend interface {
	// Put stores a value under a name. Storing the same bytes again succeeds. A nil error means what
	// Info.Durability says; after any other outcome the value may or may not have arrived.
	Put(ctx context.Context, name, value []byte) error
	// Get returns the value, or ErrAbsent when the node answered that it has none.
	Get(ctx context.Context, name []byte) ([]byte, error)
	// Has asks for each name whether the node claims to hold it. A claim proves nothing.
	Has(ctx context.Context, names [][]byte) ([]bool, error)
	// Delete removes names. A name that is not there is success.
	Delete(ctx context.Context, names [][]byte) error
	// Info contacts the node.
	Info(ctx context.Context) (Info, error)
	// Close gives up the connections; calls in flight fail.
	Close() error
}

// Info is what a node says about itself.
type Info struct {
	Durability  Durability
	NoSync      bool   // it says that it acknowledges writes before they are on its disk, although it could do otherwise
	Incarnation string // identity of the namespace; empty when the node has none
	Entries     int64
	Used        int64 // bytes
	Free        int64 // bytes; -1 when unknown
}

// Durability is what an acknowledgement is worth.
type Durability struct {
	// Unconfirmed: an acknowledgement says that the node has the bytes in memory, no more; shards
	// count as confirmed only when they were read back later.
	Unconfirmed bool
	// After: the node promises stable storage this long after the acknowledgement.
	After time.Duration
}

// OnAck reports whether an acknowledgement alone is enough.
func (d Durability) OnAck() bool { return !d.Unconfirmed && d.After == 0 }

// String names it for people.
func (d Durability) String() string {
	switch {
	case d.Unconfirmed:
		return "unconfirmed"
	case d.After > 0:
		return "after " + d.After.String()
	}
	return "on-ack"
}

// The answers that callers branch on. Everything else is a failure to get an answer.
var (
	// ErrAbsent: the node answered, and it has no such name.
	ErrAbsent = errors.New("not there")
	// ErrPassword: the node refused the password. Retrying does not help.
	ErrPassword = errors.New("wrong password")
	// ErrNoNamespace: the node has no such namespace.
	ErrNoNamespace = errors.New("no such namespace")
	// ErrFull: the node has no room, or the namespace's quota is used up.
	ErrFull = errors.New("no space on the node")
	// ErrRefused: the node answered with an error of another kind.
	ErrRefused = errors.New("refused by the node")
	// ErrVolatile: the node acknowledges writes before they are on its disk, and cannot do what was asked for.
	ErrVolatile = errors.New("does not sync its writes")
	// ErrDown: the node did not answer, or has not answered for a while and is not asked now.
	ErrDown = errors.New("node does not answer")
	// ErrLate is the cause to cancel an operation with that the node was too slow for. It is an ErrDown.
	ErrLate = fmt.Errorf("%w in time", ErrDown)
)

// NodeError says which node an error came from.
type NodeError struct {
	Node string
	Op   string
	Err  error
}

// Error names the node and the operation.
func (e *NodeError) Error() string { return fmt.Sprintf("node %s: %s: %v", e.Node, e.Op, e.Err) }

// Unwrap gives the cause.
func (e *NodeError) Unwrap() error { return e.Err }

// Answered reports whether an error is an answer of the node, so that the node is alive.
func Answered(err error) bool {
	return err == nil || errors.Is(err, ErrAbsent) || errors.Is(err, ErrPassword) ||
		errors.Is(err, ErrNoNamespace) || errors.Is(err, ErrFull) || errors.Is(err, ErrRefused)
}
