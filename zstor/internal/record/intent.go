package record

import (
	"encoding/hex"
	"fmt"
	"time"
)

const (
	maxIntentEntries = 8192
	intentFormat     = 1
	tombstoneFormat  = 1
)

// A RoundID names one round of shipping: 128 random bits.
type RoundID [16]byte

func (r RoundID) String() string { return hex.EncodeToString(r[:]) }

// An Intent is written to W metadata nodes before the first shard of a round is offered to any node: whatever
// happens later, what may lie on the nodes is on record.
type Intent struct {
	Round   RoundID
	Writer  Writer
	Time    time.Time
	Entries []IntentEntry
}

// An IntentEntry names one generation and whom its indices are offered to.
type IntentEntry struct {
	Object     string
	Generation Generation
	K, N       uint16
	KeyEpoch   uint32
	MaxStripe  uint32 // highest stripe that this round may send
	Nodes      []Holding
}

// Validate checks what an intent says against itself.
func (i *Intent) Validate() error {
	if len(i.Entries) > maxIntentEntries {
		return fmt.Errorf("intent: %d entries (at most %d)", len(i.Entries), maxIntentEntries)
	}
	for _, e := range i.Entries {
		switch {
		case len(e.Object) == 0 || len(e.Object) > MaxObject:
			return fmt.Errorf("intent: object name of %d bytes", len(e.Object))
		case e.K < 2 || e.N <= e.K || e.N > maxShards:
			return fmt.Errorf("intent for %q: %d-of-%d is not possible", e.Object, e.K, e.N)
		case len(e.Nodes) > maxHoldings:
			return fmt.Errorf("intent for %q: %d holdings (at most %d)", e.Object, len(e.Nodes), maxHoldings)
		}
		if err := checkHoldings(e.Object, e.Nodes, e.N); err != nil {
			return fmt.Errorf("intent: %w", err)
		}
	}
	return nil
}

// Encode gives the payload of an intent record.
func (i *Intent) Encode() ([]byte, error) {
	if err := i.Validate(); err != nil {
		return nil, err
	}
	w := &writer{}
	w.u8(intentFormat)
	w.bytes(i.Round[:])
	w.uvarint(i.Writer.Epoch)
	w.uvarint(i.Writer.Counter)
	writeTime(w, i.Time)
	w.uvarint(uint64(len(i.Entries)))
	for _, e := range i.Entries {
		w.str(e.Object)
		w.bytes(e.Generation[:])
		w.u16(e.K)
		w.u16(e.N)
		w.u32(e.KeyEpoch)
		w.u32(e.MaxStripe)
		writeHoldings(w, e.Nodes)
	}
	return w.b, nil
}

// DecodeIntent parses the payload of an intent record.
func DecodeIntent(b []byte) (*Intent, error) {
	r := &reader{b: b}
	r.format("intent", intentFormat)
	i := &Intent{Round: r.id16(), Writer: Writer{r.uvarint(), r.uvarint()}, Time: readTime(r)}
	for range r.count(maxIntentEntries, 30) {
		e := IntentEntry{
			Object:     r.str(MaxObject),
			Generation: r.id16(),
			K:          r.u16(),
			N:          r.u16(),
			KeyEpoch:   r.u32(),
			MaxStripe:  r.u32(),
			Nodes:      readHoldings(r),
		}
		if r.err != nil {
			break
		}
		i.Entries = append(i.Entries, e)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("intent: %w", err)
	}
	if err := i.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return i, nil
}

// A Tombstone is the payload of a record that deletes: it stays until every metadata node has it.
type Tombstone struct {
	Deleted Version // the newest version that was there when it was deleted; zero when none was seen
	Writer  Writer
	Time    time.Time
}

// Encode gives the payload of a tombstone.
func (t *Tombstone) Encode() []byte {
	w := &writer{}
	w.u8(tombstoneFormat)
	w.b = t.Deleted.append(w.b)
	w.uvarint(t.Writer.Epoch)
	w.uvarint(t.Writer.Counter)
	writeTime(w, t.Time)
	return w.b
}

// DecodeTombstone parses the payload of a tombstone.
func DecodeTombstone(b []byte) (*Tombstone, error) {
	r := &reader{b: b}
	r.format("tombstone", tombstoneFormat)
	t := &Tombstone{Deleted: versionFrom(r.take(VersionSize)), Writer: Writer{r.uvarint(), r.uvarint()}, Time: readTime(r)}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("tombstone: %w", err)
	}
	return t, nil
}
