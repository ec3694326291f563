// Package meta is the on-disk form of the filesystem's metadata: the keys of zdbfs-meta, their values, and the blobs of
// zdbfs-data. zdbfs/FORMAT.md describes it to the byte.
//
// Keys start with a letter for the kind of fact; numbers are big-endian, so that byte order is numeric order. Decoders
// take any bytes, never panic, and accept only what the encoders write.
package meta

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The first byte of a key says what the row is.
const (
	KindShared   = 'B' // blob → how many extents refer to it; only blobs that were cloned have one
	KindCounters = 'C' // the numbers that never come back
	KindDirent   = 'D' // parent, cookie → inode, type, name
	KindExtent   = 'E' // inode, end offset → what the bytes before that offset are
	KindSuper    = 'F' // the filesystem: version, id, hash key
	KindGarbage  = 'G' // blob → nothing refers to it any more, to be deleted in zdbfs-data
	KindInode    = 'I' // inode → attributes
	KindLodger   = 'L' // inode, end offset → that extent's content is in its row
	KindFiles    = 'N' // how many inodes there are
	KindOrphan   = 'O' // inode → it has no name left
	KindParent   = 'P' // inode, parent, cookie → a name of it; directories and hard links
	KindTruncate = 'T' // inode → extents ending above this offset are dead
	KindXattr    = 'X' // inode, name → value
	KindSession  = 's' // first sequence → session
)

// ErrFormat is wrapped by every decoding error.
var ErrFormat = errors.New("bad format")

func badf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

func key1(kind byte, a uint64) []byte {
	k := make([]byte, 9)
	k[0] = kind
	binary.BigEndian.PutUint64(k[1:], a)
	return k
}

func key2(kind byte, a, b uint64) []byte {
	k := make([]byte, 17)
	k[0] = kind
	binary.BigEndian.PutUint64(k[1:], a)
	binary.BigEndian.PutUint64(k[9:], b)
	return k
}

// SuperKey, CountersKey and FilesKey are the rows that exist once.
func SuperKey() []byte { return []byte{KindSuper} }

// CountersKey is the row of Counters.
func CountersKey() []byte { return []byte{KindCounters} }

// FilesKey is the row of the number of inodes.
func FilesKey() []byte { return []byte{KindFiles} }

// InodeKey is the row of an Inode.
func InodeKey(ino uint64) []byte { return key1(KindInode, ino) }

// OrphanKey is the row that says that ino has no name left; its value is empty.
func OrphanKey(ino uint64) []byte { return key1(KindOrphan, ino) }

// TruncateKey is the row of an unfinished truncation; its value is an offset.
func TruncateKey(ino uint64) []byte { return key1(KindTruncate, ino) }

// SharedKey is the row of a blob's reference count.
func SharedKey(blob uint64) []byte { return key1(KindShared, blob) }

// GarbageKey is the row of a blob that waits for its deletion; its value is empty.
func GarbageKey(blob uint64) []byte { return key1(KindGarbage, blob) }

// SessionKey is the row of the session whose first batch has sequence seq.
func SessionKey(seq uint64) []byte { return key1(KindSession, seq) }

// DirentKey is the row of a name in directory parent.
func DirentKey(parent, cookie uint64) []byte { return key2(KindDirent, parent, cookie) }

// ExtentKey is the row of the extent of ino that ends before offset end.
func ExtentKey(ino, end uint64) []byte { return key2(KindExtent, ino, end) }

// LodgerKey is the row that lists an inline extent; its value is empty.
func LodgerKey(ino, end uint64) []byte { return key2(KindLodger, ino, end) }

// ParentKey is the row of a name of ino; its value is empty.
func ParentKey(ino, parent, cookie uint64) []byte {
	return binary.BigEndian.AppendUint64(key2(KindParent, ino, parent), cookie)
}

// XattrKey is the row of an extended attribute; its value is the attribute's.
func XattrKey(ino uint64, name string) []byte { return append(key1(KindXattr, ino), name...) }

// BlobKey is a key of zdbfs-data.
func BlobKey(blob uint64) []byte { return binary.BigEndian.AppendUint64(nil, blob) }

// Key is a parsed key; which of A, B, C and Name count depends on Kind.
type Key struct {
	Kind    byte
	A, B, C uint64
	Name    string
}

// ParseKey takes any key of zdbfs-meta apart.
func ParseKey(k []byte) (Key, error) {
	if len(k) == 0 {
		return Key{}, badf("empty key")
	}
	out := Key{Kind: k[0]}
	numbers := 0
	switch out.Kind {
	case KindSuper, KindCounters, KindFiles:
	case KindInode, KindOrphan, KindTruncate, KindShared, KindGarbage, KindSession, KindXattr:
		numbers = 1
	case KindDirent, KindExtent, KindLodger:
		numbers = 2
	case KindParent:
		numbers = 3
	default:
		return Key{}, badf("key of unknown kind %#x", k[0])
	}
	rest := k[1:]
	if len(rest) < 8*numbers {
		return Key{}, badf("key %q is cut", k)
	}
	for i, p := range []*uint64{&out.A, &out.B, &out.C}[:numbers] {
		*p = binary.BigEndian.Uint64(rest[8*i:])
	}
	rest = rest[8*numbers:]
	if out.Kind == KindXattr {
		if len(rest) == 0 || len(rest) > 255 {
			return Key{}, badf("attribute name of %d bytes", len(rest))
		}
		out.Name = string(rest)
	} else if len(rest) != 0 {
		return Key{}, badf("key %q has %d bytes too many", k, len(rest))
	}
	return out, nil
}
