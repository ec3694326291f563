package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"qsfs/zdbfs/internal/exit"
)

type fakeService struct{ stopped chan struct{} }

func (fakeService) Status(context.Context) *Status { return &Status{Safe: true, Answer: "yes"} }
func (fakeService) Evict(_ context.Context, r EvictRequest) (EvictReply, error) {
	if !r.All {
		return EvictReply{}, exit.Errorf(exit.Stale, "not now")
	}
	return EvictReply{Evicted: 3}, nil
}
func (fakeService) Sync(_ context.Context, r SyncRequest) (SyncReply, error) {
	return SyncReply{Cut: 7}, nil
}
func (fakeService) Check(context.Context) (CheckReply, error) { return CheckReply{Inodes: 2}, nil }
func (f fakeService) Stop()                                   { close(f.stopped) }

func serve(t *testing.T) (*Client, string, fakeService) {
	t.Helper()
	path := filepath.Join(t.TempDir(), SocketName)
	f := fakeService{make(chan struct{})}
	s, err := Listen(path, f, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return NewClient(path), path, f
}

func TestCalls(t *testing.T) {
	c, path, f := serve(t)
	ctx := t.Context()
	if st, err := c.Status(ctx); err != nil || !st.Safe {
		t.Errorf("status: %+v, %v", st, err)
	}
	if r, err := c.Evict(ctx, EvictRequest{All: true}); err != nil || r.Evicted != 3 {
		t.Errorf("evict: %+v, %v", r, err)
	}
	if _, err := c.Evict(ctx, EvictRequest{}); exit.Of(err) != exit.Stale || err.Error() != "not now" {
		t.Errorf("a refused call: %v, code %d", err, exit.Of(err))
	}
	if r, err := c.Sync(ctx, SyncRequest{}); err != nil || r.Cut != 7 {
		t.Errorf("sync: %+v, %v", r, err)
	}
	if r, err := c.Check(ctx); err != nil || r.Inodes != 2 {
		t.Errorf("check: %+v, %v", r, err)
	}
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
	<-f.stopped
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v", fi.Mode(), err)
	}
}

func TestSocketOfTheLivingIsKept(t *testing.T) {
	_, path, f := serve(t)
	if _, err := Listen(path, f, slog.New(slog.DiscardHandler)); exit.Of(err) != exit.InUse {
		t.Errorf("got %v", err)
	}
}

func TestSocketOfTheDeadIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrDown) {
		t.Fatalf("nobody there: got %v", err)
	}
	s, err := Listen(path, fakeService{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.Background()) }()
	if _, err := NewClient(path).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAFileIsNoSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, fakeService{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("took the place of a file")
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("file is gone")
	}
}
