package zstor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	zdb "qsfs/zdb/client"
	"qsfs/zdb/server"
	"qsfs/zstor/config"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/backend/backendtest"
	"qsfs/zstor/internal/backend/zdbnode"
)

// startServer runs a zdb server of ours with some namespaces, and gives its address.
func startServer(t *testing.T, namespaces ...string) string {
	t.Helper()
	dir := t.TempDir()
	srv, err := server.Open(t.Context(), server.Options{
		DataDir: filepath.Join(dir, "data"), IndexDir: filepath.Join(dir, "index"), Ballast: -1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := server.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-served })
	c, err := zdb.Dial(t.Context(), zdb.Options{Address: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, ns := range namespaces {
		if err := errors.Join(c.NSNew(t.Context(), ns), c.NSSet(t.Context(), ns, "password", "pw-"+ns)); err != nil {
			t.Fatal(err)
		}
		if err := c.NSSet(t.Context(), ns, "public", "0"); err != nil {
			t.Fatal(err)
		}
	}
	return l.Addr().String()
}

func TestServerKeepsTheBackendContract(t *testing.T) {
	n := 0
	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprintf("ns%d", i))
	}
	addr := startServer(t, names...)
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		b, err := zdbnode.New(zdb.Options{Address: addr, Namespace: names[n], Password: zdb.Secret("pw-" + names[n])})
		if err != nil {
			t.Fatal(err)
		}
		n++
		return b
	})
	b, err := zdbnode.New(zdb.Options{Address: addr, Namespace: "ns0", Password: "pw-ns0"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	in, err := b.Info(t.Context())
	if err != nil || !in.Durability.OnAck() || in.Incarnation == "" || in.Free <= 0 {
		t.Errorf("info: got %+v, %v", in, err)
	}
}

// realWorld is a world whose nodes are zdb servers on loopback.
func realWorld(t *testing.T) *world {
	w := newWorld(t)
	for gi := range w.cfg.Groups {
		for bi := range w.cfg.Groups[gi].Backends {
			addr := startServer(t, "data", "meta")
			b := &w.cfg.Groups[gi].Backends[bi]
			m := &w.cfg.Meta.Backends[2*gi+bi]
			b.Address, b.Password = addr, config.NewSecret("pw-data")
			m.Address, m.Password = addr, config.NewSecret("pw-meta")
		}
	}
	w.edit = func(o *Options) { o.DataNode, o.MetaNode = nil, nil }
	return w
}

func TestWholePathOnServers(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	a := w.machine().start().format().mustMount()
	for range 4 {
		a.fs.write(nsData, 60)
		a.fs.write(nsMeta, 5)
		a.mustShip()
	}
	a.fs.seal(nsData)
	a.fs.seal(nsMeta)
	a.fs.write(nsMeta, 2)
	a.mustShip()
	want := a.fs.snapshot()
	a.kill()
	b := w.recover()
	b.wantRecovered(want)
	if r := a.start().attach(); r.Verdict != "fenced" {
		t.Errorf("the old machine: got %q (%s), want fenced", r.Verdict, r.Reason)
	}
}

func TestWrongPasswordIsSaidAtTheStart(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	w.cfg.Groups[1].Backends[0].Password = config.NewSecret("not it")
	c := w.cfg
	c.QSFS.State = t.TempDir()
	s, err := Open(t.Context(), Options{Config: &c, Ring: w.ring})
	if s != nil || !errors.Is(err, ErrPassword) {
		t.Fatalf("got %v, want ErrPassword", err)
	}
	w.cfg.Groups[1].Backends[0].Password = config.NewSecret("pw-data")
	w.cfg.Meta.Backends[2].Password = config.NewSecret("not it")
	c = w.cfg
	c.QSFS.State = t.TempDir()
	if s, err := Open(context.Background(), Options{Config: &c, Ring: w.ring}); s != nil || !errors.Is(err, ErrPassword) {
		t.Fatalf("metadata node: got %v, want ErrPassword", err)
	}
}
