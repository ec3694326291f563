package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdbfs/internal/exit"
)

// Service is what the daemon does for its commands.
type Service interface {
	Status(ctx context.Context) *Status
	Evict(ctx context.Context, r EvictRequest) (EvictReply, error)
	Sync(ctx context.Context, r SyncRequest) (SyncReply, error)
	Check(ctx context.Context) (CheckReply, error)
	// Stop begins the orderly end of the daemon and returns at once.
	Stop()
}

// maxBody bounds a request.
const maxBody = 1 << 20

// errorBody is the answer of a call that failed.
type errorBody struct {
	Error string    `json:"error"`
	Code  exit.Code `json:"code"`
}

// Server answers on the socket.
type Server struct {
	http  *http.Server
	wg    sync.WaitGroup
	calls sync.WaitGroup
}

// Listen makes the socket, in place of one that a dead process has left behind.
func Listen(path string, s Service, log *slog.Logger) (*Server, error) {
	if err := Free(path); err != nil {
		return nil, err
	}
	// A socket takes its mode from the descriptor that is bound, so there is no moment at which
	// others could connect, and the process's umask is left alone.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	srv := &Server{}
	h := handler(s)
	srv.http = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srv.calls.Add(1)
		defer srv.calls.Done()
		h.ServeHTTP(w, r)
	})}
	srv.wg.Go(func() {
		if err := srv.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the control socket failed, zdbfs status will not answer", "err", err)
		}
	})
	return srv, nil
}

// Free makes sure that the path of a socket can be used: one that nobody answers on is removed.
func Free(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at control socket: %w", err)
	}
	if fi.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("control socket: %s is there and is no socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return exit.Errorf(exit.InUse, "another zdbfs answers on %s; stop it first (zdbfs umount), or give each its own socket directory", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove old control socket: %w", err)
	}
	return nil
}

// Close stops answering. Calls in flight have until ctx ends, are cancelled then, and waited for.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	s.wg.Wait()
	s.calls.Wait()
	return err
}

func handler(s Service) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) { answer(w, s.Status(r.Context()), nil) })
	mux.HandleFunc("POST /v1/evict", call(s.Evict))
	mux.HandleFunc("POST /v1/sync", call(s.Sync))
	mux.HandleFunc("POST /v1/check", func(w http.ResponseWriter, r *http.Request) {
		rep, err := s.Check(r.Context())
		answer(w, rep, err)
	})
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, _ *http.Request) {
		s.Stop()
		answer(w, struct{}{}, nil)
	})
	return mux
}

func call[In, Out any](f func(context.Context, In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&in); err != nil {
			answer(w, nil, exit.Errorf(exit.Usage, "the request is not understood: %w", err))
			return
		}
		out, err := f(r.Context(), in)
		answer(w, out, err)
	}
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		v = errorBody{Error: err.Error(), Code: exit.Of(err)}
	}
	// A caller that is gone has nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}
