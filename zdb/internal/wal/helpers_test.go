package wal

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

const dir = "/ns"

// rig opens a log again and again on a file system in memory.
type rig struct {
	t   *testing.T
	mem *vfs.Mem
	o   Options
	l   *Log
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, mem: vfs.NewMem(), o: Options{
		DataDir: dir, IndexDir: dir, Namespace: "ns", Epoch: 1, Session: 11, SegmentSize: 1 << 20,
		FlushInterval: time.Hour, FetchTimeout: time.Second, Log: slog.New(slog.DiscardHandler),
	}}
	t.Cleanup(r.stop)
	return r
}

// try opens and gives the error. An FS that the test set stays for one opening.
func (r *rig) try() error {
	o := r.o
	if o.FS == nil {
		o.FS = r.mem
	}
	o.Handles = NewHandles(o.FS, 16)
	l, err := Open(r.t.Context(), o)
	r.l = l
	return err
}

func (r *rig) open() *Log {
	r.t.Helper()
	if err := r.try(); err != nil {
		r.t.Fatal(err)
	}
	return r.l
}

func (r *rig) stop() {
	if r.l != nil {
		_ = r.l.Close()
		r.l = nil
	}
}

func (r *rig) close() {
	r.t.Helper()
	if err := r.l.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.l = nil
}

// kill ends the log as kill -9 does, powerOff as a loss of power.
func (r *rig) kill()     { r.end(r.mem.KillClone()) }
func (r *rig) powerOff() { r.end(r.mem.CrashClone(nil)) }

func (r *rig) end(left *vfs.Mem) {
	r.stop()
	r.mem, r.o.FS = left, nil
}

func (r *rig) put(keys ...string) {
	r.t.Helper()
	if err := r.append(0, keys...); err != nil {
		r.t.Fatal(err)
	}
}

// append commits a batch; a key in capitals gets a long value.
func (r *rig) append(needs segfile.Seq, keys ...string) error {
	var b batch.Builder
	for _, k := range keys {
		b.Set([]byte(k), []byte(strings.Repeat(k, 40)))
	}
	_, err := r.l.Append(r.t.Context(), &b, needs, 0)
	return err
}

func (r *rig) sync() {
	r.t.Helper()
	if err := r.l.Sync(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// keys lists what the log holds, in order.
func (r *rig) keys() string {
	r.t.Helper()
	return strings.Join(r.replay(r.l.First(), r.l.Head().Pos, true), " ")
}

func (r *rig) replay(from, to Pos, values bool) []string {
	r.t.Helper()
	var keys []string
	err := r.l.Replay(r.t.Context(), from, to, values, func(it Item) error {
		key := string(it.Key)
		if it.HasValue && !it.Delete && string(it.Value) != strings.Repeat(key, 40) {
			r.t.Errorf("value of %s is %q", key, it.Value)
		}
		keys = append(keys, key)
		return nil
	}, func(Pos, segfile.Incarnation) error { return nil })
	if err != nil {
		r.t.Fatal(err)
	}
	return keys
}

func (r *rig) want(keys string) {
	r.t.Helper()
	if got := r.keys(); got != keys {
		r.t.Errorf("log holds %q, want %q", got, keys)
	}
}

func (r *rig) read(name string) []byte {
	r.t.Helper()
	f, err := r.mem.Open(dir+"/"+name, false)
	if err != nil {
		r.t.Fatal(err)
	}
	size, _ := f.Size()
	p := make([]byte, size)
	if _, err := f.ReadAt(p, 0); err != nil && size > 0 {
		r.t.Fatal(err)
	}
	return p
}

// write replaces a file, durably.
func (r *rig) write(name string, p []byte) {
	r.t.Helper()
	f, err := r.mem.Create(dir + "/" + name)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err = f.WriteAt(p, 0); err == nil {
		err = errors.Join(f.Sync(), r.mem.SyncDir(dir))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// only makes a disk that holds one file.
func (r *rig) only(name string, p []byte) {
	r.t.Helper()
	r.stop()
	r.mem, r.o.FS = vfs.NewMem(), nil
	if err := r.mem.MkdirAll(dir); err != nil {
		r.t.Fatal(err)
	}
	r.write(name, p)
}

func (r *rig) names() string {
	r.t.Helper()
	names, err := r.mem.List(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// copyOf is a Fetch that serves one file.
func copyOf(id segfile.ID, p []byte, asked *int) func(context.Context, string, segfile.ID, int64, int64) ([]byte, error) {
	return func(_ context.Context, _ string, seg segfile.ID, off, n int64) ([]byte, error) {
		*asked++
		if seg != id || off+n > int64(len(p)) {
			return nil, errors.New("no such range")
		}
		return p[off : off+n], nil
	}
}
