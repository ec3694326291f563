package config

import (
	"encoding/hex"
	"fmt"
	"strings"

	"qsfs/zstor/internal/keys"
)

// ErrKey is matched by every failure to get at the master keys: programs exit
// with their code for key trouble on it. The more precise ones match it too.
var (
	ErrKey            = keys.ErrKey
	ErrKeyMissing     = keys.ErrMissing
	ErrKeyPermissions = keys.ErrPermissions
	ErrKeyDamaged     = keys.ErrDamaged
	ErrKeyWrong       = keys.ErrWrong
	ErrPassphrase     = keys.ErrPassphrase
)

// Keys loads the key ring that the configuration names: from the key file, a
// credential, or a passphrase. A ring that does not hold the key of key_check is
// ErrKeyWrong.
func (c *Config) Keys() (*keys.Ring, error) {
	ring, err := c.loadKeys()
	if err != nil || c.QSFS.KeyCheck == "" {
		return ring, err
	}
	for _, e := range ring.Epochs() {
		if check, err := ring.Check(e); err == nil && check.String() == strings.ToLower(c.QSFS.KeyCheck) {
			return ring, nil
		}
	}
	return nil, fmt.Errorf("%w: %s holds another key than the one whose check value stands as key_check in %s (%s); look for the right key file or the recovery kit",
		keys.ErrWrong, c.keySource(), c.File, c.QSFS.KeyCheck)
}

func (c *Config) keySource() string {
	if len(c.QSFS.Argon2id) > 0 {
		return c.QSFS.PassphraseFile
	}
	return c.QSFS.KeyFile
}

func (c *Config) loadKeys() (*keys.Ring, error) {
	if len(c.QSFS.Argon2id) == 0 {
		return keys.Load(c.QSFS.KeyFile)
	}
	var params []keys.Argon2id
	for _, a := range c.QSFS.Argon2id {
		p := keys.Argon2id{Epoch: keys.Epoch(a.KeyEpoch), Salt: a.Salt, Time: a.Time, Memory: int64(a.Memory), Threads: a.Threads}
		check, err := hex.DecodeString(a.Check)
		if err != nil || len(check) != len(p.Check) {
			return nil, fmt.Errorf("%w: the check value of key epoch %d in %s is not one", keys.ErrDamaged, a.KeyEpoch, c.File)
		}
		copy(p.Check[:], check)
		params = append(params, p)
	}
	passphrase, err := keys.LoadPassphrase(c.QSFS.PassphraseFile)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	return keys.FromPassphrase(passphrase, params)
}

// GenerateKey makes a new key file, mode 0600, and returns its key-check value.
// It never replaces a file.
func GenerateKey(path string) (check string, err error) {
	ring, err := keys.Generate(path)
	if err != nil {
		return "", err
	}
	c, err := ring.Check(ring.Epoch())
	return c.String(), err
}

// CheckKey loads the keys and returns the number of the newest key epoch with
// its check value, for programs that only want to know whether the key is there.
func (c *Config) CheckKey() (keyEpoch uint32, check string, err error) {
	ring, err := c.Keys()
	if err != nil {
		return 0, "", err
	}
	v, err := ring.Check(ring.Epoch())
	return uint32(ring.Epoch()), v.String(), err
}
