package zdb

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"qsfs/zdb/internal/vfs"
)

// rig is a directory for the index and a file system in memory for the log,
// on which a database is opened again and again.
type rig struct {
	t   *testing.T
	dir string
	mem *vfs.Mem
	o   Options
	ns  NamespaceOptions
	db  *DB
	n   *Namespace
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: t.TempDir(), mem: vfs.NewMem()}
	r.o = Options{DataDir: filepath.Join(r.dir, "data"), IndexDir: filepath.Join(r.dir, "index"), Epoch: 1, Reserve: -1}
	// Nothing is synced unless the test asks for it.
	r.ns = NamespaceOptions{FlushInterval: 1 << 40}
	t.Cleanup(func() { r.stop() })
	return r
}

// try opens and gives the error.
func (r *rig) try() error {
	if r.o.FS == nil {
		r.o.FS = r.mem
	}
	db, err := Open(r.t.Context(), r.o)
	if err != nil {
		return err
	}
	n, err := db.Namespace(r.t.Context(), "ns", r.ns)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	r.db, r.n = db, n
	return nil
}

func (r *rig) open() *Namespace {
	r.t.Helper()
	if err := r.try(); err != nil {
		r.t.Fatal(err)
	}
	return r.n
}

// stop closes without looking at the error: the file system may be broken on purpose.
func (r *rig) stop() {
	if r.db != nil {
		_ = r.db.Close()
		r.db, r.n = nil, nil
	}
}

func (r *rig) close() {
	r.t.Helper()
	if err := r.db.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.db, r.n = nil, nil
}

// powerOff gives what is left of the disk and ends the engine.
func (r *rig) powerOff() {
	clone := r.mem.CrashClone(nil)
	r.stop()
	r.mem, r.o.FS = clone, nil
}

// kill ends the engine as kill -9 does: all that was written is there.
func (r *rig) kill() {
	clone := r.mem.KillClone()
	r.stop()
	r.mem, r.o.FS = clone, nil
}

// all reads every key and value.
func all(t *testing.T, n *Namespace) map[string]string {
	t.Helper()
	it, err := n.NewIter(t.Context(), IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil {
			t.Fatalf("value of %s: %v", it.Key(), err)
		}
		got[string(it.Key())] = string(v)
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		t.Fatal(err)
	}
	return got
}

func wantKeys(t *testing.T, n *Namespace, want string) {
	t.Helper()
	if got := strings.Join(slices.Sorted(maps.Keys(all(t, n))), " "); got != want {
		t.Errorf("keys %q, want %q", got, want)
	}
}
