package zdb

import (
	"errors"
	"fmt"

	"qsfs/zdb/segfile"
)

// Errors that callers branch on; they come wrapped.
var (
	// ErrNotFound: the key has no value. It is never used for a value that cannot be read.
	ErrNotFound = errors.New("key not found")
	// ErrClosed: the database or namespace was closed.
	ErrClosed = errors.New("closed")
	// ErrNoSpace: the disk is filled up to the reserve; deletes are still taken.
	ErrNoSpace = errors.New("no space left above the reserve")
	// ErrPoisoned: an earlier fsync or write failed; the namespace is read-only until it is opened again.
	ErrPoisoned = errors.New("namespace is read-only after a failed write or fsync")
	// ErrBatchTooBig: more than MaxBatchBytes or MaxBatchEntries.
	ErrBatchTooBig = errors.New("batch too big")
	// ErrKey: a key is empty or longer than MaxKeySize.
	ErrKey = errors.New("key is empty or too long")
	// ErrName: not usable as a namespace name.
	ErrName = errors.New("invalid namespace name")
	// ErrLocked: another process has the data directory open.
	ErrLocked = errors.New("data directory is in use by another process")
	// ErrEpoch: the log was written under a higher epoch than Options.Epoch.
	ErrEpoch = errors.New("log belongs to a later epoch")
	// ErrNeeds: `needs` would decrease.
	ErrNeeds = errors.New("needs of a batch decreases")
	// ErrSegment: no such segment, or not in the state that the call asks for.
	ErrSegment = errors.New("no such sealed segment")
	// ErrRange: a read outside of the value.
	ErrRange = errors.New("range outside of the value")
)

// CorruptionError says that bytes which had been durable do not check.
type CorruptionError = segfile.CorruptionError

// MissingError says that bytes are not on this machine and could not be fetched.
type MissingError struct {
	Namespace string
	Segment   SegmentID
	Err       error
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("segment %d of %s is not local and cannot be fetched: %v", uint32(e.Segment), e.Namespace, e.Err)
}

func (e *MissingError) Unwrap() error { return e.Err }
