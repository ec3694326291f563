package engine

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"qsfs/zdb"
)

// Variables of a life.
const (
	lifeVar   = "QSFS_ENGINE_NOTES"  // directory for its notes, outside of the disk
	diskVar   = "QSFS_ENGINE_DISK"   // directory for the database
	numberVar = "QSFS_ENGINE_LIFE"   // number of the life
	lastVar   = "QSFS_ENGINE_ATEASE" // set: only look, compact, look again and end in order
)

// life is one run of the process.
type life struct {
	number int
	// notes has lines of a word and four numbers: "s" writer, batch: it is started; "a" writer, batch, times at which its
	// sync began and ended: it is acknowledged; "c" 0, segments: so many were compacted away.
	notes *os.File
	dir   string
	db    *zdb.DB
	n     *zdb.Namespace
}

func options(disk string) zdb.Options {
	return zdb.Options{
		DataDir: filepath.Join(disk, "data"), IndexDir: filepath.Join(disk, "index"), Epoch: 1, OverlayBytes: 1 << 20,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// live runs until it is killed or something fails.
func live(dir string) error {
	number, err := strconv.Atoi(os.Getenv(numberVar))
	if err != nil {
		return err
	}
	ctx := context.Background()
	l := &life{number: number, dir: dir}
	if l.notes, err = os.OpenFile(filepath.Join(dir, fmt.Sprintf("notes%d", number)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	if l.db, err = zdb.Open(ctx, options(os.Getenv(diskVar))); err != nil {
		return err
	}
	// All the shapes of a namespace take their turn.
	if l.n, err = l.db.Namespace(ctx, "ns", zdb.NamespaceOptions{
		SegmentSize: []int64{256 << 10, 1 << 20}[number%2], Prewrite: number%3 > 0, InlineMax: []int{0, 1000}[number/2%2],
		FlushInterval: []time.Duration{20 * time.Millisecond, time.Second}[number/4%2],
		Compaction:    zdb.Compaction{Auto: number%5 > 0, RateBytes: -1},
	}); err != nil {
		return err
	}
	found, err := l.dump(ctx, nil, nil)
	if err != nil {
		return err
	}
	if err := l.write("found", found); err != nil {
		return err
	}
	if os.Getenv(lastVar) != "" {
		return l.end(ctx)
	}
	failed := make(chan error, writers+1)
	for w := range writers {
		go func() { failed <- l.writer(ctx, w, found) }()
	}
	go func() { failed <- l.compactor(ctx) }()
	return <-failed
}

// end compacts everything, looks again and closes.
func (l *life) end(ctx context.Context) error {
	if _, err := l.n.Compact(ctx, zdb.CompactOptions{All: true}); err != nil {
		return err
	}
	found, err := l.dump(ctx, nil, nil)
	if err != nil {
		return err
	}
	return errors.Join(l.write("end", found), l.db.Close())
}

// writer commits batches, syncs now and then, and notes what was durable at each return.
func (l *life) writer(ctx context.Context, w int, found map[string]string) error {
	state, number := of(found, w)
	rng := rand.New(rand.NewPCG(uint64(l.number), uint64(w)))
	b := zdb.NewBatch()
	for {
		number++
		list := changes(l.number, w, number)
		fill(b, list)
		l.note("s %d %d 0 0\n", w, number)
		if _, err := l.n.Commit(ctx, b); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		apply(state, list)
		if rng.IntN(3) > 0 {
			from := time.Now()
			if err := l.n.Sync(ctx); err != nil {
				return fmt.Errorf("sync: %w", err)
			}
			l.note("a %d %d %d %d\n", w, number, from.UnixNano(), time.Now().UnixNano())
		}
		if rng.IntN(20) > 0 {
			continue
		}
		// Nobody else writes these keys.
		got, err := l.dump(ctx, fmt.Appendf(nil, "w%d/", w), fmt.Appendf(nil, "w%d0", w))
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if d := differ(got, state); d != "" {
			return fmt.Errorf("writer %d reads after batch %d: %s", w, number, d)
		}
	}
}

func (l *life) compactor(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(uint64(l.number), writers))
	for {
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
		res, err := l.n.Compact(ctx, zdb.CompactOptions{All: rng.IntN(2) == 0})
		if err != nil {
			return fmt.Errorf("compact: %w", err)
		}
		if res.Segments > 0 {
			l.note("c 0 %d 0 0\n", res.Segments)
		}
	}
}

// note writes one line with one call, so that it is there as a whole whenever the process dies.
func (l *life) note(format string, args ...any) {
	if _, err := fmt.Fprintf(l.notes, format, args...); err != nil {
		panic(err) // the test would take a wrong measure
	}
}

func (l *life) dump(ctx context.Context, lower, upper []byte) (map[string]string, error) {
	it, err := l.n.NewIter(ctx, zdb.IterOptions{Lower: lower, Upper: upper})
	if err != nil {
		return nil, err
	}
	got := make(map[string]string)
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("value of %s: %w", it.Key(), err), it.Close())
		}
		got[string(it.Key())] = string(v)
	}
	return got, errors.Join(it.Err(), it.Close())
}

// write puts a state where the test finds it, whole or not at all.
func (l *life) write(name string, state map[string]string) error {
	path := filepath.Join(l.dir, name+strconv.Itoa(l.number))
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	if err := errors.Join(gob.NewEncoder(f).Encode(state), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
