// Package transfer moves stripes between plaintext on the front machine and shards on the nodes.
//
// A Generation is one encoding attempt of one object on its way out. Each stripe is encoded once;
// its package stays in memory until every shard was acknowledged by its node or given up. Given up
// is what a node that is away, full or hung would have got: that stripe has fewer than n shards, and
// Complete makes the missing ones again later, byte for byte, from k others. A stripe below the floor
// (k+1 acknowledged shards) ends its generation: the object starts again in a new one.
//
// A Reader goes the other way: it asks the best k nodes for a stripe, hedges, replaces every answer that
// is late, absent or does not verify, and tells "too few nodes answered" from "enough answered, and
// what they gave is damaged".
//
// Everything in flight is drawn from one memory budget.
package transfer

import (
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/budget"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/keys"
	"qsfs/zstor/internal/record"
)

// Options of a Mover. Codec, Budget and Peer are required.
type Options struct {
	Codec  *codec.Codec
	Budget *budget.Budget
	// Peer finds a node by its id; nil for one that is not configured any more.
	Peer func(id string) *backend.Peer
	Log  *slog.Logger
	// Hedge asks one node more when an answer is late.
	Hedge bool
	// Grace is how long a stripe that has reached the floor waits for its last shards before it gives
	// them up. Default 5 s.
	Grace time.Duration
}

// Mover holds what all transfers share. It is safe for concurrent use.
type Mover struct {
	o    Options
	cpus chan struct{} // bounds encodings and decodings at once
	// Written counts plaintext bytes that reached the floor.
	Written atomic.Int64
	Reads
}

// Reads counts what fetches did.
type Reads struct {
	Stripes, Bytes, Shards, Hedged, Failed, Damaged atomic.Int64
}

// New makes a Mover.
func New(o Options) *Mover {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Grace <= 0 {
		o.Grace = 5 * time.Second
	}
	return &Mover{o: o, cpus: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)))}
}

// The outcomes that callers branch on.
var (
	// ErrBelowFloor: a stripe did not reach k+1 shards. Its generation has ended.
	ErrBelowFloor = errors.New("too few shards were acknowledged")
	// ErrUnavailable: too few nodes answered. Waiting can help.
	ErrUnavailable = errors.New("too few nodes answer")
	// ErrDamaged: enough nodes answered, and what they gave does not make the stripe.
	ErrDamaged = errors.New("too few good shards are left")
)

// paramsOf gives the codec's view of a manifest.
func paramsOf(m *record.Manifest) codec.Params {
	return codec.Params{
		Object: m.Object, Generation: codec.Generation(m.Generation), K: int(m.K), N: int(m.N),
		KeyEpoch: keys.Epoch(m.KeyEpoch), Writer: codec.Writer{Epoch: m.Writer.Epoch, Counter: m.Writer.Counter},
		StripeSize: int(m.StripeSize), Compression: codec.Compression(m.Compression),
	}
}

// holders lists, for each index, the node that has it: of several in the history the last one
// that was not given up.
func holders(m *record.Manifest) []string {
	out := make([]string, m.N)
	for _, h := range m.Nodes {
		if h.State != record.GivenUp {
			out[h.Index] = h.Node
		}
	}
	return out
}
