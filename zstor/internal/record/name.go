package record

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// A Kind says what a record describes.
type Kind uint8

// The kinds of records. A tombstone is not a kind of its own: it is the newest version of the record that it deletes,
// so that whoever sees it knows what it hides.
const (
	KindManifest Kind = 1 // one generation of one dispersed object; object = ManifestObject(…)
	KindCut      Kind = 2 // the filesystem at one moment; object = CutObject
	KindIntent   Kind = 3 // what a round is about to send; object = the round's id
	KindBase     Kind = 4 // manifest of a dispersed base; object as for a manifest
)

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{KindManifest, KindCut, KindIntent, KindBase} }

func (k Kind) valid() bool { return k >= KindManifest && k <= KindBase }

func (k Kind) String() string {
	switch k {
	case KindManifest:
		return "manifest"
	case KindCut:
		return "cut"
	case KindIntent:
		return "intent"
	case KindBase:
		return "base"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// CutObject is the object of every cut: there is one filesystem per set of metadata nodes.
const CutObject = "cut"

// MaxObject is the longest object name in a record, in bytes.
const MaxObject = 1024

// A Generation is one encoding attempt of one object: 128 random bits.
type Generation [16]byte

func (g Generation) String() string { return hex.EncodeToString(g[:]) }

// ManifestObject names the manifest of one generation of an object: a newer generation must not hide the manifest
// of the one that a cut still lists.
func ManifestObject(object string, g Generation) string { return object + "@" + g.String() }

// Sizes of names.
const (
	familySize = 1 + 4 + 20
	// NameSize is the size of a record's full name on a node.
	NameSize = familySize + VersionSize
)

const recordByte = 'r'

// A Name is the full name of a record on a node.
type Name [NameSize]byte

// A Family is what all versions of one record share: the front part of their names.
type Family [familySize]byte

// AllPrefix is the prefix of every record's name, and of nothing else on a metadata node.
func AllPrefix() []byte { return []byte{recordByte} }

var errName = errors.New("not the name of a record")

// ParseName checks the shape of a name that a node listed.
func ParseName(b []byte) (Name, error) {
	var n Name
	if len(b) != NameSize || b[0] != recordByte {
		return n, errName
	}
	copy(n[:], b)
	return n, nil
}

// Version is the version in the name.
func (n Name) Version() Version { return versionFrom(n[familySize:]) }

// Family is the name without the version.
func (n Name) Family() Family { return Family(n[:familySize]) }

// String is for logs: names are no secret, every node has them.
func (n Name) String() string { return hex.EncodeToString(n[1:13]) + "…" + n.Version().String() }

// With is the name of one version of the family.
func (f Family) With(v Version) Name {
	var n Name
	copy(n[:], f[:])
	v.append(n[:familySize])
	return n
}
