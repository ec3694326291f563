package zstor

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	zdb "qsfs/zdb/client"
	"qsfs/zdb/server"
	"qsfs/zstor/client"
)

// restartable is a zdb server on a socket file that can be started again with other options.
type restartable struct {
	t    *testing.T
	dir  string
	stop func()
}

func (r *restartable) address() string { return "unix:" + filepath.Join(r.dir, "s") }

func (r *restartable) start(noSync bool) {
	r.t.Helper()
	srv, err := server.Open(r.t.Context(), server.Options{
		DataDir: filepath.Join(r.dir, "data"), IndexDir: filepath.Join(r.dir, "index"), Ballast: -1, Log: slog.New(slog.DiscardHandler), NoSync: noSync,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := server.Listen(r.t.Context(), r.address())
	if err != nil {
		r.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	r.stop = func() { srv.Close(); <-served }
}

func (r *restartable) restart(noSync bool) {
	r.t.Helper()
	r.stop()
	r.start(noSync)
}

// TestNodeThatDoesNotSync: a node that runs with sync=none holds no records and does not count as a metadata node, what
// it holds of data is unconfirmed, and status says so; started again as it should be it is as good as any.
func TestNodeThatDoesNotSync(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	w.cfg.QSFS.ConfirmAfter = time.Hour
	n := &restartable{t: t, dir: t.TempDir()}
	n.start(true)
	t.Cleanup(func() { n.stop() })
	c, err := zdb.Dial(t.Context(), zdb.Options{Address: n.address()})
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"data", "meta"} {
		w.must(errors.Join(c.NSNew(t.Context(), ns), c.NSSet(t.Context(), ns, "password", "pw-"+ns), c.NSSet(t.Context(), ns, "public", "0")))
	}
	c.Close()
	w.cfg.Groups[0].Backends[0].Address, w.cfg.Meta.Backends[0].Address = n.address(), n.address()

	a := w.machine().start()
	if _, err := a.store.Format(t.Context()); err == nil || !strings.Contains(err.Error(), "--sync=always") {
		t.Fatalf("format with a node that does not sync: %v", err)
	}
	n.restart(false)
	a.eventually("format", func() bool { _, err := a.store.Format(t.Context()); return err == nil })
	a.mustMount()
	a.fill()
	a.mustShip()
	a.receipts()

	n.restart(true)
	says := func(want bool) func() bool {
		return func() bool {
			st := a.status()
			role := map[string]client.NodeStatus{}
			for _, x := range st.Nodes {
				if strings.HasPrefix(x.ID, n.address()) {
					role[x.Role] = x
				}
			}
			advice := strings.Join(st.Advice, "\n")
			return role["data"].NoSync == want && role["metadata"].NoSync == want && role["metadata"].Counts == !want &&
				strings.Contains(advice, "sync=none") == want && strings.Contains(advice, "holds no records") == want &&
				(st.Quorum.Countable == 6) == !want && !strings.Contains(advice, "Bring back")
		}
	}
	a.eventually("status says that it does not sync", func() bool {
		a.store.metaStatus(t.Context())
		return says(true)()
	})
	held := func() int {
		c, err := zdb.Dial(t.Context(), zdb.Options{Address: n.address(), Namespace: "meta", Password: "pw-meta"})
		w.must(err)
		defer c.Close()
		size, err := c.DBSize(t.Context())
		w.must(err)
		return int(size)
	}
	records := held()
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	last := a.fs.logs[nsData].seg - 1
	if got := held(); got != records {
		t.Errorf("it held %d records and holds %d", records, got)
	}
	if r, err := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: last}); err != nil || r.OK {
		t.Errorf("consent with an unconfirmed shard: %+v, %v", r, err)
	}
	// Its shard may not have arrived at all: a connection of before the restart ends with the first use.
	if st := a.status(); st.Objects.Unconfirmed+st.Objects.Degraded == 0 || st.Safety != client.Degraded {
		t.Errorf("%d unconfirmed and %d degraded objects, %s", st.Objects.Unconfirmed, st.Objects.Degraded, st.Safety)
	}

	n.restart(false)
	a.eventually("status says that all is well", func() bool {
		a.store.metaStatus(t.Context())
		return says(false)()
	})
	a.eventually("it has what it missed", func() bool {
		// It may hold more: versions that were superseded, and removed elsewhere, while it was away.
		has := a.manifestNames(0)
		for _, name := range a.manifestNames(1) {
			if !slices.Contains(has, name) {
				return false
			}
		}
		return len(has) > 0
	})
	a.kill()
	w.recover().wantRecovered(a.fs.snapshot())
}
