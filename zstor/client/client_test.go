package client

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// serve runs h on a socket of its own until the test ends.
func serve(t *testing.T, h http.Handler) *Client {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }()
	c := New(sock)
	t.Cleanup(func() { c.Close(); _ = srv.Close() })
	return c
}

func TestErrorsKeepTheirKind(t *testing.T) {
	for _, k := range wireKinds {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			status, code := StatusOf(k.err)
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(ErrorBody{Code: code, Error: "because", Temporary: true})
		}))
		_, err := c.Stripe(t.Context(), NamespaceData, 3, 4096)
		if !errors.Is(err, k.err) || err.Error() != "because" {
			t.Errorf("%s: got %v", k.code, err)
		}
		var e *Error
		if !errors.As(err, &e) || !e.Temporary || e.Status != k.status {
			t.Errorf("%s: got %+v", k.code, e)
		}
	}
}

func TestNoDaemon(t *testing.T) {
	c := New(filepath.Join(t.TempDir(), "none"))
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrDown) {
		t.Fatalf("got %v, want ErrDown", err)
	}
}

func TestCancelledCallIsNotADownDaemon(t *testing.T) {
	c := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the deadline", err)
	}
}

func TestStripe(t *testing.T) {
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.RawQuery; got != "ns=zdbfs-data&offset=4096&segment=3" {
			t.Errorf("query %q", got)
		}
		w.Header().Set(HeaderStripeOffset, "4000")
		w.Header().Set(HeaderSegmentLength, "9000")
		_, _ = w.Write([]byte("plain"))
	}))
	st, err := c.Stripe(t.Context(), NamespaceData, 3, 4096)
	if err != nil || st.Offset != 4000 || st.SegmentLength != 9000 || string(st.Data) != "plain" {
		t.Fatalf("got %+v, %v", st, err)
	}
}

func TestStreamEndsOnlyWithDone(t *testing.T) {
	done := true
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		enc := json.NewEncoder(w)
		_ = enc.Encode(Progress{Phase: "claim"})
		if done {
			_ = enc.Encode(Progress{Done: true})
		}
	}))
	n := 0
	if err := c.Recover(t.Context(), func(Progress) { n++ }); err != nil || n != 2 {
		t.Fatalf("got %v after %d lines", err, n)
	}
	done = false
	if err := c.Recover(t.Context(), nil); !errors.Is(err, ErrDown) {
		t.Fatalf("a stream cut short: got %v, want ErrDown", err)
	}
}

func TestNotes(t *testing.T) {
	dir := t.TempDir()
	if c, err := ReadCut(dir); c != nil || err != nil {
		t.Fatalf("no cut yet: got %v, %v", c, err)
	}
	if _, err := ReadOwner(dir); err == nil {
		t.Fatal("no owner yet: got none")
	}
	n := &CutNote{Meta: Head{Segment: 2, Offset: 10}, Data: Head{Segment: 7, Offset: 70}}
	if got := n.Lengths(NamespaceMeta)[2]; got != 10 {
		t.Errorf("meta length %d", got)
	}
	if got := n.Lengths(NamespaceData)[7]; got != 70 {
		t.Errorf("data length %d", got)
	}
}
