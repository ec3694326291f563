package codec

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"time"

	"qsfs/zstor/internal/keys"
)

var (
	labelK   = []byte("qsfs k 1")
	labelKEK = []byte("qsfs kek 1")
)

const contextAONT = "qsfs aont 1"

// freshness is what makes K new: randomness of the system, and the clock in
// case a cloned machine repeats it.
type freshness struct {
	random [32]byte
	clock  uint64
}

func newFreshness() (f freshness) {
	_, _ = rand.Read(f.random[:]) // never fails: the runtime ends the process instead
	f.clock = uint64(time.Now().UnixNano())
	return f
}

// stripeKey makes K. The data key is in it so that a bad random source alone
// does not give K away.
func (hs *hashers) stripeKey(gen Generation, stripe uint32, f *freshness) keys.Secret {
	var tail [12]byte
	binary.BigEndian.PutUint32(tail[:], stripe)
	binary.BigEndian.PutUint64(tail[4:], f.clock)
	return sum(hs.data, labelK, f.random[:], gen[:], tail[:])
}

// dispersalHash is h: over the digests of all k data slices.
func (hs *hashers) dispersalHash(digests []keys.Secret) (h keys.Secret) {
	hs.aont.Reset()
	for i := range digests {
		_, _ = hs.aont.Write(digests[i][:])
	}
	hs.aont.Sum(h[:0])
	return h
}

// mask turns K into masked and masked into K.
func (hs *hashers) mask(key *keys.Secret, object string, gen Generation, stripe uint32, h *keys.Secret) (out keys.Secret) {
	kek := sum(hs.data, labelKEK, sealContext(object, gen, stripe), h[:])
	subtle.XORBytes(out[:], key[:], kek[:])
	return out
}

// sealContext is object (length first), generation and stripe.
func sealContext(object string, gen Generation, stripe uint32) []byte {
	b := make([]byte, 0, 1+len(object)+len(gen)+4)
	b = append(b, byte(len(object)))
	b = append(b, object...)
	b = append(b, gen[:]...)
	return binary.BigEndian.AppendUint32(b, stripe)
}

// stripeCipher gives the cipher of a stripe, its nonce and associated data.
func stripeCipher(key *keys.Secret, object string, gen Generation, stripe uint32, k, n int) (aead cipher.AEAD, nonce, ad []byte) {
	nonce = binary.BigEndian.AppendUint32(append(make([]byte, 0, nonceSize), gen[:8]...), stripe)
	ad = append([]byte{suite1}, sealContext(object, gen, stripe)...)
	ad = binary.BigEndian.AppendUint16(ad, uint16(k))
	ad = binary.BigEndian.AppendUint16(ad, uint16(n))
	return newGCM(key), nonce, ad
}
