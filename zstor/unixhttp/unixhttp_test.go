package unixhttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var errRefused = errors.New("refused")

// serve answers on a socket with h; it gives a client whose refusals begin with "no".
func serve(t *testing.T, h http.HandlerFunc) (*Client, func()) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	stop := func() { _ = s.Close(); <-ended }
	t.Cleanup(stop)
	c := New(socket, "daemon", 2, func(status int, body []byte) error {
		if status == http.StatusConflict && strings.HasPrefix(string(body), "no") {
			return errRefused
		}
		return nil
	})
	t.Cleanup(c.Close)
	return c, stop
}

func TestCall(t *testing.T) {
	c, stop := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			if r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("content type %q", r.Header.Get("Content-Type"))
			}
			_, _ = io.Copy(w, r.Body)
		case "/refused":
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, "no")
		case "/broken":
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, "???")
		case "/text":
			_, _ = io.WriteString(w, "text")
		case "/gone":
			panic(http.ErrAbortHandler)
		}
	})
	ctx := t.Context()
	in, out := map[string]int{"a": 1}, map[string]int{}
	if err := c.Call(ctx, http.MethodPost, "/echo", in, &out); err != nil || out["a"] != 1 {
		t.Errorf("echo: %v, %v", out, err)
	}
	if err := c.Call(ctx, http.MethodPost, "/refused", nil, &out); err != errRefused {
		t.Errorf("refused: %v", err)
	}
	if err := c.Call(ctx, http.MethodPost, "/broken", nil, &out); err == nil || err.Error() != "daemon answered 409 Conflict" {
		t.Errorf("an answer that nobody wrote: %v", err)
	}
	if err := c.Call(ctx, http.MethodGet, "/text", nil, &out); err == nil || !strings.HasPrefix(err.Error(), "read answer of /text: ") {
		t.Errorf("no JSON: %v", err)
	}
	if err := c.Call(ctx, http.MethodPost, "/echo", func() {}, &out); err == nil || !strings.HasPrefix(err.Error(), "encode /echo: ") {
		t.Errorf("cannot be encoded: %v", err)
	}
	var te *TransportError
	if err := c.Call(ctx, http.MethodPost, "/gone", nil, &out); !errors.As(err, &te) || te.Dial {
		t.Errorf("a daemon that goes away: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Call(ended, http.MethodGet, "/text", nil, &out); err != context.Canceled {
		t.Errorf("a caller that gave up: %v", err)
	}
	stop()
	if err := c.Call(ctx, http.MethodGet, "/text", nil, &out); !errors.As(err, &te) || !te.Dial || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("nobody there: %v", err)
	}
}
