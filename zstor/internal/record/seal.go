package record

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/zeebo/blake3"
)

// Keys gives the record keys. The ring of package keys implements it through a small adapter.
type Keys interface {
	// KeyEpochs lists the known key epochs, ascending; the last one is in use.
	KeyEpochs() []uint32
	// RecordKey is the 32-byte record key of a key epoch; false when it is not known.
	RecordKey(keyEpoch uint32) ([32]byte, bool)
}

// Limits and fixed sizes of sealed records.
const (
	// MaxBody is the largest payload of a record. A cut with more changes needs a new base.
	MaxBody = 256 << 10
	// MaxSealed is the largest sealed record.
	MaxSealed = headerSize + 12 + maxPadded + 16

	formatByte  = 1
	headerSize  = 1 + 4         // format, key epoch
	frontSize   = 1 + 1 + 2 + 4 // kind, flags, length of object, length of body
	maxPlain    = frontSize + MaxObject + MaxBody
	maxPadded   = maxPlain + maxPlain/8 + 512
	flagDeleted = 1
)

// A Record is one opened or to be sealed record.
type Record struct {
	Kind      Kind
	Object    string
	Version   Version
	Tombstone bool   // the object is deleted; Body is an encoded Tombstone
	Body      []byte // encoded payload: Manifest, Cut, Intent, …
	KeyEpoch  uint32 // filled by Open and Seal
}

// ErrDamaged is wrapped by every error about bytes that are not what their name says.
var ErrDamaged = errors.New("damaged record")

// ErrKeyEpoch says that a record belongs to a key epoch that the key file does not hold.
var ErrKeyEpoch = errors.New("unknown key epoch")

// A Sealer seals and opens records. It is safe for concurrent use.
type Sealer struct {
	epochs []uint32 // ascending
	keys   map[uint32]derived
}

type derived struct{ name, seal, nonce, mac, fixed [32]byte }

func mac(key [32]byte, label string, parts ...[]byte) [32]byte {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("record: blake3 refuses a 32-byte key") // cannot happen: the key has the one size it takes
	}
	h.WriteString(label)
	for _, p := range parts {
		h.Write(p)
	}
	var out [32]byte
	h.Sum(out[:0])
	return out
}

// NewSealer takes the record keys of all key epochs that the ring knows.
func NewSealer(k Keys) (*Sealer, error) {
	epochs := slices.Clone(k.KeyEpochs())
	if len(epochs) == 0 {
		return nil, errors.New("no key epoch in the key file")
	}
	slices.Sort(epochs)
	s := &Sealer{epochs: slices.Compact(epochs), keys: make(map[uint32]derived)}
	for _, e := range s.epochs {
		key, ok := k.RecordKey(e)
		if !ok {
			return nil, fmt.Errorf("record key: %w %d", ErrKeyEpoch, e)
		}
		s.keys[e] = derived{
			name:  mac(key, "qsfs record names 1"),
			seal:  mac(key, "qsfs record seal 1"),
			nonce: mac(key, "qsfs record nonce 1"),
			mac:   mac(key, "qsfs cut mac 1"),
			fixed: mac(key, "qsfs record fixed 1"),
		}
	}
	return s, nil
}

// KeyEpoch is the key epoch in use.
func (s *Sealer) KeyEpoch() uint32 { return s.epochs[len(s.epochs)-1] }

// KeyEpochs lists the known key epochs, newest first.
func (s *Sealer) KeyEpochs() []uint32 {
	e := slices.Clone(s.epochs)
	slices.Reverse(e)
	return e
}

// Family is the family of a record under a key epoch. It is zero for an unknown key epoch.
func (s *Sealer) Family(keyEpoch uint32, kind Kind, object string) Family {
	var f Family
	d, ok := s.keys[keyEpoch]
	if !ok {
		return f
	}
	f[0] = recordByte
	tag := mac(d.name, "tag", []byte{byte(kind)})
	copy(f[1:5], tag[:])
	prf := mac(d.name, "object", []byte{byte(kind)}, []byte(object))
	copy(f[5:], prf[:])
	return f
}

// KindPrefix is the prefix that the names of all records of a kind share under a key epoch.
func (s *Sealer) KindPrefix(keyEpoch uint32, kind Kind) []byte {
	tag := mac(s.keys[keyEpoch].name, "tag", []byte{byte(kind)})
	return append([]byte{recordByte}, tag[:4]...)
}

// padded is the size that n bytes are padded to: multiples of 256 bytes, above 4 KiB multiples of an eighth of the
// next lower power of two, so that a length tells little and costs little.
func padded(n int) int {
	step := 256
	for p := 4 << 10; p <= n; p <<= 1 {
		step = max(step, p/8)
	}
	return (n + step - 1) / step * step
}

