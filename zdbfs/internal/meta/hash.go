package meta

import (
	"encoding/binary"
	"math/bits"
)

// ChainBits is the number of low bits of a cookie that tell names of equal hash apart.
const ChainBits = 8

// NameHash returns the first cookie of the chain in which name stands: 55 bits of a keyed hash, then ChainBits zeros.
// It is below 2^63, so that it fits a signed directory offset, and at least 1<<ChainBits, which leaves the smaller
// numbers for "." and "..". The key is secret, so nobody can choose names that collide.
func NameHash(key *[16]byte, name string) uint64 {
	h := sipHash(binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:]), name) >> (1 + ChainBits)
	if h == 0 {
		h = 1
	}
	return h << ChainBits
}

// sipHash is SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012).
func sipHash(k0, k1 uint64, s string) uint64 {
	v0, v1 := k0^0x736f6d6570736575, k1^0x646f72616e646f6d
	v2, v3 := k0^0x6c7967656e657261, k1^0x7465646279746573
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	absorb := func(m uint64) {
		v3 ^= m
		round()
		round()
		v0 ^= m
	}
	last := uint64(len(s)) << 56
	for len(s) >= 8 {
		absorb(uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56)
		s = s[8:]
	}
	for i := range len(s) {
		last |= uint64(s[i]) << (8 * i)
	}
	absorb(last)
	v2 ^= 0xff
	for range 4 {
		round()
	}
	return v0 ^ v1 ^ v2 ^ v3
}
