package codec

import (
	"encoding/binary"
	"fmt"

	"qsfs/zstor/internal/keys"
)

// Header is what a shard says about itself: a pure function of fixed facts, so
// that a rebuilt shard is byte for byte the one that was lost.
type Header struct {
	Object     string
	Generation Generation
	Index      int
	K, N       int
	Stripe     uint32
	End        End
	Length     int // plaintext bytes of the stripe
	KeyEpoch   keys.Epoch
	Writer     Writer

	masked keys.Secret // K under the key that h gives; the same in all n shards
}

// Format implements fmt.Formatter: what a shard belongs to, and no secret. A
// Shard prints the same way; package fmt would print its digest otherwise.
func (h Header) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "shard %d of %d-of-%d, stripe %d of %q, generation %v", h.Index, h.K, h.N, h.Stripe, h.Object, h.Generation)
}

const (
	suite1     = 1
	headerSize = 256

	offSuite, offEnd, offIndex, offK, offN    = 0, 1, 2, 4, 6
	offStripe, offLength, offKeyEpoch         = 8, 12, 16
	offWriterEpoch, offCounter, offGeneration = 20, 28, 36
	offMasked, offObjectLen, offObject        = 52, 84, 85
)

func (h *Header) marshal() (b [headerSize]byte) {
	be := binary.BigEndian
	b[offSuite] = suite1
	b[offEnd] = byte(h.End)
	be.PutUint16(b[offIndex:], uint16(h.Index))
	be.PutUint16(b[offK:], uint16(h.K))
	be.PutUint16(b[offN:], uint16(h.N))
	be.PutUint32(b[offStripe:], h.Stripe)
	be.PutUint32(b[offLength:], uint32(h.Length))
	be.PutUint32(b[offKeyEpoch:], uint32(h.KeyEpoch))
	be.PutUint64(b[offWriterEpoch:], h.Writer.Epoch)
	be.PutUint64(b[offCounter:], h.Writer.Counter)
	copy(b[offGeneration:], h.Generation[:])
	copy(b[offMasked:], h.masked[:])
	b[offObjectLen] = byte(len(h.Object))
	copy(b[offObject:], h.Object)
	return b
}

// parseHeader reads a decrypted header. Each check is one that marshal keeps,
// so that marshal gives back the same bytes.
func parseHeader(b []byte) (h Header, err error) {
	bad := func(what string) (Header, error) { return Header{}, fmt.Errorf("%w: header: %s", ErrShard, what) }
	if len(b) != headerSize {
		return bad("length")
	}
	be := binary.BigEndian
	if b[offSuite] != suite1 {
		return bad("unknown suite")
	}
	h.End = End(b[offEnd])
	h.Index = int(be.Uint16(b[offIndex:]))
	h.K, h.N = int(be.Uint16(b[offK:])), int(be.Uint16(b[offN:]))
	h.Stripe = be.Uint32(b[offStripe:])
	length := be.Uint32(b[offLength:])
	h.KeyEpoch = keys.Epoch(be.Uint32(b[offKeyEpoch:]))
	h.Writer = Writer{be.Uint64(b[offWriterEpoch:]), be.Uint64(b[offCounter:])}
	copy(h.Generation[:], b[offGeneration:])
	copy(h.masked[:], b[offMasked:])
	switch {
	case h.End&^(EndOfData|EndOfObject) != 0:
		return bad("unknown end mark")
	case h.K < 2 || h.N <= h.K || h.N > MaxShards || h.Index >= h.N:
		return bad("impossible k, n or index")
	case uint64(length) > uint64(h.K)*MaxShard:
		return bad("impossible length")
	case h.KeyEpoch == 0:
		return bad("key epoch 0")
	}
	h.Length = int(length)
	n := int(b[offObjectLen])
	if n == 0 || n > MaxObjectName {
		return bad("object name")
	}
	h.Object = string(b[offObject : offObject+n])
	for _, x := range b[offObject+n:] {
		if x != 0 {
			return bad("padding is not zero")
		}
	}
	return h, nil
}

// sameAttempt reports whether two shards come from one encoding of a stripe.
func (h *Header) sameAttempt(o *Header) bool {
	a, b := *h, *o
	a.Index, b.Index = 0, 0
	return a == b
}
