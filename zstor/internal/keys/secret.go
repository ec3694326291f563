package keys

import (
	"fmt"
	"log/slog"

	"github.com/zeebo/blake3"
)

const hidden = "[secret]"

// Secret is 32 bytes that never print: every formatting verb, slog, JSON and
// text encoding show [secret].
type Secret [32]byte

// Format implements fmt.Formatter for all verbs, %x included.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Hash returns a BLAKE3 hasher keyed with the secret.
func (s *Secret) Hash() *blake3.Hasher {
	h, err := blake3.NewKeyed(s[:])
	if err != nil {
		panic("keys: a 32-byte key was refused") // cannot happen: the length is a constant
	}
	return h
}

// One type per purpose, so that a key cannot be used for another.
type (
	// DataKey makes and masks the keys of stripes. Repair does without it.
	DataKey struct{ Secret }
	// NameKey makes shard and record names.
	NameKey struct{ Secret }
	// HeaderKey encrypts shard headers.
	HeaderKey struct{ Secret }
	// MACKey authenticates shards.
	MACKey struct{ Secret }
	// RecordKey encrypts manifests, cuts and the other records.
	RecordKey struct{ Secret }
)
