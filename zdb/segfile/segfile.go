// Package segfile describes the two files of a segment, d<N> and i<N>, to those
// who check, ship or restore them without running the engine.
//
// A data segment d<N> opens with a Header and continues with batches. A sealed
// segment also has an index segment i<N>: one record for each entry of d<N>,
// and a Footer that states the length of d<N>, its sequences, its incarnation
// and a BLAKE3 sum of every piece. d<N> is sealed if and only if i<N> exists.
// FORMAT.md beside the engine has the bytes.
package segfile

import (
	"fmt"
	"strconv"
	"strings"
)

// ID numbers a segment within its namespace: the N of d<N> and i<N>.
type ID uint32

// NoID stands where a segment number is absent.
const NoID ID = 1<<32 - 1

func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// DataName is the file name of the data segment.
func (id ID) DataName() string { return "d" + id.String() }

// IndexName is the file name of the index segment.
func (id ID) IndexName() string { return "i" + id.String() }

// ReceiptName is the file name of the receipt that zstor writes.
func (id ID) ReceiptName() string { return "r" + id.String() }

// ParseName splits a file name such as "d17" into its kind ('d', 'i' or 'r')
// and number. Names with leading zeros or anything else are not segment files.
func ParseName(name string) (kind byte, id ID, ok bool) {
	if len(name) < 2 || !strings.ContainsRune("dir", rune(name[0])) {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(name[1:], 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != name[1:] || ID(n) == NoID {
		return 0, 0, false
	}
	return name[0], ID(n), true
}

// Seq is the sequence of an entry: the writer's epoch in the upper 16 bits, a
// counter that never comes back in the lower 48.
type Seq uint64

const counterBits = 48

// MakeSeq joins epoch and counter; a counter beyond 48 bits is cut.
func MakeSeq(epoch uint16, counter uint64) Seq {
	return Seq(uint64(epoch)<<counterBits | counter&(1<<counterBits-1))
}

// Epoch is the writer's epoch.
func (s Seq) Epoch() uint16 { return uint16(s >> counterBits) }

// Counter is the part below the epoch.
func (s Seq) Counter() uint64 { return uint64(s) & (1<<counterBits - 1) }

func (s Seq) String() string { return fmt.Sprintf("e%d.%d", s.Epoch(), s.Counter()) }

// Incarnation is drawn at random for each data segment file, so that bytes that
// lay in its blocks before never parse as its batches.
type Incarnation [16]byte

func (i Incarnation) String() string { return fmt.Sprintf("%x", i[:]) }

// Location is where a value lies: Length bytes at Offset of d<Segment>. The
// CRC32C sums of its blocks stand directly before it.
type Location struct {
	Segment ID
	Offset  int64
	Length  uint32
}

// End is the offset behind the value.
func (l Location) End() int64 { return l.Offset + int64(l.Length) }

func (l Location) String() string {
	return fmt.Sprintf("d%d:%d+%d", uint32(l.Segment), l.Offset, l.Length)
}

// SessionStart says from which sequence on a session wrote.
type SessionStart struct {
	First   Seq
	Session uint64
}

// CorruptionError says that bytes which had been durable do not check.
type CorruptionError struct {
	File   string
	Offset int64
	Err    error
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d: %v", e.File, e.Offset, e.Err)
}

func (e *CorruptionError) Unwrap() error { return e.Err }

// MissingError says that bytes are not on this machine and could not be fetched.
type MissingError struct {
	Namespace string
	Segment   ID
	Err       error
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("d%d of %s is not on this machine and cannot be fetched: %v", uint32(e.Segment), e.Namespace, e.Err)
}

func (e *MissingError) Unwrap() error { return e.Err }
