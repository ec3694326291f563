package codec

import (
	"encoding/binary"
	"encoding/hex"

	"qsfs/zstor/internal/keys"
)

// Prefix is the part of a shard's name that all stripes of one index share: a
// generation is listed, counted and deleted on a node by it.
type Prefix [24]byte

// String gives the prefix in hex.
func (p Prefix) String() string { return hex.EncodeToString(p[:]) }

// Name is the key of a shard on its node: Prefix ‖ stripe (u32).
type Name [28]byte

// String gives the name in hex.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// Prefix is the first part of the name.
func (n Name) Prefix() Prefix { return Prefix(n[:24]) }

// Stripe is the second part of the name.
func (n Name) Stripe() uint32 { return binary.BigEndian.Uint32(n[24:]) }

// Shard gives the name of a stripe's shard under this prefix.
func (p Prefix) Shard(stripe uint32) (n Name) {
	copy(n[:], p[:])
	binary.BigEndian.PutUint32(n[24:], stripe)
	return n
}

// ShardPrefix computes the prefix of the shards of one index of a generation.
func ShardPrefix(ring *keys.Ring, epoch keys.Epoch, object string, gen Generation, index int) (Prefix, error) {
	k, err := ring.Name(epoch)
	if err != nil {
		return Prefix{}, err
	}
	return shardPrefix(k, object, gen, index), nil
}

func shardPrefix(k keys.NameKey, object string, gen Generation, index int) (p Prefix) {
	h := k.Hash()
	in := append([]byte("qsfs name 1"), byte(len(object)))
	in = append(in, object...)
	in = append(in, gen[:]...)
	in = binary.BigEndian.AppendUint16(in, uint16(index))
	_, _ = h.Write(in)
	var sum [32]byte
	copy(p[:], h.Sum(sum[:0]))
	return p
}
