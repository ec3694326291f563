package codec

import (
	"encoding/hex"
	"fmt"

	"qsfs/zstor/internal/keys"
)

// Limits of the format.
const (
	MaxObjectName = 128     // bytes of an object's name
	MaxShards     = 256     // n; above it the Reed-Solomon package becomes another code
	MaxShard      = 8 << 20 // bytes of a shard, header and all
)

// Generation identifies one encoding attempt of one object.
type Generation [16]byte

// String gives the generation in hex.
func (g Generation) String() string { return hex.EncodeToString(g[:]) }

// Writer is the writer's place in time when a generation began.
type Writer struct{ Epoch, Counter uint64 }

// Compression says what may be tried on a stripe. Numbers are part of the format
// of manifests.
type Compression uint8

// Values of Compression.
const (
	CompressNone Compression = 0
	CompressZstd Compression = 1 // where it helps; what does not shrink stays raw
)

// End marks a stripe after which something ends. Values combine.
type End uint8

// Values of End.
const (
	EndOfData   End = 1 << 0 // the last stripe of d<N>
	EndOfObject End = 1 << 1 // the last stripe of the object
)

// Params are the fixed facts of one generation.
type Params struct {
	Object      string
	Generation  Generation
	K, N        int
	KeyEpoch    keys.Epoch
	Writer      Writer
	StripeSize  int // plaintext bytes of a stripe; the last one may have fewer
	Compression Compression
}

func (p Params) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrParams, fmt.Sprintf(format, args...))
	}
	switch {
	case p.Object == "" || len(p.Object) > MaxObjectName:
		return bad("the object's name has %d bytes, not 1 to %d", len(p.Object), MaxObjectName)
	case p.K < 2:
		return bad("k = %d: at least 2, or one node could read", p.K)
	case p.N <= p.K:
		return bad("n = %d: at least k + 1 = %d, or no shard could be lost", p.N, p.K+1)
	case p.N > MaxShards:
		return bad("n = %d: at most %d", p.N, MaxShards)
	case p.StripeSize < 1:
		return bad("stripes of %d bytes", p.StripeSize)
	case ShardSize(p.K, p.StripeSize) > MaxShard:
		return bad("stripes of %d bytes make shards larger than %d", p.StripeSize, MaxShard)
	case p.KeyEpoch == 0:
		return bad("key epoch 0")
	case p.Compression > CompressZstd:
		return bad("unknown compression %d", p.Compression)
	}
	return nil
}

// SliceSize is the default for the plaintext per data shard of a stripe.
func SliceSize(k int) int {
	if k <= 8 {
		return 256 << 10
	}
	return 64 << 10
}

// StripeSize is the plaintext of a stripe for a slice size; 0 is the default.
func StripeSize(k, slice int) int {
	if slice <= 0 {
		slice = SliceSize(k)
	}
	return k * slice
}

// Stripes is the number of stripes that hold length bytes.
func Stripes(length int64, stripeSize int) uint32 {
	s := int64(stripeSize)
	return uint32((length + s - 1) / s)
}

// StripeSpan is the range of bytes that stripe s covers in a sequence of the
// given length; empty behind the end.
func StripeSpan(s uint32, length int64, stripeSize int) (off, n int64) {
	off = int64(s) * int64(stripeSize)
	return off, max(min(int64(stripeSize), length-off), 0)
}

// ShardSize is the largest size of a shard for a stripe of plaintext bytes:
// raw, that is, when compression does not help.
func ShardSize(k, plaintext int) int {
	return shardOverhead + packageSize(k, plaintext)/k
}

// PackageMemory is the most memory that encoding a stripe holds until its
// Package is released: the shards, and while EncodeStripe runs the body.
func PackageMemory(k, n, plaintext int) int {
	return poolSize(n*ShardSize(k, plaintext)) + poolSize(packageSize(k, plaintext))
}
