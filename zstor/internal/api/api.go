// Package api serves the daemon's HTTP interface on its unix socket.
//
// The wire types are those of zstor/client. The handlers hold no state and decide nothing: they
// decode, call the Service, and encode; every error becomes its word and status by client.StatusOf.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"

	"qsfs/zstor/client"
)

// maxBody bounds a request: a session history of a filesystem that was mounted for years fits.
const maxBody = 8 << 20

// Service is what the daemon does.
type Service interface {
	Attach(ctx context.Context, r client.AttachRequest) (client.AttachReply, error)
	Heads(ctx context.Context, r client.HeadsRequest) (client.HeadsReply, error)
	Stripe(ctx context.Context, ns string, segment uint32, off int64) (client.Stripe, func(), error)
	Evict(ctx context.Context, r client.EvictRequest) (client.EvictReply, error)
	Status(ctx context.Context) (*client.Status, error)
	Format(ctx context.Context) (client.Owner, error)
	Takeover(ctx context.Context) (client.TakeoverReply, error)
	Recover(ctx context.Context, progress func(client.Progress)) error
	Flush(ctx context.Context, progress func(client.Progress)) error
	StoreFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error
	RetrieveFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error
	CheckFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error
	RebuildFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error
	Files(ctx context.Context) ([]client.FileInfo, error)
}

// Server answers on one listener. Use Serve.
type Server struct {
	http *http.Server
	wg   sync.WaitGroup
	err  error
}

// Serve starts answering on l and returns at once. Close stops it.
func Serve(l net.Listener, s Service, log *slog.Logger) *Server {
	srv := &Server{http: &http.Server{Handler: Handler(s, log)}}
	srv.wg.Go(func() {
		if err := srv.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			srv.err = err
			log.Error("control socket failed", "error", err)
		}
	})
	return srv
}

// Close stops taking calls, waits for those in flight as long as ctx allows, then cancels them.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	s.wg.Wait()
	return errors.Join(err, s.err)
}

// Handler gives the routes.
func Handler(s Service, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/attach", call(log, s.Attach))
	mux.HandleFunc("POST /v1/heads", call(log, s.Heads))
	mux.HandleFunc("POST /v1/evict", call(log, s.Evict))
	mux.HandleFunc("GET /v1/status", get(log, s.Status))
	mux.HandleFunc("POST /v1/format", get(log, s.Format))
	mux.HandleFunc("POST /v1/takeover", get(log, s.Takeover))
	mux.HandleFunc("GET /v1/files", get(log, s.Files))
	mux.HandleFunc("POST /v1/recover", stream(log, s.Recover))
	mux.HandleFunc("POST /v1/flush", stream(log, s.Flush))
	mux.HandleFunc("POST /v1/store", file(log, s.StoreFile))
	mux.HandleFunc("POST /v1/retrieve", file(log, s.RetrieveFile))
	mux.HandleFunc("POST /v1/check", file(log, s.CheckFile))
	mux.HandleFunc("POST /v1/rebuild", file(log, s.RebuildFile))
	mux.HandleFunc("GET /v1/stripe", stripe(log, s))
	return mux
}

func decode(r *http.Request, into any) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return fmt.Errorf("%w: read body: %w", client.ErrBadRequest, err)
	}
	if len(b) > maxBody {
		return fmt.Errorf("%w: body above %d bytes", client.ErrBadRequest, maxBody)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w: %w", client.ErrBadRequest, err)
	}
	return nil
}

func call[In, Out any](log *slog.Logger, f func(context.Context, In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := decode(r, &in); err != nil {
			fail(w, r, log, err)
			return
		}
		out, err := f(r.Context(), in)
		answer(w, r, log, out, err)
	}
}

func get[Out any](log *slog.Logger, f func(context.Context) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := f(r.Context())
		answer(w, r, log, out, err)
	}
}

func answer(w http.ResponseWriter, r *http.Request, log *slog.Logger, out any, err error) {
	if err != nil {
		fail(w, r, log, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		log.Debug("client went away", "path", r.URL.Path, "error", err)
	}
}

func errorBody(err error) (int, client.ErrorBody) {
	status, code := client.StatusOf(err)
	body := client.ErrorBody{Code: code, Error: err.Error(), Temporary: Temporary(err)}
	var stripe *client.StripeError
	if errors.As(err, &stripe) {
		body.Stripe = &stripe.Span
	}
	return status, body
}

// Temporary reports whether asking again later can help.
func Temporary(err error) bool {
	return errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrBusy) || errors.Is(err, client.ErrNotAttached) ||
		errors.Is(err, context.DeadlineExceeded)
}

func fail(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	status, body := errorBody(err)
	log.Debug("call failed", "path", r.URL.Path, "status", status, "error", err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone: nobody to tell
}

// stripe answers raw bytes; the plaintext's memory is returned to the budget when they are out.
func stripe(log *slog.Logger, s Service) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		seg, err := strconv.ParseUint(q.Get("segment"), 10, 32)
		if err != nil {
			fail(w, r, log, fmt.Errorf("%w: segment %q", client.ErrBadRequest, q.Get("segment")))
			return
		}
		off, err := strconv.ParseInt(q.Get("offset"), 10, 64)
		if err != nil || off < 0 {
			fail(w, r, log, fmt.Errorf("%w: offset %q", client.ErrBadRequest, q.Get("offset")))
			return
		}
		st, release, err := s.Stripe(r.Context(), q.Get("ns"), uint32(seg), off)
		if err != nil {
			fail(w, r, log, err)
			return
		}
		defer release()
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Length", strconv.Itoa(len(st.Data)))
		h.Set(client.HeaderStripeOffset, strconv.FormatInt(st.Offset, 10))
		h.Set(client.HeaderSegmentLength, strconv.FormatInt(st.SegmentLength, 10))
		if _, err := w.Write(st.Data); err != nil {
			log.Debug("client went away", "path", r.URL.Path, "error", err)
		}
	}
}

func stream(log *slog.Logger, f func(context.Context, func(client.Progress)) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { streamTo(w, r, log, f) }
}

func file(log *slog.Logger, f func(context.Context, client.FileRequest, func(client.Progress)) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in client.FileRequest
		if err := decode(r, &in); err != nil {
			fail(w, r, log, err)
			return
		}
		streamTo(w, r, log, func(ctx context.Context, p func(client.Progress)) error { return f(ctx, in, p) })
	}
}

// streamTo sends progress lines. An error before the first line is an ordinary error answer.
func streamTo(w http.ResponseWriter, r *http.Request, log *slog.Logger, f func(context.Context, func(client.Progress)) error) {
	var mu sync.Mutex
	started := false
	enc := json.NewEncoder(w)
	line := func(p client.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if !started {
			started = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		if err := enc.Encode(p); err != nil {
			log.Debug("client went away", "path", r.URL.Path, "error", err)
			return
		}
		_ = http.NewResponseController(w).Flush() // a gone client is noticed by the next line
	}
	err := f(r.Context(), line)
	switch {
	case err == nil:
		line(client.Progress{Phase: "done", Done: true})
	case !started:
		fail(w, r, log, err)
	default:
		_, body := errorBody(err)
		line(client.Progress{Phase: "failed", Done: true, Code: body.Code, Error: body.Error})
	}
}
