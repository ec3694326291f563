package server

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"

	"golang.org/x/crypto/argon2"
)

// A passwordHash is what is kept of a namespace's password: Argon2id over a salt of its own.
type passwordHash struct {
	Time    uint32 `json:"time"`
	Memory  uint32 `json:"memory_kib"`
	Threads uint8  `json:"threads"`
	Salt    []byte `json:"salt"`
	Hash    []byte `json:"hash"`
}

// Cheap for Argon2id, dear for guessing: a check costs about 10 ms and 16 MiB. It happens once per namespace and process
// (see credential), so that pools of connections do not pay it each time.
const (
	hashTime    = 1
	hashMemory  = 16 << 10
	hashThreads = 1
	hashLength  = 32
)

// hashing bounds how many checks run at once, so that guessing costs the server a bounded amount of memory and time.
type hashing chan struct{}

func (h hashing) compute(p *passwordHash, password string) []byte {
	h <- struct{}{}
	defer func() { <-h }()
	return argon2.IDKey([]byte(password), p.Salt, p.Time, p.Memory, p.Threads, uint32(len(p.Hash)))
}

func (h hashing) newHash(password string) *passwordHash {
	p := &passwordHash{Time: hashTime, Memory: hashMemory, Threads: hashThreads, Salt: make([]byte, 16), Hash: make([]byte, hashLength)}
	rand.Read(p.Salt)
	p.Hash = h.compute(p, password)
	return p
}

func (h hashing) verify(p *passwordHash, password string) bool {
	return subtle.ConstantTimeCompare(h.compute(p, password), p.Hash) == 1
}

// validate refuses parameters that were tampered with or would stall the server.
func (p *passwordHash) validate() error {
	if p.Time < 1 || p.Time > 16 || p.Memory < 8 || p.Memory > 1<<20 || p.Threads < 1 || len(p.Salt) < 8 || len(p.Hash) < 16 || len(p.Hash) > 64 {
		return errors.New("password hash has impossible parameters")
	}
	return nil
}

// samePassword compares in a time that tells neither content nor length.
func samePassword(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// challengeResponse is what a client sends in place of the password: SHA1 of nonce and password, as the original
// protocol has it.
func challengeResponse(nonce, password string) string {
	sum := sha1.Sum([]byte(nonce + ":" + password))
	return hex.EncodeToString(sum[:])
}

func newNonce() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
