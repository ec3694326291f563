package record

import (
	"fmt"
	"time"
)

// Limits of manifests and intents.
const (
	maxHoldings = 4096 // nodes of a generation, removed ones included
	maxNodeID   = 255
	maxShards   = 256
)

// A HoldState says how far a node is known to have its index of a generation.
type HoldState uint8

// The states of a holding. Once a node was offered an index it stays in the history for good: a SET that timed out
// may have arrived, and a node must never see a second index.
const (
	Offered   HoldState = 1 // named in an intent; perhaps it has some
	Stored    HoldState = 2 // every stripe acknowledged
	Confirmed HoldState = 3 // durable by the node's own word, or read back
	GivenUp   HoldState = 4 // replaced or removed; what it has must still be deleted one day
)

func (h HoldState) String() string {
	switch h {
	case Offered:
		return "offered"
	case Stored:
		return "stored"
	case Confirmed:
		return "confirmed"
	case GivenUp:
		return "given up"
	}
	return fmt.Sprintf("state %d", uint8(h))
}

// A Holding says that a node was offered an index of a generation.
type Holding struct {
	Index uint16
	Node  string // id of the node: address/namespace
	State HoldState
}

// A Writer is an owner's epoch and a counter at some moment of it.
type Writer struct {
	Epoch   uint64
	Counter uint64
}

// A Manifest describes one generation of one dispersed object: everything a reader needs beside the keys. It holds
// lengths of plaintext but no hash of any.
type Manifest struct {
	Object       string
	Generation   Generation
	K, N         uint16
	KeyEpoch     uint32
	StripeSize   uint32 // plaintext bytes of a stripe
	Compression  uint8
	Fallback     bool // stored under the fallback policy; to be encoded again
	DataLen      int64
	IndexLen     int64
	DataStripes  uint32 // stripes 0 … DataStripes−1 hold the data
	IndexStripes uint32 // the next ones hold i<N>
	Writer       Writer // at the generation's start
	Time         time.Time
	Nodes        []Holding // the whole history, removed nodes included
	Checksum     [32]byte  // one hash over all shard MACs; zero when it is not known
}

const manifestFormat = 1

// Count is the number of distinct indices that are at least in the given state (Stored or Confirmed).
func (m *Manifest) Count(least HoldState) int {
	var seen [maxShards]bool
	n := 0
	for _, h := range m.Nodes {
		if h.State >= least && h.State != GivenUp && int(h.Index) < maxShards && !seen[h.Index] {
			seen[h.Index] = true
			n++
		}
	}
	return n
}

// Validate checks what a manifest says against itself.
func (m *Manifest) Validate() error {
	switch {
	case len(m.Object) == 0 || len(m.Object) > MaxObject:
		return fmt.Errorf("manifest: object name of %d bytes", len(m.Object))
	case m.K < 2 || m.N <= m.K || m.N > maxShards:
		return fmt.Errorf("manifest of %q: %d-of-%d is not possible", m.Object, m.K, m.N)
	case m.StripeSize == 0:
		return fmt.Errorf("manifest of %q: stripe size 0", m.Object)
	case m.DataLen < 0 || m.IndexLen < 0:
		return fmt.Errorf("manifest of %q: negative length", m.Object)
	case len(m.Nodes) > maxHoldings:
		return fmt.Errorf("manifest of %q: %d holdings (at most %d)", m.Object, len(m.Nodes), maxHoldings)
	}
	return checkHoldings(m.Object, m.Nodes, m.N)
}

func checkHoldings(object string, hs []Holding, n uint16) error {
	for _, h := range hs {
		if h.Index >= n || len(h.Node) == 0 || len(h.Node) > maxNodeID || h.State < Offered || h.State > GivenUp {
			return fmt.Errorf("%q: bad holding {index %d, node %q, %v}", object, h.Index, h.Node, h.State)
		}
	}
	return nil
}

// Encode gives the payload of a manifest record.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	w := &writer{}
	m.write(w)
	return w.b, nil
}

// DecodeManifest parses the payload of a manifest record.
func DecodeManifest(b []byte) (*Manifest, error) {
	r := &reader{b: b}
	m := readManifest(r)
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return &m, nil
}

func (m *Manifest) write(w *writer) {
	w.u8(manifestFormat)
	w.str(m.Object)
	w.bytes(m.Generation[:])
	w.u16(m.K)
	w.u16(m.N)
	w.u32(m.KeyEpoch)
	w.u32(m.StripeSize)
	w.u8(m.Compression)
	w.bool(m.Fallback)
	w.uvarint(uint64(m.DataLen))
	w.uvarint(uint64(m.IndexLen))
	w.uvarint(uint64(m.DataStripes))
	w.uvarint(uint64(m.IndexStripes))
	w.uvarint(m.Writer.Epoch)
	w.uvarint(m.Writer.Counter)
	writeTime(w, m.Time)
	writeHoldings(w, m.Nodes)
	w.bytes(m.Checksum[:])
}

func readManifest(r *reader) Manifest {
	r.format("manifest", manifestFormat)
	m := Manifest{
		Object:       r.str(MaxObject),
		Generation:   r.id16(),
		K:            r.u16(),
		N:            r.u16(),
		KeyEpoch:     r.u32(),
		StripeSize:   r.u32(),
		Compression:  r.u8(),
		Fallback:     r.bool(),
		DataLen:      r.size(),
		IndexLen:     r.size(),
		DataStripes:  r.small(),
		IndexStripes: r.small(),
		Writer:       Writer{r.uvarint(), r.uvarint()},
		Time:         readTime(r),
		Nodes:        readHoldings(r),
		Checksum:     r.id32(),
	}
	if r.err == nil {
		if err := m.Validate(); err != nil {
			r.fail("%v", err)
		}
	}
	return m
}

func writeHoldings(w *writer, hs []Holding) {
	w.uvarint(uint64(len(hs)))
	for _, h := range hs {
		w.u16(h.Index)
		w.u8(uint8(h.State))
		w.str(h.Node)
	}
}

func readHoldings(r *reader) []Holding {
	n := r.count(maxHoldings, 4)
	if n == 0 {
		return nil
	}
	hs := make([]Holding, 0, n)
	for range n {
		h := Holding{Index: r.u16(), State: HoldState(r.u8()), Node: r.str(maxNodeID)}
		if r.err != nil {
			return nil
		}
		hs = append(hs, h)
	}
	return hs
}

// Times are nanoseconds since 1970; the zero time is 0.
func writeTime(w *writer, t time.Time) {
	if t.IsZero() {
		w.u64(0)
		return
	}
	w.u64(uint64(t.UnixNano()))
}

func readTime(r *reader) time.Time {
	v := r.u64()
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(v)).UTC()
}

// small reads a varint that must fit 32 bits.
func (r *reader) small() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.fail("number %d", v)
		return 0
	}
	return uint32(v)
}
