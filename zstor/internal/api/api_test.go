package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"qsfs/zstor/client"
)

// service answers what a test tells it to.
type service struct {
	err      error
	released int
	lines    int
}

func (s *service) Attach(_ context.Context, r client.AttachRequest) (client.AttachReply, error) {
	return client.AttachReply{Verdict: client.Verified, Reason: fmt.Sprint(r.Session, r.Meta.Incarnation)}, s.err
}
func (s *service) Heads(ctx context.Context, r client.HeadsRequest) (client.HeadsReply, error) {
	if r.Wait {
		<-ctx.Done()
		return client.HeadsReply{}, ctx.Err()
	}
	return client.HeadsReply{Cut: r.Meta.Seq}, s.err
}
func (s *service) Stripe(_ context.Context, ns string, seg uint32, off int64) (client.Stripe, func(), error) {
	if s.err != nil {
		return client.Stripe{}, nil, s.err
	}
	return client.Stripe{Offset: off, SegmentLength: int64(seg), Data: []byte(ns)}, func() { s.released++ }, nil
}
func (s *service) Evict(_ context.Context, r client.EvictRequest) (client.EvictReply, error) {
	return client.EvictReply{OK: r.Emergency, Reason: r.Namespace}, s.err
}
func (s *service) Status(context.Context) (*client.Status, error) {
	return &client.Status{Safety: client.Safe}, s.err
}
func (s *service) Format(context.Context) (client.Owner, error) {
	return client.Owner{Epoch: 1}, s.err
}
func (s *service) Takeover(context.Context) (client.TakeoverReply, error) {
	return client.TakeoverReply{Verdict: client.Stale}, s.err
}
func (s *service) Files(context.Context) ([]client.FileInfo, error) {
	return []client.FileInfo{{Name: "x"}}, s.err
}
func (s *service) stream(p func(client.Progress)) error {
	for i := range s.lines {
		p(client.Progress{Phase: "p", Items: int64(i)})
	}
	return s.err
}
func (s *service) Recover(_ context.Context, p func(client.Progress)) error { return s.stream(p) }
func (s *service) Flush(_ context.Context, p func(client.Progress)) error   { return s.stream(p) }
func (s *service) StoreFile(_ context.Context, _ client.FileRequest, p func(client.Progress)) error {
	return s.stream(p)
}
func (s *service) RetrieveFile(_ context.Context, _ client.FileRequest, p func(client.Progress)) error {
	return s.stream(p)
}
func (s *service) CheckFile(_ context.Context, _ client.FileRequest, p func(client.Progress)) error {
	return s.stream(p)
}
func (s *service) RebuildFile(_ context.Context, _ client.FileRequest, p func(client.Progress)) error {
	return s.stream(p)
}

