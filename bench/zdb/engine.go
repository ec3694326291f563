package main

import (
	"context"
	"errors"
	"os"
	"time"

	"qsfs/zdb"
)

// withNamespace opens an engine in a new directory for the time of use.
func (b *bench) withNamespace(o zdb.NamespaceOptions, use func(ctx context.Context, n *zdb.Namespace) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, "engine-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return b.inNamespace(dir, o, use)
}

func (b *bench) inNamespace(dir string, o zdb.NamespaceOptions, use func(ctx context.Context, n *zdb.Namespace) error) (err error) {
	db, err := zdb.Open(b.ctx, zdb.Options{DataDir: dir, IndexDir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	n, err := db.Namespace(b.ctx, "ns", o)
	if err != nil {
		return err
	}
	return use(b.ctx, n)
}

// small is how the engine is set up for small entries: as the server does without a sync before the reply.
var small = zdb.NamespaceOptions{InlineMax: 256}

// batchSize is the number of entries of a batch.
const batchSize = 16

// commitMany commits n entries with 16-byte keys in no order and 64-byte values, and gives entries per second.
func commitMany(ctx context.Context, n *zdb.Namespace, entries int) (float64, error) {
	value := valueOf(smallValue)
	batch := zdb.NewBatch()
	var k, v []byte
	began := time.Now()
	for i := 0; i < entries; i += batchSize {
		batch.Reset()
		for j := i; j < min(i+batchSize, entries); j++ {
			k, v = scatteredKey(k[:0], j), value(v[:0], j)
			batch.Set(k, v)
		}
		if _, err := n.Commit(ctx, batch); err != nil {
			return 0, err
		}
	}
	return float64(entries) / time.Since(began).Seconds(), nil
}

func burst() group {
	return group{
		rows: []*row{{
			name: "engine-burst", title: "engine: commits without fsync, batches of 16 small entries, a burst", unit: "entries/s",
			target: "≥ 200 k/s", reached: above(200e3),
		}},
		run: func(b *bench, rows map[string]*row) error {
			for range b.rounds(30 * time.Second) {
				err := b.withNamespace(small, func(ctx context.Context, n *zdb.Namespace) error {
					v, err := commitMany(ctx, n, b.scale.burst)
					rows["engine-burst"].addOurs(v)
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func sustained() group {
	return group{
		rows: []*row{{
			name: "engine-20m", title: "engine: the same, sustained over 20 M entries (one run)", unit: "entries/s",
			target: "≥ 100 k/s", reached: above(100e3),
		}},
		run: func(b *bench, rows map[string]*row) error {
			r := rows["engine-20m"]
			return b.withNamespace(small, func(ctx context.Context, n *zdb.Namespace) error {
				v, err := commitMany(ctx, n, b.scale.sustained)
				if err != nil {
					return err
				}
				r.addOurs(v)
				s := n.Stats()
				r.note("at the end: %d segments, %s MiB of log, %d fsyncs", s.Segments, number(float64(s.LogBytes)/(1<<20)), s.Syncs)
				return nil
			})
		},
	}
}

func lookups() group {
	return group{
		rows: []*row{
			{name: "get-overlay", title: "engine: Get of a small value from the overlay", unit: "µs", target: "≤ 1 µs", reached: below(1)},
			{name: "get-index", title: "engine: Get of a small value from the index, 1 M keys", unit: "µs", target: "≤ 6 µs", reached: below(6)},
		},
		run: runLookups,
	}
}

func runLookups(b *bench, rows map[string]*row) (err error) {
	const recent = 20_000
	if r := rows["get-overlay"]; r != nil {
		for range b.rounds(30 * time.Second) {
			err := b.withNamespace(small, func(ctx context.Context, n *zdb.Namespace) error {
				if _, err := commitMany(ctx, n, recent); err != nil {
					return err
				}
				return b.timeGets(ctx, n, recent, r)
			})
			if err != nil {
				return err
			}
		}
	}
	r := rows["get-index"]
	if r == nil {
		return nil
	}
	dir, err := os.MkdirTemp(b.dir, "engine-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	err = b.inNamespace(dir, small, func(ctx context.Context, n *zdb.Namespace) error {
		_, err := commitMany(ctx, n, b.scale.million)
		return err
	})
	if err != nil {
		return err
	}
	// Opened again, everything is in the index and nothing in the overlay.
	return b.inNamespace(dir, small, func(ctx context.Context, n *zdb.Namespace) error {
		for range b.rounds(30 * time.Second) {
			if err := b.timeGets(ctx, n, b.scale.million, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// timeGets reads random keys of the first n.
func (b *bench) timeGets(ctx context.Context, n *zdb.Namespace, keys int, r *row) error {
	var k []byte
	began := time.Now()
	for i := range b.scale.lookups {
		k = scatteredKey(k[:0], int(mix(uint64(i))%uint64(keys)))
		e, err := n.Get(ctx, k)
		if err != nil {
			return err
		}
		if len(e.Value) != smallValue {
			return errors.New("a value is missing")
		}
	}
	r.addOurs(time.Since(began).Seconds() * 1e6 / float64(b.scale.lookups))
	return nil
}
