package zdb

import (
	"fmt"
	"time"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/segfile"
)

// Limits of keys, values and batches.
const (
	MaxBatchBytes   = batch.MaxBytes
	MaxBatchEntries = batch.MaxEntries
	MaxKeySize      = segfile.MaxKey
	MaxValueSize    = batch.MaxValue
)

// Batch is a set of changes that become visible and durable together or not at
// all. It is not safe for concurrent use. When the same key is set twice the later change wins.
type Batch struct {
	b       batch.Builder
	needs   Seq
	time    int64 // 0: when it is committed
	reserve bool
	deletes int
	shared  bool // the overlay refers to the buffer
	err     error
}

// NewBatch returns an empty batch.
func NewBatch() *Batch { return &Batch{} }

// Set adds a value. Key and value are copied. A key or value out of its limits makes Commit fail.
func (b *Batch) Set(key, value []byte) {
	if b.check(key, value) {
		b.b.Set(key, value)
	}
}

// Delete adds a delete; the key need not exist.
func (b *Batch) Delete(key []byte) {
	if b.check(key, nil) {
		b.b.Delete(key)
		b.deletes++
	}
}

func (b *Batch) check(key, value []byte) bool {
	switch {
	case b.err != nil:
	case len(key) == 0 || len(key) > MaxKeySize:
		b.err = fmt.Errorf("%w: %d bytes", ErrKey, len(key))
	case len(value) > MaxValueSize:
		b.err = fmt.Errorf("%w: value of %d bytes", ErrBatchTooBig, len(value))
	case b.b.Len() >= MaxBatchEntries:
		b.err = fmt.Errorf("%w: more than %d entries", ErrBatchTooBig, MaxBatchEntries)
	case b.b.Size()+batch.EntrySize(len(key), len(value)) > MaxBatchBytes:
		b.err = fmt.Errorf("%w: more than %d bytes", ErrBatchTooBig, MaxBatchBytes)
	}
	return b.err == nil
}

// Fits says whether one more entry of these lengths keeps the batch in its limits.
func (b *Batch) Fits(key, value int) bool {
	return b.b.Len() < MaxBatchEntries && b.b.Size()+batch.EntrySize(key, value) <= MaxBatchBytes
}

// SetNeeds says which sequence of another namespace the batch refers to. It must
// not be lower than that of any batch before; 0, the default, repeats the last.
func (b *Batch) SetNeeds(needs Seq) { b.needs = needs }

// SetTime gives the time that the entries carry in the log; zero, the default, is
// when they are committed. It says nothing about when they were written, so retention does not go by it.
func (b *Batch) SetTime(t time.Time) {
	b.time = 0
	if !t.IsZero() {
		b.time = t.UnixNano()
	}
}

// UseReserve marks a batch that frees space in the end, so that it is taken on a
// full disk. A batch of deletes alone need not be marked.
func (b *Batch) UseReserve() { b.reserve = true }

// Len is the number of entries.
func (b *Batch) Len() int { return b.b.Len() }

// Size is what the batch will take up in the log.
func (b *Batch) Size() int { return b.b.Size() }

// Reset empties the batch for use again, also after a Commit.
func (b *Batch) Reset() {
	b.b.Reset(!b.shared)
	b.needs, b.time, b.reserve, b.deletes, b.shared, b.err = 0, 0, false, 0, false, nil
}

// urgent says whether the batch may use the reserve.
func (b *Batch) urgent() bool { return b.reserve || b.deletes > 0 && b.deletes == b.b.Len() }
