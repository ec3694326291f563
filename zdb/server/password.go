package server

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

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

// hashMark begins the text form of a hash, by which a hash is told from a password.
const hashMark = "$argon2id$"

// String is the usual text form of an Argon2id hash. The text is safe to keep: it does not give the password away.
func (p *passwordHash) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("%sv=%d$m=%d,t=%d,p=%d$%s$%s", hashMark, argon2.Version, p.Memory, p.Time, p.Threads, b64.EncodeToString(p.Salt), b64.EncodeToString(p.Hash))
}

// parseHash reads the text form.
func parseHash(text string) (*passwordHash, error) {
	bad := errors.New("not an Argon2id hash as zdb passwd writes it")
	parts := strings.Split(strings.TrimPrefix(text, hashMark), "$")
	if len(parts) != 4 || parts[0] != fmt.Sprintf("v=%d", argon2.Version) {
		return nil, bad
	}
	var p passwordHash
	if n, err := fmt.Sscanf(parts[1], "m=%d,t=%d,p=%d", &p.Memory, &p.Time, &p.Threads); err != nil || n != 3 {
		return nil, bad
	}
	var err, err2 error
	p.Salt, err = base64.RawStdEncoding.DecodeString(parts[2])
	p.Hash, err2 = base64.RawStdEncoding.DecodeString(parts[3])
	if err != nil || err2 != nil {
		return nil, bad
	}
	return &p, p.validate()
}

// HashPassword returns what may stand in an admin file in place of the password.
func HashPassword(password string) (string, error) {
	if password == "" || len(password) > maxAuth || strings.HasPrefix(password, hashMark) {
		return "", errors.New("a password has 1 to 128 bytes and is no hash")
	}
	return make(hashing, 1).newHash(password).String(), nil
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
