package zdb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"qsfs/zdb/internal/wal"
)

// DumpEntry is one entry as it lies in the log. Its slices are valid until the next one.
type DumpEntry struct {
	Key     []byte // nil: nothing is known but that the bytes at Location do not check
	Value   []byte // nil when the bytes are damaged, not on this machine, or of a delete
	Seq     Seq
	Time    time.Time
	Deleted bool // a delete
	Moved   bool // compaction brought it here
	Given   bool // a user gave its time
	Location
	Batch   int64  // offset of its batch in d<N>; 0: not known, only i<N> was read
	Session uint64 // who wrote it; 0: not known
	// Damaged says why the value is not there although the entry has one: a CorruptionError or a MissingError.
	Damaged error
}

// Dump gives every entry of the log up to what is durable, in its order, superseded ones too. What is damaged or not on
// this machine is among them, as far as i<N> tells. An error ends it.
func (n *Namespace) Dump(ctx context.Context) iter.Seq2[DumpEntry, error] {
	return func(yield func(DumpEntry, error) bool) {
		if err := dump(ctx, n.log, n.log.Durable().Pos, yield); err != nil && !errors.Is(err, errEnough) {
			yield(DumpEntry{}, n.public(err))
		}
	}
}

// Dump gives the entries of a namespace that nobody has open, without changing anything. ErrLocked says that somebody has.
func Dump(ctx context.Context, o Options, namespace string) iter.Seq2[DumpEntry, error] {
	return func(yield func(DumpEntry, error) bool) {
		err := offline(o, namespace, func(o Options, dir string) error {
			l, err := wal.Survey(ctx, surveyOptions(o, namespace, dir))
			if err != nil {
				return err
			}
			return dump(ctx, l, l.Head().Pos, yield)
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(DumpEntry{}, fmt.Errorf("dump namespace %s: %w", namespace, err))
		}
	}
}

var errEnough = errors.New("the caller has seen enough")

func dump(ctx context.Context, l *wal.Log, to wal.Pos, yield func(DumpEntry, error) bool) error {
	return l.Walk(ctx, to, false, func(s *wal.Step) error {
		e := DumpEntry{
			Key: s.Key, Value: s.Value, Seq: s.Seq, Time: time.Unix(0, s.Time), Deleted: s.Delete, Moved: s.Moved, Given: s.Given,
			Location: s.Location, Batch: s.Batch, Session: s.Session, Damaged: s.Bad,
		}
		if !yield(e, nil) {
			return errEnough
		}
		return nil
	})
}
