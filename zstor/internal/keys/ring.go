// Package keys holds the master keys of a filesystem and what is derived from
// them.
//
// Everything that QSFS encrypts, names or authenticates derives, by label, from
// a 32-byte master. Masters are numbered by key epoch; the newest one is used
// for what is written, the older ones still read. They come from a key file
// (mode 0600), from a passphrase by Argon2id, or from a systemd credential.
// A short check value stands beside every master, so that a wrong key is known
// at once and not by data that does not open.
package keys

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/zeebo/blake3"
)

// Errors of this package. All of them match ErrKey, on which a program exits
// with its code for key trouble.
var (
	ErrKey         = errors.New("master key")
	ErrMissing     = fmt.Errorf("%w: no key file", ErrKey)
	ErrPermissions = fmt.Errorf("%w: key file is open to others", ErrKey)
	ErrDamaged     = fmt.Errorf("%w: key file is damaged", ErrKey)
	ErrWrong       = fmt.Errorf("%w: not the key of this filesystem", ErrKey)
	ErrNoEpoch     = fmt.Errorf("%w: key epoch is not in the key file", ErrKey)
	ErrNoDataKey   = fmt.Errorf("%w: a repair bundle holds no data key", ErrKey)
	ErrPassphrase  = fmt.Errorf("%w: wrong passphrase", ErrKey)
)

// Epoch numbers the masters of a filesystem, from 1. It has nothing to do with
// the writer's epoch.
type Epoch uint32

// Check is the key-check value of one master: enough to notice a wrong key,
// useless to find it.
type Check [8]byte

// String gives the check value in hex.
func (c Check) String() string { return hex.EncodeToString(c[:]) }

// derived holds the keys of one epoch.
type derived struct {
	data   DataKey
	name   NameKey
	header HeaderKey
	mac    MACKey
	record RecordKey
	check  Check
}

// derive makes the keys of one epoch. The labels are a promise of the format.
func derive(master *Secret) *derived {
	d := new(derived)
	for _, x := range []struct {
		label string
		out   []byte
	}{
		{"qsfs 2026-11 data key", d.data.Secret[:]},
		{"qsfs 2026-11 name key", d.name.Secret[:]},
		{"qsfs 2026-11 header key", d.header.Secret[:]},
		{"qsfs 2026-11 mac key", d.mac.Secret[:]},
		{"qsfs 2026-11 record key", d.record.Secret[:]},
		{"qsfs 2026-11 check value", d.check[:]},
	} {
		blake3.DeriveKey(x.label, master[:], x.out)
	}
	return d
}

// Ring is the set of keys of a filesystem, by key epoch. It does not change
// after it was made and may be used concurrently.
type Ring struct {
	keys   map[Epoch]*derived
	newest Epoch
	repair bool // without data keys
}

// New makes a ring of masters.
func New(masters map[Epoch]Secret) (*Ring, error) {
	if len(masters) == 0 {
		return nil, fmt.Errorf("%w: there is no master in it", ErrDamaged)
	}
	r := &Ring{keys: make(map[Epoch]*derived, len(masters))}
	for e, m := range masters {
		if e == 0 {
			return nil, fmt.Errorf("%w: key epoch 0", ErrDamaged)
		}
		r.keys[e] = derive(&m)
		r.newest = max(r.newest, e)
	}
	return r, nil
}

// Epoch is the newest key epoch, the one to write with.
func (r *Ring) Epoch() Epoch { return r.newest }

// Epochs lists all key epochs, the oldest first.
func (r *Ring) Epochs() []Epoch {
	out := make([]Epoch, 0, len(r.keys))
	for e := range r.keys {
		out = append(out, e)
	}
	slices.Sort(out)
	return out
}

func (r *Ring) at(e Epoch) (*derived, error) {
	d, ok := r.keys[e]
	if !ok {
		return nil, fmt.Errorf("%w (epoch %d)", ErrNoEpoch, e)
	}
	return d, nil
}

// Data returns the data key of an epoch; ErrNoDataKey in a repair bundle.
func (r *Ring) Data(e Epoch) (DataKey, error) {
	if r.repair {
		return DataKey{}, ErrNoDataKey
	}
	d, err := r.at(e)
	if err != nil {
		return DataKey{}, err
	}
	return d.data, nil
}

// Name returns the name key of an epoch.
func (r *Ring) Name(e Epoch) (NameKey, error) {
	d, err := r.at(e)
	if err != nil {
		return NameKey{}, err
	}
	return d.name, nil
}

// Header returns the header key of an epoch.
func (r *Ring) Header(e Epoch) (HeaderKey, error) {
	d, err := r.at(e)
	if err != nil {
		return HeaderKey{}, err
	}
	return d.header, nil
}

// MAC returns the key that authenticates shards of an epoch.
func (r *Ring) MAC(e Epoch) (MACKey, error) {
	d, err := r.at(e)
	if err != nil {
		return MACKey{}, err
	}
	return d.mac, nil
}

// Record returns the record key of an epoch.
func (r *Ring) Record(e Epoch) (RecordKey, error) {
	d, err := r.at(e)
	if err != nil {
		return RecordKey{}, err
	}
	return d.record, nil
}

// Check returns the key-check value of an epoch, for records, the
// configuration and the recovery kit.
func (r *Ring) Check(e Epoch) (Check, error) {
	d, err := r.at(e)
	if err != nil {
		return Check{}, err
	}
	return d.check, nil
}

// Expect compares the check value of an epoch with one noted elsewhere. It
// fails with ErrWrong when this is another key.
func (r *Ring) Expect(e Epoch, want Check) error {
	got, err := r.Check(e)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%w: key epoch %d has the check value %v here, %v was used to write; look for the right key file or the recovery kit", ErrWrong, e, got, want)
	}
	return nil
}

// WithoutData returns the ring of a repair bundle: it names, checks and rebuilds
// shards, and cannot read data.
func (r *Ring) WithoutData() *Ring {
	out := &Ring{keys: make(map[Epoch]*derived, len(r.keys)), newest: r.newest, repair: true}
	for e, d := range r.keys {
		stripped := *d
		stripped.data = DataKey{}
		out.keys[e] = &stripped
	}
	return out
}
