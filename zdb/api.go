package zdb

import (
	"context"
	"errors"
)

type DB struct{}
type Namespace struct{}
type Batch struct{}
type Iter struct{}

const (
	MaxBatchBytes   = 8<<20 + 64<<10
	MaxBatchEntries = 8192
	MaxKeySize      = 4096
	MaxValueSize    = 8 << 20
)

func Open(ctx context.Context, o Options) (*DB, error) { return nil, errors.ErrUnsupported }
func (db *DB) Close() error                            { return nil }
func (db *DB) Namespace(ctx context.Context, name string, o NamespaceOptions) (*Namespace, error) {
	return nil, errors.ErrUnsupported
}
func (db *DB) Namespaces() ([]string, error)                        { return nil, nil }
func (db *DB) DropNamespace(ctx context.Context, name string) error { return nil }
func (db *DB) Session() uint64                                      { return 0 }

func NewBatch() *Batch                 { return &Batch{} }
func (b *Batch) Set(key, value []byte) {}
func (b *Batch) Delete(key []byte)     {}
func (b *Batch) SetNeeds(needs Seq)    {}

// UseReserve marks a batch that frees space in the end, so that it is taken on a full disk.
func (b *Batch) UseReserve() {}
func (b *Batch) Len() int    { return 0 }
func (b *Batch) Size() int   { return 0 }
func (b *Batch) Reset()      {}

func (n *Namespace) Name() string          { return "" }
func (n *Namespace) Incarnation() [16]byte { return [16]byte{} } // drawn when the namespace is made
func (n *Namespace) Close() error          { return nil }        // closes this namespace only
func (n *Namespace) Commit(ctx context.Context, b *Batch) (Commit, error) {
	return Commit{}, errors.ErrUnsupported
}
func (n *Namespace) CommitIf(ctx context.Context, b *Batch, check func(Reader) error) (Commit, error) {
	return Commit{}, errors.ErrUnsupported
}
func (n *Namespace) SyncTo(ctx context.Context, seq Seq) error { return errors.ErrUnsupported }
func (n *Namespace) Sync(ctx context.Context) error            { return errors.ErrUnsupported }
func (n *Namespace) Get(ctx context.Context, key []byte) (Entry, error) {
	return Entry{}, errors.ErrUnsupported
}
func (n *Namespace) Has(ctx context.Context, key []byte) (bool, error) {
	return false, errors.ErrUnsupported
}

// Locate is Get without reading the value.
func (n *Namespace) Locate(ctx context.Context, key []byte) (Entry, error) {
	return Entry{}, errors.ErrUnsupported
}
func (n *Namespace) ReadRange(ctx context.Context, key []byte, off int64, p []byte) (int, error) {
	return 0, errors.ErrUnsupported
}
func (n *Namespace) ReadLocation(ctx context.Context, l Location, off int64, p []byte) (int, error) {
	return 0, errors.ErrUnsupported
}
func (n *Namespace) NewIter(ctx context.Context, o IterOptions) (*Iter, error) {
	return nil, errors.ErrUnsupported
}
func (n *Namespace) Head() Head                                    { return Head{} }
func (n *Namespace) Durable() Head                                 { return Head{} }
func (n *Namespace) Seal(ctx context.Context) (SegmentID, error)   { return 0, errors.ErrUnsupported }
func (n *Namespace) Segments() []SegmentInfo                       { return nil }
func (n *Namespace) Sessions() []SessionStart                      { return nil }
func (n *Namespace) Evict(ctx context.Context, id SegmentID) error { return errors.ErrUnsupported }
func (n *Namespace) Stats() Stats                                  { return Stats{} }

// Count walks the index: exact number of keys and bytes of keys and values.
func (n *Namespace) Count(ctx context.Context) (keys, bytes int64, err error) {
	return 0, 0, errors.ErrUnsupported
}
func (n *Namespace) Err() error { return nil }

func (it *Iter) Seek(key []byte) bool   { return false } // first key ≥ key (Reverse: ≤ key)
func (it *Iter) First() bool            { return false }
func (it *Iter) Next() bool             { return false }
func (it *Iter) Valid() bool            { return false }
func (it *Iter) Key() []byte            { return nil }
func (it *Iter) Value() ([]byte, error) { return nil, nil }
func (it *Iter) Entry() (Entry, error)  { return Entry{}, nil }
func (it *Iter) Err() error             { return nil }
func (it *Iter) Close() error           { return nil }