// aead is made per name: the key is never used for another name.
func aead(key [32]byte, name []byte) (cipher.AEAD, error) {
	k := mac(key, "", name)
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Seal encrypts r under the key epoch in use. It is a pure function of r: sealing again gives the same bytes, so a
// repeated upload writes what is there already.
func (s *Sealer) Seal(r Record) (Name, []byte, error) {
	if !r.Kind.valid() {
		return Name{}, nil, fmt.Errorf("seal record: unknown %v", r.Kind)
	}
	if len(r.Object) == 0 || len(r.Object) > MaxObject {
		return Name{}, nil, fmt.Errorf("seal %v: object name of %d bytes (1 to %d are possible)", r.Kind, len(r.Object), MaxObject)
	}
	if len(r.Body) > MaxBody {
		return Name{}, nil, fmt.Errorf("seal %v: %d bytes (at most %d)", r.Kind, len(r.Body), MaxBody)
	}
	e := s.KeyEpoch()
	d := s.keys[e]
	name := s.Family(e, r.Kind, r.Object).With(r.Version)

	n := frontSize + len(r.Object) + len(r.Body)
	plain := make([]byte, 0, padded(n))
	plain = append(plain, byte(r.Kind), 0)
	if r.Tombstone {
		plain[1] = flagDeleted
	}
	plain = binary.BigEndian.AppendUint16(plain, uint16(len(r.Object)))
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(r.Body)))
	plain = append(plain, r.Object...)
	plain = append(plain, r.Body...)
	plain = plain[:padded(n)]

	a, err := aead(d.seal, name[:])
	if err != nil {
		return Name{}, nil, fmt.Errorf("seal %v: %w", r.Kind, err)
	}
	// A synthetic nonce: should one name ever be sealed with two contents, they still do not share a key stream.
	nonce := mac(d.nonce, "", name[:], plain)
	out := make([]byte, 0, headerSize+12+len(plain)+a.Overhead())
	out = append(out, formatByte)
	out = binary.BigEndian.AppendUint32(out, e)
	out = append(out, nonce[:12]...)
	return name, a.Seal(out, nonce[:12], plain, out[:headerSize]), nil
}

// Open checks and decrypts what a node gave for name. Its errors wrap ErrDamaged or ErrKeyEpoch.
func (s *Sealer) Open(name Name, sealed []byte) (Record, error) {
	if len(sealed) < headerSize+12+16 || len(sealed) > MaxSealed {
		return Record{}, fmt.Errorf("%w: %d bytes", ErrDamaged, len(sealed))
	}
	if sealed[0] != formatByte {
		return Record{}, fmt.Errorf("%w: format %d", ErrDamaged, sealed[0])
	}
	e := binary.BigEndian.Uint32(sealed[1:])
	d, ok := s.keys[e]
	if !ok {
		return Record{}, fmt.Errorf("%w %d", ErrKeyEpoch, e)
	}
	a, err := aead(d.seal, name[:])
	if err != nil {
		return Record{}, fmt.Errorf("open record: %w", err)
	}
	nonce, ct := sealed[headerSize:headerSize+12], sealed[headerSize+12:]
	plain, err := a.Open(nil, nonce, ct, sealed[:headerSize])
	if err != nil {
		return Record{}, fmt.Errorf("%w: it was changed, cut, or belongs to another name", ErrDamaged)
	}
	r, err := parsePlain(plain)
	if err != nil {
		return Record{}, err
	}
	r.KeyEpoch, r.Version = e, name.Version()
	if s.Family(e, r.Kind, r.Object) != name.Family() {
		return Record{}, fmt.Errorf("%w: %v %q under another name", ErrDamaged, r.Kind, r.Object)
	}
	return r, nil
}

func parsePlain(p []byte) (Record, error) {
	if len(p) < frontSize {
		return Record{}, fmt.Errorf("%w: too short", ErrDamaged)
	}
	r := Record{Kind: Kind(p[0]), Tombstone: p[1] == flagDeleted}
	no, nb := int(binary.BigEndian.Uint16(p[2:])), binary.BigEndian.Uint32(p[4:])
	p = p[frontSize:]
	if !r.Kind.valid() || no == 0 || no > MaxObject || nb > MaxBody || no+int(nb) > len(p) {
		return Record{}, fmt.Errorf("%w: bad front", ErrDamaged)
	}
	r.Object, r.Body = string(p[:no]), p[no:no+int(nb):no+int(nb)]
	return r, nil
}

// Newer reports whether a record of key epoch ka and version a supersedes one of kb and b. The key epoch decides
// first: a master that was rotated away must not be able to forge a newer version.
func Newer(ka uint32, a Version, kb uint32, b Version) bool {
	if ka != kb {
		return ka > kb
	}
	return a.Compare(b) > 0
}
