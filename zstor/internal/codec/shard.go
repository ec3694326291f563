package codec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"fmt"

	"github.com/zeebo/blake3"

	"qsfs/zstor/internal/keys"
)

// A shard, as a node stores it:
//
//	format (1) ‖ nonce (12) ‖ encrypted header (256 + 16) ‖ payload ‖ MAC (32)
const (
	format1   = 1
	nonceSize = 12
	macSize   = 32

	atNonce       = 1
	atHeader      = atNonce + nonceSize
	atPayload     = atHeader + headerSize + tagSize
	shardOverhead = atPayload + macSize
)

// MAC authenticates one shard. It is public: nodes hold it.
type MAC [macSize]byte

// ShardMAC gives the MAC at the end of a shard that was made or opened here.
func ShardMAC(raw []byte) (m MAC) {
	if len(raw) >= shardOverhead {
		copy(m[:], raw[len(raw)-macSize:])
	}
	return m
}

// Shard is an authenticated shard. It holds on to the bytes it was opened from.
type Shard struct {
	Header
	payload []byte
	digest  keys.Secret // d_i
}

// hashers are keyed with the fixed keys of one key epoch; resetting one is far
// cheaper than making it. Not for concurrent use.
type hashers struct{ mac, header, data, aont *blake3.Hasher }

func sum(h *blake3.Hasher, parts ...[]byte) (out keys.Secret) {
	h.Reset()
	for _, p := range parts {
		_, _ = h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

var (
	labelDigest = []byte("qsfs d 1")
	labelHeader = []byte("qsfs hdr 1")
	labelNonce  = []byte("qsfs siv 1")
)

// digest is d_i: a keyed hash of the payload under a key of its name's own.
func (hs *hashers) digest(name *Name, payload []byte) (d keys.Secret) {
	key := sum(hs.mac, labelDigest, name[:])
	h := key.Hash()
	_, _ = h.Write(payload)
	h.Sum(d[:0])
	return d
}

// headerCipher is the cipher of one shard's header.
func (hs *hashers) headerCipher(name *Name) cipher.AEAD {
	key := sum(hs.header, labelHeader, name[:])
	return newGCM(&key)
}

// frame fills in all of a shard but the payload, which is there already.
func (hs *hashers) frame(shard []byte, name *Name, header *[headerSize]byte, digest *keys.Secret) MAC {
	shard[0] = format1
	nonce := sum(hs.header, labelNonce, name[:], header[:])
	copy(shard[atNonce:atHeader], nonce[:])
	hs.headerCipher(name).Seal(shard[atHeader:atHeader], shard[atNonce:atHeader], header[:], shard[:1])
	mac := hs.shardMAC(shard, name, digest)
	copy(shard[len(shard)-macSize:], mac[:])
	return mac
}

func (hs *hashers) shardMAC(shard []byte, name *Name, digest *keys.Secret) MAC {
	return MAC(sum(hs.mac, shard[:1], name[:], shard[atNonce:atPayload], digest[:]))
}

// open checks and reads a shard. The MAC comes before anything is decrypted.
func (hs *hashers) open(name *Name, raw []byte) (*Shard, error) {
	if len(raw) < shardOverhead || len(raw) > MaxShard {
		return nil, fmt.Errorf("%w: %d bytes", ErrShard, len(raw))
	}
	if raw[0] != format1 {
		return nil, fmt.Errorf("%w: unknown format %d", ErrShard, raw[0])
	}
	s := &Shard{payload: raw[atPayload : len(raw)-macSize]}
	s.digest = hs.digest(name, s.payload)
	mac := hs.shardMAC(raw, name, &s.digest)
	if subtle.ConstantTimeCompare(mac[:], raw[len(raw)-macSize:]) != 1 {
		return nil, fmt.Errorf("%w: MAC", ErrShard)
	}
	var plain [headerSize]byte
	if _, err := hs.headerCipher(name).Open(plain[:0], raw[atNonce:atHeader], raw[atHeader:atPayload], raw[:1]); err != nil {
		return nil, fmt.Errorf("%w: header does not open", ErrShard)
	}
	var err error
	if s.Header, err = parseHeader(plain[:]); err != nil {
		return nil, err
	}
	return s, s.checkPayload()
}

func (s *Shard) checkPayload() error {
	n := len(s.payload)
	if n == 0 || n%unitSmall != 0 || n > packageSize(s.K, s.Length)/s.K {
		return fmt.Errorf("%w: payload of %d bytes for a stripe of %d", ErrShard, n, s.Length)
	}
	return nil
}

func newGCM(key *keys.Secret) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err == nil {
		var aead cipher.AEAD
		if aead, err = cipher.NewGCM(block); err == nil {
			return aead
		}
	}
	panic("codec: AES-256-GCM refused a 32-byte key") // cannot happen: the length is a constant
}
