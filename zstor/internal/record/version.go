package record

import (
	"cmp"
	"encoding/binary"
	"fmt"
)

// VersionSize is the size of an encoded Version.
const VersionSize = 24

// A Version orders the records of one object. Epoch is the writer's, which no two owners share; Counter was reserved
// durably before it was used; Rand keeps even a copied machine from making the same version twice.
type Version struct {
	Epoch   uint64
	Counter uint64
	Rand    uint64
}

// Compare orders versions as a whole.
func (v Version) Compare(o Version) int {
	if c := cmp.Compare(v.Epoch, o.Epoch); c != 0 {
		return c
	}
	if c := cmp.Compare(v.Counter, o.Counter); c != 0 {
		return c
	}
	return cmp.Compare(v.Rand, o.Rand)
}

// IsZero reports whether v is no version at all.
func (v Version) IsZero() bool { return v == Version{} }

func (v Version) String() string { return fmt.Sprintf("e%d.%d-%016x", v.Epoch, v.Counter, v.Rand) }

func (v Version) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, v.Epoch)
	b = binary.BigEndian.AppendUint64(b, v.Counter)
	return binary.BigEndian.AppendUint64(b, v.Rand)
}

func versionFrom(b []byte) Version {
	return Version{
		Epoch:   binary.BigEndian.Uint64(b),
		Counter: binary.BigEndian.Uint64(b[8:]),
		Rand:    binary.BigEndian.Uint64(b[16:]),
	}
}

// ParseVersion reads what String wrote.
func ParseVersion(s string) (Version, error) {
	var v Version
	if n, err := fmt.Sscanf(s, "e%d.%d-%016x", &v.Epoch, &v.Counter, &v.Rand); err != nil || n != 3 || v.String() != s {
		return Version{}, fmt.Errorf("%q is not a version", s)
	}
	return v, nil
}
