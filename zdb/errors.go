package zdb

import (
	"errors"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/internal/wal"
	"qsfs/zdb/segfile"
)

// Errors that callers branch on; they come wrapped.
var (
	// ErrNotFound: the key has no value. It is never used for a value that cannot be read.
	ErrNotFound = errors.New("key not found")
	// ErrClosed: the database or namespace was closed.
	ErrClosed = wal.ErrClosed
	// ErrNoSpace: the disk is filled up to the reserve; deletes are still taken.
	ErrNoSpace = errors.New("no space left above the reserve")
	// ErrPoisoned: an earlier fsync or write failed; the namespace is read-only until it is opened again.
	ErrPoisoned = wal.ErrPoisoned
	// ErrBatchTooBig: more than MaxBatchBytes or MaxBatchEntries.
	ErrBatchTooBig = errors.New("batch too big")
	// ErrKey: a key is empty or longer than MaxKeySize.
	ErrKey = errors.New("key is empty or too long")
	// ErrName: not usable as a namespace name.
	ErrName = errors.New("invalid namespace name")
	// ErrLocked: another process has the data directory open.
	ErrLocked = vfs.ErrLocked
	// ErrEpoch: the log was written under a higher epoch than Options.Epoch.
	ErrEpoch = wal.ErrEpoch
	// ErrNeeds: `needs` would decrease.
	ErrNeeds = wal.ErrNeeds
	// ErrSegment: no such segment, or not in the state that the call asks for.
	ErrSegment = wal.ErrSegment
	// ErrRange: a read outside of the value.
	ErrRange = wal.ErrRange
	// ErrEmpty: there is nothing to seal.
	ErrEmpty = wal.ErrEmpty
)

// CorruptionError says that bytes which had been durable do not check.
type CorruptionError = segfile.CorruptionError

// MissingError says that bytes are not on this machine and could not be fetched.
type MissingError = segfile.MissingError
