package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qsfs/zdb"
	"qsfs/zdb/client"
	"qsfs/zdb/resp"
)

const adminPassword = "root"

// patience is how long a test waits for what must come, on a loaded machine under the race detector too.
const patience = time.Minute

// A testServer is a server on a real socket with directories that outlive it.
type testServer struct {
	*Server
	t       *testing.T
	address string
	o       Options
	served  chan error
}

// start starts a server with admin password and empty directories.
func start(t *testing.T, change func(*Options)) *testServer {
	t.Helper()
	dir := t.TempDir()
	o := Options{
		DataDir: filepath.Join(dir, "data"), IndexDir: filepath.Join(dir, "index"), Admin: adminPassword, Ballast: -1,
		SegmentSize: 4 << 20, Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
	if change != nil {
		change(&o)
	}
	ts := &testServer{t: t, o: o}
	ts.open()
	t.Cleanup(func() { ts.Close(); <-ts.served })
	return ts
}

func (ts *testServer) open() {
	ts.t.Helper()
	srv, err := Open(context.Background(), ts.o)
	// A hook's process of the test beside, which has yet to become the hook, has everything that was open, and the locks.
	for i := 0; errors.Is(err, zdb.ErrLocked) && i < 200; i++ {
		time.Sleep(50 * time.Millisecond)
		srv, err = Open(context.Background(), ts.o)
	}
	if err != nil {
		ts.t.Fatalf("open server: %v", err)
	}
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		ts.t.Fatal(err)
	}
	ts.Server, ts.address, ts.served = srv, l.Addr().String(), make(chan error, 1)
	served := ts.served
	go func() { served <- srv.Serve(l) }()
}

// reopen stops the server as a signal does and starts it anew on the same directories.
func (ts *testServer) reopen() {
	ts.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := ts.Shutdown(ctx); err != nil {
		ts.t.Fatalf("shutdown: %v", err)
	}
	<-ts.served
	close(ts.served) // nobody waits for it when the next one does not open
	ts.open()
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if testing.Verbose() {
		fmt.Print(string(p))
	}
	return len(p), nil
}

// A wire is a raw connection.
type wire struct {
	t  *testing.T
	nc net.Conn
	in *resp.Decoder
}

func (ts *testServer) dial() *wire {
	ts.t.Helper()
	nc, err := net.Dial("tcp", ts.address)
	if err != nil {
		ts.t.Fatal(err)
	}
	ts.t.Cleanup(func() { nc.Close() })
	return &wire{ts.t, nc, resp.NewDecoder(nc, resp.ReplyLimits{})}
}

// admin returns a connection with admin rights.
func (ts *testServer) adminWire() *wire {
	ts.t.Helper()
	w := ts.dial()
	w.want("+OK", "AUTH", adminPassword)
	return w
}

// client returns a Client of a namespace.
func (ts *testServer) client(namespace, password string) *client.Client {
	ts.t.Helper()
	c, err := client.Dial(ts.t.Context(), client.Options{Address: ts.address, Namespace: namespace, Password: client.Secret(password)})
	if err != nil {
		ts.t.Fatal(err)
	}
	ts.t.Cleanup(func() { c.Close() })
	return c
}

func request(args ...string) []byte {
	raw := make([][]byte, len(args))
	for i, a := range args {
		raw[i] = []byte(a)
	}
	return resp.AppendCommand(nil, raw...)
}

func (w *wire) send(args ...string) {
	w.t.Helper()
	w.raw(request(args...))
}

func (w *wire) raw(b []byte) {
	w.t.Helper()
	w.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := w.nc.Write(b); err != nil {
		w.t.Fatalf("send: %v", err)
	}
}

// reply reads one reply and returns it in a form that is easy to compare; see show.
func (w *wire) reply() string {
	w.t.Helper()
	w.nc.SetReadDeadline(time.Now().Add(patience))
	v, err := w.in.Read()
	if err != nil {
		return "broken: " + err.Error()
	}
	return show(v)
}

func (w *wire) do(args ...string) string {
	w.t.Helper()
	w.send(args...)
	return w.reply()
}

// want sends a command and compares the reply.
func (w *wire) want(want string, args ...string) {
	w.t.Helper()
	if got := w.do(args...); got != want {
		w.t.Errorf("%.60q: got %.200s, want %.200s", args, got, want)
	}
}

// closed checks that the server has closed the connection.
func (w *wire) closed() {
	w.t.Helper()
	w.nc.SetReadDeadline(time.Now().Add(patience))
	if v, err := w.in.Read(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Errorf("connection is still open: %s, %v", show(v), err)
	}
}

// show writes a reply as +simple -error :1 "bulk" nil [array].
func show(v resp.Value) string {
	switch v.Kind {
	case resp.Simple, resp.Error:
		return string(v.Kind) + string(v.Data)
	case resp.Integer:
		return fmt.Sprintf(":%d", v.Int)
	case resp.Bulk:
		return fmt.Sprintf("%q", v.Data)
	case resp.Array:
		var parts []string
		for _, e := range v.Array {
			parts = append(parts, show(e))
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	return v.Kind.String()
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}