func start(t *testing.T, s *service) (*client.Client, *Server) {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := Serve(l, s, slog.New(slog.DiscardHandler))
	c := client.New(sock)
	t.Cleanup(func() {
		c.Close()
		if err := srv.Close(t.Context()); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return c, srv
}

func TestEveryCallArrives(t *testing.T) {
	s := &service{lines: 3}
	c, _ := start(t, s)
	ctx := t.Context()
	inc := client.Incarnation{1, 2}
	if r, err := c.Attach(ctx, client.AttachRequest{Session: 5, Meta: client.Head{Incarnation: inc}}); err != nil || r.Reason != "5 "+inc.String() {
		t.Errorf("attach: %+v, %v", r, err)
	}
	const big = 1<<63 + 12345 // sequences use all 64 bits
	if r, err := c.Heads(ctx, client.HeadsRequest{Meta: client.Head{Seq: big}}); err != nil || r.Cut != big {
		t.Errorf("heads: %+v, %v", r, err)
	}
	st, err := c.Stripe(ctx, "zdbfs-data", 7, 99)
	if err != nil || st.Offset != 99 || st.SegmentLength != 7 || string(st.Data) != "zdbfs-data" || s.released != 1 {
		t.Errorf("stripe: %+v, released %d, %v", st, s.released, err)
	}
	if r, err := c.Evict(ctx, client.EvictRequest{Namespace: "n", Emergency: true}); err != nil || !r.OK || r.Reason != "n" {
		t.Errorf("evict: %+v, %v", r, err)
	}
	if r, err := c.Status(ctx); err != nil || r.Safety != client.Safe {
		t.Errorf("status: %+v, %v", r, err)
	}
	if r, err := c.Format(ctx); err != nil || r.Epoch != 1 {
		t.Errorf("format: %+v, %v", r, err)
	}
	if r, err := c.Takeover(ctx); err != nil || r.Verdict != client.Stale {
		t.Errorf("takeover: %+v, %v", r, err)
	}
	if r, err := c.Files(ctx); err != nil || len(r) != 1 {
		t.Errorf("files: %+v, %v", r, err)
	}
	for name, f := range map[string]func(func(client.Progress)) error{
		"recover":  func(p func(client.Progress)) error { return c.Recover(ctx, p) },
		"flush":    func(p func(client.Progress)) error { return c.Flush(ctx, p) },
		"store":    func(p func(client.Progress)) error { return c.StoreFile(ctx, client.FileRequest{}, p) },
		"retrieve": func(p func(client.Progress)) error { return c.RetrieveFile(ctx, client.FileRequest{}, p) },
		"check":    func(p func(client.Progress)) error { return c.CheckFile(ctx, client.FileRequest{}, p) },
		"rebuild":  func(p func(client.Progress)) error { return c.RebuildFile(ctx, client.FileRequest{}, p) },
	} {
		n := 0
		if err := f(func(client.Progress) { n++ }); err != nil || n != 4 {
			t.Errorf("%s: %d lines, %v", name, n, err)
		}
	}
}

func TestErrorsArriveBeforeAndInsideAStream(t *testing.T) {
	for lines := range 3 {
		s := &service{lines: lines, err: fmt.Errorf("%w: of epoch 9", client.ErrFenced)}
		c, _ := start(t, s)
		err := c.Recover(t.Context(), func(client.Progress) {})
		if !errors.Is(err, client.ErrFenced) || err.Error() != s.err.Error() {
			t.Errorf("%d lines: got %v", lines, err)
		}
	}
}

// TestAFailedStripeIsNamed: who cannot be given a stripe learns which bytes that is about.
func TestAFailedStripeIsNamed(t *testing.T) {
	s := &service{}
	c, _ := start(t, s)
	s.err = fmt.Errorf("read: %w", &client.StripeError{Span: client.Span{Offset: 3000, Length: 1000}, Err: client.ErrUnavailable})
	_, err := c.Stripe(t.Context(), "zdbfs-data", 7, 3400)
	var e *client.Error
	if !errors.Is(err, client.ErrUnavailable) || !errors.As(err, &e) || !e.Temporary {
		t.Fatalf("got %v", err)
	}
	if off, n := e.Span(); off != 3000 || n != 1000 {
		t.Errorf("it names %d bytes at %d", n, off)
	}
	s.err = client.ErrNotDispersed
	_, err = c.Stripe(t.Context(), "zdbfs-data", 7, 3400)
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	if _, n := e.Span(); n != 0 {
		t.Errorf("an error about no stripe names %d bytes", n)
	}
}

func TestBadRequests(t *testing.T) {
	c, _ := start(t, &service{})
	if _, err := c.Stripe(t.Context(), "x", 1, -5); !errors.Is(err, client.ErrBadRequest) {
		t.Errorf("negative offset: got %v", err)
	}
}

func TestCloseCutsOffWhoWaits(t *testing.T) {
	c, srv := start(t, &service{})
	done := make(chan error, 1)
	go func() {
		_, err := c.Heads(context.Background(), client.HeadsRequest{Wait: true})
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := srv.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	if err := <-done; err == nil {
		t.Error("the call succeeded")
	}
}
