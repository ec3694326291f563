package zdbfs

import (
	"context"

	"qsfs/zdb"
)

// space is what the core needs of a namespace.
type space interface {
	commit(ctx context.Context, b *batch, needs zdb.Seq) (zdb.Commit, error)
	iter(ctx context.Context, lower, upper []byte, keysOnly bool) (rowIter, error)
	Get(ctx context.Context, key []byte) (zdb.Entry, error)
	Has(ctx context.Context, key []byte) (bool, error)
	ReadRange(ctx context.Context, key []byte, off int64, p []byte) (int, error)
	SyncTo(ctx context.Context, seq zdb.Seq) error
	Head() zdb.Head
	Durable() zdb.Head
}

// rowIter walks keys in order, over the state at its creation. It starts nowhere: Seek first.
type rowIter interface {
	Seek(key []byte) bool
	Next() bool
	Valid() bool
	Key() []byte
	Value() ([]byte, error)
	Entry() (zdb.Entry, error)
	Err() error
	Close() error
}

// engine is a namespace of the zdb engine as a space.
type engine struct{ *zdb.Namespace }

func (e engine) commit(ctx context.Context, b *batch, needs zdb.Seq) (zdb.Commit, error) {
	zb := zdb.NewBatch()
	for i := range b.rows {
		if r := &b.rows[i]; r.del {
			zb.Delete(r.key)
		} else {
			zb.Set(r.key, r.value)
		}
	}
	zb.SetNeeds(needs)
	if b.frees {
		zb.UseReserve()
	}
	return e.Commit(ctx, zb)
}

func (e engine) iter(ctx context.Context, lower, upper []byte, keysOnly bool) (rowIter, error) {
	return e.NewIter(ctx, zdb.IterOptions{Lower: lower, Upper: upper, KeysOnly: keysOnly})
}

// row is one change of a batch.
type row struct {
	key, value []byte
	del        bool
}

// batch collects rows to be committed as one; a later change of a key replaces an earlier one.
type batch struct {
	rows  []row
	index map[string]int
	size  int
	frees bool  // gives space back in the end: taken on a full disk too
	files int64 // inodes that it makes, less those that it frees
}

const (
	// Soft bounds of a batch, well inside of the engine's: what may grow stops adding here.
	batchRows  = 4000
	batchBytes = 4 << 20
)

func (b *batch) put(r row) {
	if i, ok := b.index[string(r.key)]; ok {
		b.size += len(r.value) - len(b.rows[i].value)
		b.rows[i] = r
		return
	}
	if b.index == nil {
		b.index = make(map[string]int)
	}
	b.index[string(r.key)] = len(b.rows)
	b.rows = append(b.rows, r)
	b.size += len(r.key) + len(r.value)
}

func (b *batch) set(key, value []byte) { b.put(row{key: key, value: value}) }

func (b *batch) del(key []byte) { b.put(row{key: key, del: true}) }

// pending returns what b will do to key.
func (b *batch) pending(key []byte) (row, bool) {
	i, ok := b.index[string(key)]
	if !ok {
		return row{}, false
	}
	return b.rows[i], true
}
