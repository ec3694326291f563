package keys

import (
	"bytes"
	"crypto/rand"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// Argon2id holds the public parameters (RFC 9106) that turn a passphrase into
// the master of one key epoch. They stand in the configuration and in the
// recovery kit.
type Argon2id struct {
	Epoch   Epoch
	Salt    []byte // at least 16 bytes
	Time    uint32 // passes
	Memory  int64  // bytes
	Threads uint8
	Check   Check
}

// Recommended parameters: RFC 9106's second choice, 64 MiB and three passes.
const (
	argonTime    = 3
	argonMemory  = 64 << 20
	argonThreads = 4
)

// NewArgon2id draws a salt and returns the parameters for a passphrase.
func NewArgon2id(e Epoch, passphrase []byte) (Argon2id, error) {
	p := Argon2id{Epoch: e, Salt: make([]byte, 16), Time: argonTime, Memory: argonMemory, Threads: argonThreads}
	_, _ = rand.Read(p.Salt)
	m, err := p.master(passphrase)
	if err != nil {
		return Argon2id{}, err
	}
	p.Check = derive(&m).check
	return p, nil
}

func (p Argon2id) master(passphrase []byte) (m Secret, err error) {
	switch {
	case len(passphrase) == 0:
		return m, fmt.Errorf("%w: it is empty", ErrPassphrase)
	case p.Epoch == 0, len(p.Salt) < 16, p.Time < 1, p.Time > 1000, p.Threads < 1, p.Memory < 8<<20, p.Memory > 4<<30:
		return m, fmt.Errorf("%w: Argon2id parameters of key epoch %d are out of range", ErrKey, p.Epoch)
	}
	raw := argon2.IDKey(passphrase, p.Salt, p.Time, uint32(p.Memory>>10), p.Threads, uint32(len(m)))
	copy(m[:], raw)
	clear(raw)
	return m, nil
}

// FromPassphrase makes a ring from one passphrase and the parameters of each
// key epoch. A wrong passphrase is ErrPassphrase.
func FromPassphrase(passphrase []byte, params []Argon2id) (*Ring, error) {
	masters := make(map[Epoch]Secret, len(params))
	for _, p := range params {
		m, err := p.master(passphrase)
		if err != nil {
			return nil, err
		}
		if derive(&m).check != p.Check {
			return nil, fmt.Errorf("%w for key epoch %d", ErrPassphrase, p.Epoch)
		}
		masters[p.Epoch] = m
	}
	return New(masters)
}

// LoadPassphrase reads a passphrase from a private file or a systemd
// credential; the newline at its end does not belong to it.
func LoadPassphrase(path string) ([]byte, error) {
	doc, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(doc, "\r\n"), nil
}
