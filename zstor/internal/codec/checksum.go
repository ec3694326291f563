package codec

import (
	"encoding/hex"

	"github.com/zeebo/blake3"
)

// Checksum is one hash over the MACs of all shards of an object. It says nothing
// about the content to who has not the keys, and nothing new to who has.
type Checksum [32]byte

// String gives the checksum in hex.
func (c Checksum) String() string { return hex.EncodeToString(c[:]) }

// Summer computes a Checksum.
type Summer struct{ h *blake3.Hasher }

// NewSummer starts a checksum.
func NewSummer() *Summer {
	return &Summer{blake3.NewDeriveKey("qsfs object 1")}
}

// Add takes the MACs of a stripe. Stripes come in their order, and each with all
// n MACs by index.
func (s *Summer) Add(macs []MAC) {
	for i := range macs {
		_, _ = s.h.Write(macs[i][:])
	}
}

// Sum gives the checksum of what was added so far.
func (s *Summer) Sum() (c Checksum) {
	s.h.Sum(c[:0])
	return c
}
