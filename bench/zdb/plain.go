package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdb"
)

// fsyncs compares small durable commits with what the file system itself does.
func fsyncs() group {
	return group{
		rows: []*row{{
			name: "engine-fsync", title: "engine: 4 KiB commit + fsync, one writer, to append + fdatasync of a plain file", unit: "/s",
			target: "≥ 1 ×", reached: atLeast(1), ratio: toTheirs,
		}},
		run: func(b *bench, rows map[string]*row) error {
			r := rows["engine-fsync"]
			for range b.rounds(30 * time.Second) {
				err := b.withNamespace(zdb.NamespaceOptions{Prewrite: true}, func(ctx context.Context, n *zdb.Namespace) error {
					v, err := commitEach(ctx, n, b.scale.fsyncs, 4<<10, true)
					r.addOurs(v)
					return err
				})
				if err != nil {
					return err
				}
				v, err := b.append(b.scale.fsyncs, 4<<10, true)
				if err != nil {
					return err
				}
				r.addTheirs(v)
			}
			return nil
		},
	}
}

// large compares values of 128 KiB with plain appends.
func large() group {
	return group{
		rows: []*row{{
			name: "engine-128k", title: "engine: values of 128 KiB and an fsync at the end, to plain appends", unit: "MiB/s",
			target: "≥ 0.7 ×", reached: atLeast(0.7), ratio: toTheirs,
		}},
		run: func(b *bench, rows map[string]*row) error {
			const size = 128 << 10
			const mib = float64(size) / (1 << 20)
			r := rows["engine-128k"]
			count := int(b.scale.plain / size)
			for range b.rounds(30 * time.Second) {
				err := b.withNamespace(zdb.NamespaceOptions{}, func(ctx context.Context, n *zdb.Namespace) error {
					v, err := commitEach(ctx, n, count, size, false)
					r.addOurs(v * mib)
					return err
				})
				if err != nil {
					return err
				}
				v, err := b.append(count, size, false)
				if err != nil {
					return err
				}
				r.addTheirs(v * mib)
			}
			return nil
		},
	}
}

// commitEach commits values one by one, and makes each durable or all at the end. It gives values per second.
func commitEach(ctx context.Context, n *zdb.Namespace, count, size int, each bool) (float64, error) {
	value := bytes.Repeat([]byte("v"), size)
	batch := zdb.NewBatch()
	began := time.Now()
	for i := range count {
		batch.Reset()
		batch.Set(fmt.Appendf(nil, "%016d", i), value)
		c, err := n.Commit(ctx, batch)
		if err == nil && each {
			err = n.SyncTo(ctx, c.Last)
		}
		if err != nil {
			return 0, err
		}
	}
	if err := n.Sync(ctx); err != nil {
		return 0, err
	}
	return float64(count) / time.Since(began).Seconds(), nil
}

// append does the same with a plain file.
func (b *bench) append(count, size int, each bool) (rate float64, err error) {
	path := filepath.Join(b.dir, "plain")
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	p := bytes.Repeat([]byte("v"), size)
	began := time.Now()
	for range count {
		if _, err := f.Write(p); err != nil {
			return 0, err
		}
		if each {
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return 0, err
			}
		}
		if err := b.ctx.Err(); err != nil {
			return 0, err
		}
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return 0, err
	}
	return float64(count) / time.Since(began).Seconds(), nil
}
