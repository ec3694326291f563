package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"qsfs/zdb/resp"
)

func TestCallsShareAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{handle: echo}
		c := f.client(t, Options{Conns: 1})
		defer f.stop(c)
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				want := bytes.Repeat([]byte{byte(i)}, i*100)
				results, err := c.Pipeline(t.Context(), Cmd("GET", want), Cmd("GET", []byte("second")))
				if err != nil {
					t.Errorf("call %d: %v", i, err)
					return
				}
				if !bytes.Equal(results[0].Value.Data, want) || string(results[1].Value.Data) != "second" {
					t.Errorf("call %d got somebody else's reply", i)
				}
			})
		}
		wg.Wait()
		if n := f.dialed(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

func TestPoolGrowsWhenBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{}
		f.handle = func(args [][]byte) []byte {
			if string(args[0]) == "SLOW" {
				<-release
			}
			return echo(args)
		}
		c := f.client(t, Options{Conns: 2})
		defer f.stop(c)
		if err := c.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { c.Do(t.Context(), "SLOW") })
		synctest.Wait()
		go c.Ping(t.Context()) // waits behind the slow one, and has a second connection made
		synctest.Wait()
		if err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if n := f.dialed(); n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
		close(release)
		wg.Wait()
	})
}

func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{handle: echo}
		c := f.client(t, Options{Conns: 1})
		defer f.stop(c)
		for i := range 5 {
			if err := c.Ping(t.Context()); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
			f.cut(false)
			synctest.Wait()
		}
		f.cut(true)
		synctest.Wait()
		before := f.dialed()
		for range 100 {
			err := c.Ping(t.Context())
			if !errors.Is(err, errDown) || !Temporary(err) {
				t.Fatalf("server down: got %v", err)
			}
		}
		if n := f.dialed() - before; n != 1 {
			t.Errorf("100 calls to a server that is down dialed %d times, want 1", n)
		}
		time.Sleep(firstBackoff)
		if err := c.Ping(t.Context()); !errors.Is(err, errDown) {
			t.Fatal(err)
		}
		if n := f.dialed() - before; n != 2 {
			t.Errorf("after the backoff: %d dials, want 2", n)
		}
		f.cut(false)
		time.Sleep(2 * time.Second)
		if err := c.Ping(t.Context()); err != nil {
			t.Errorf("server is back: %v", err)
		}
	})
}

// A connection that breaks in the middle of a call fails the call: it may have been executed.
func TestBrokenCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.handle = func(args [][]byte) []byte {
			if string(args[0]) == "SET" {
				go f.cut(false)
				return nil
			}
			return echo(args)
		}
		c := f.client(t, Options{Conns: 1})
		defer f.stop(c)
		_, err := c.Set(t.Context(), []byte("k"), []byte("v"))
		var ce *ConnError
		if !errors.As(err, &ce) || !Temporary(err) {
			t.Fatalf("got %v, want a temporary *ConnError", err)
		}
		if err := c.Ping(t.Context()); err != nil {
			t.Errorf("the next call: %v", err)
		}
	})
}

func TestTimeoutGivesUpSilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var talks atomic.Bool
		f := &fake{}
		f.handle = func(args [][]byte) []byte {
			if !talks.Load() && string(args[0]) == "GET" {
				return nil
			}
			return echo(args)
		}
		c := f.client(t, Options{Conns: 1, Timeout: 10 * time.Second})
		defer f.stop(c)
		begin := time.Now()
		_, err := c.Get(t.Context(), []byte("k"))
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) || !Temporary(err) {
			t.Errorf("got %v, want a timeout", err)
		}
		if d := time.Since(begin); d != 10*time.Second {
			t.Errorf("timed out after %v, want 10s", d)
		}
		talks.Store(true)
		if v, err := c.Get(t.Context(), []byte("k")); err != nil || string(v) != "k" {
			t.Errorf("after the timeout: %q, %v", v, err)
		}
		if n := f.dialed(); n != 2 {
			t.Errorf("%d dials, want 2: the silent connection should have been replaced", n)
		}
	})
}

func TestCancelledCallCostsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{}
		f.handle = func(args [][]byte) []byte {
			if string(args[0]) == "GET" {
				<-release
			}
			return echo(args)
		}
		c := f.client(t, Options{Conns: 1})
		defer f.stop(c)
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		second := make(chan error, 1)
		go func() {
			_, err := c.Get(ctx, []byte("a"))
			first <- err
		}()
		synctest.Wait()
		go func() {
			v, err := c.Get(t.Context(), []byte("b"))
			if string(v) != "b" {
				err = fmt.Errorf("got %q, %w", v, err)
			}
			second <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) || Temporary(err) {
			t.Errorf("cancelled call: %v", err)
		}
		close(release)
		if err := <-second; err != nil {
			t.Errorf("the other call: %v", err)
		}
		if n := f.dialed(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

func TestInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{}
		f.handle = func(args [][]byte) []byte {
			if string(args[0]) == "GET" {
				<-release
			}
			return echo(args)
		}
		c := f.client(t, Options{Conns: 1, MaxInFlight: 4, MaxBuffered: 1000})
		defer f.stop(c)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				big := make([]byte, 900)
				if v, err := c.Get(t.Context(), big); err != nil || len(v) != len(big) {
					t.Errorf("got %d bytes, %v", len(v), err)
				}
			})
		}
		synctest.Wait()
		c.mu.Lock()
		cn := c.conns[0]
		c.mu.Unlock()
		cn.mu.Lock()
		if len(cn.calls) > 4 || len(cn.out) > 2000 {
			t.Errorf("%d calls in flight, %d bytes buffered", len(cn.calls), len(cn.out))
		}
		cn.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Get(ctx, []byte("k")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no turn in time: got %v", err)
		}
		close(release)
		wg.Wait()
	})
}

func TestCloseEndsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{handle: func(args [][]byte) []byte {
			if string(args[0]) == "PING" {
				return []byte("+PONG\r\n")
			}
			return nil
		}}
		c := f.client(t, Options{})
		got := make(chan error, 1)
		go func() {
			_, err := c.Get(t.Context(), []byte("k"))
			got <- err
		}()
		synctest.Wait()
		f.stop(c)
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Errorf("waiting call: %v, want %v", err, ErrClosed)
		}
		if err := c.Ping(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("call after Close: %v, want %v", err, ErrClosed)
		}
		if err := c.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

// What a bad server sends breaks the connection, not the client.
func TestBadReplies(t *testing.T) {
	for _, reply := range []string{"?\r\n", "$99999999999\r\n", ":x\r\n", "$1\r\nab\r\n", "*1\r\n", "$5\r\nab"} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{handle: func(args [][]byte) []byte {
				if string(args[0]) == "GET" {
					return []byte(reply)
				}
				return echo(args)
			}}
			c := f.client(t, Options{Conns: 1, Timeout: time.Second})
			defer f.stop(c)
			_, err := c.Get(t.Context(), []byte("k"))
			var ce *ConnError
			if !errors.As(err, &ce) {
				t.Errorf("%q: got %v, want a *ConnError", reply, err)
			}
			if err := c.Ping(t.Context()); err != nil {
				t.Errorf("%q: next call: %v", reply, err)
			}
		})
	}
}

func TestUnaskedReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{handle: func(args [][]byte) []byte { return []byte("+PONG\r\n+PONG\r\n") }}
		c := f.client(t, Options{Conns: 1})
		defer f.stop(c)
		for range 3 {
			c.Ping(t.Context())
			synctest.Wait()
		}
		if n := f.dialed(); n < 2 {
			t.Errorf("%d dials: a connection with an unasked reply was kept", n)
		}
	})
}

// Shapes that a command does not answer are errors, never a wrong value.
func TestUnexpectedShapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reply []byte
		f := &fake{handle: func(args [][]byte) []byte {
			if string(args[0]) == "PING" {
				return []byte("+PONG\r\n")
			}
			return reply
		}}
		c := f.client(t, Options{Conns: 1})
		defer f.stop(c)
		ctx, k := t.Context(), []byte("k")
		calls := map[string]func() error{
			"GET":         func() error { _, err := c.Get(ctx, k); return err },
			"SET":         func() error { _, err := c.Set(ctx, k, k); return err },
			"MGET":        func() error { _, err := c.MGet(ctx, k, k); return err },
			"EXISTS":      func() error { _, err := c.Exists(ctx, k); return err },
			"CHECK":       func() error { return c.Check(ctx, k) },
			"CAS":         func() error { _, _, err := c.CAS(ctx, k, k, nil); return err },
			"PSCAN":       func() error { _, _, err := c.PScan(ctx, k, nil, 0); return err },
			"INCARNATION": func() error { _, err := c.Incarnation(ctx); return err },
			"DBSIZE":      func() error { _, err := c.DBSize(ctx); return err },
			"TIME":        func() error { _, err := c.Time(ctx); return err },
			"SCAN":        func() error { _, _, err := c.Scan(ctx, nil); return err },
			"HISTORY":     func() error { _, err := c.History(ctx, k, nil); return err },
			"KEYCUR":      func() error { _, err := c.KeyCursor(ctx, k); return err },
			"SET (id)":    func() error { _, err := c.Add(ctx, k); return err },
			"INFO":        func() error { _, err := c.Info(ctx); return err },
			"NSLIST":      func() error { _, err := c.NSList(ctx); return err },
		}
		for _, v := range []string{"+what\r\n", "*1\r\n$1\r\nx\r\n", "*2\r\n$1\r\nx\r\n$1\r\ny\r\n", "*2\r\n$-1\r\n*1\r\n:1\r\n", ":7\r\n", "$2\r\nzz\r\n"} {
			reply = []byte(v)
			for name, call := range calls {
				err := call()
				var pe *resp.ProtocolError
				if fits[name+" "+v] {
					if err != nil {
						t.Errorf("%s answered %q: %v", name, v, err)
					}
					continue
				}
				if !errors.As(err, &pe) && !errors.Is(err, ErrReadFailed) {
					t.Errorf("%s answered %q: got %v", name, v, err)
				}
			}
		}
		reply = []byte("-Cannot write data right now\r\n")
		for name, call := range calls {
			if err := call(); !errors.Is(err, ErrWriteFailed) || !Temporary(err) {
				t.Errorf("%s answered an error: got %v", name, err)
			}
		}
	})
}

// fits are the shapes of TestUnexpectedShapes that are right after all.
var fits = map[string]bool{
	"KEYCUR $2\r\nzz\r\n": true,
	"GET $2\r\nzz\r\n":    true, "SET $2\r\nzz\r\n": true, "CAS $2\r\nzz\r\n": true, "INFO $2\r\nzz\r\n": true, "EXISTS :7\r\n": true, "DBSIZE :7\r\n": true,
	"MGET *2\r\n$-1\r\n*1\r\n:1\r\n": true, // its elements have errors of their own
	"NSLIST *1\r\n$1\r\nx\r\n":       true, "NSLIST *2\r\n$1\r\nx\r\n$1\r\ny\r\n": true, "MGET *2\r\n$1\r\nx\r\n$1\r\ny\r\n": true, "NSLIST *2\r\n$-1\r\n*1\r\n:1\r\n": true,
}

func TestGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard []string
		f := &fake{handle: func(args [][]byte) []byte {
			heard = append(heard, string(bytes.Join(args, []byte(" "))))
			if string(args[0]) == "SELECT" && string(args[2]) == "wrong" {
				return []byte("-Access denied\r\n")
			}
			return []byte("+OK\r\n")
		}}
		c := f.client(t, Options{Namespace: "ns", Password: "wrong"})
		err := c.Ping(t.Context())
		if !errors.Is(err, ErrDenied) || Temporary(err) || !strings.Contains(err.Error(), "fake:1") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("wrong password: %v", err)
		}
		f.stop(c)
		f.down, heard = false, nil
		c = f.client(t, Options{Namespace: "ns", Password: "right", Admin: "root"})
		defer f.stop(c)
		if err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if got, want := strings.Join(heard, ", "), "AUTH root, SELECT ns right, PING"; got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	})
}

// TestDurable: a server that does not say that it syncs is refused on each connection, until it is another one.
func TestDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sync := ""
		f := &fake{handle: func(args [][]byte) []byte {
			if string(args[0]) != "NSINFO" {
				return []byte("+OK\r\n")
			}
			if string(args[1]) != "ns" {
				return []byte("-Namespace not found\r\n")
			}
			text := "# namespace\nname: ns\n" + sync
			return fmt.Appendf(nil, "$%d\r\n%s\r\n", len(text), text)
		}}
		c := f.client(t, Options{Namespace: "ns", Durable: true})
		defer f.stop(c)
		for _, says := range []struct {
			line string
			ok   bool
		}{{"", false}, {"sync: none\n", false}, {"sync: always\n", true}, {"sync: none\n", false}} {
			f.cut(false)
			synctest.Wait()
			time.Sleep(time.Minute) // past any pause between dials
			sync = says.line
			err := c.Ping(t.Context())
			if says.ok && err != nil || !says.ok && (!errors.Is(err, ErrNotDurable) || Temporary(err)) {
				t.Errorf("%q: %v", says.line, err)
			}
		}
	})
}

// A server that accepts and says nothing, as a stopped process does, costs the dial timeout.
func TestSilentGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{handle: func([][]byte) []byte { return nil }}
		c := f.client(t, Options{DialTimeout: 3 * time.Second})
		defer f.stop(c)
		begin := time.Now()
		if err := c.Ping(t.Context()); !Temporary(err) || time.Since(begin) != 3*time.Second {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
	})
}

func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	if _, err := Dial(t.Context(), Options{Address: address}); !Temporary(err) {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := Dial(t.Context(), Options{Address: "no port"}); err == nil || Temporary(err) {
		t.Errorf("bad address: %v", err)
	}
	if _, err := New(Options{Address: "unix:"}); err == nil {
		t.Error("a unix socket without path was accepted")
	}
}

func TestSecretDoesNotShow(t *testing.T) {
	o := Options{Password: "hunter2", Admin: "hunter2"}
	raw, err := json.Marshal(struct{ P Secret }{o.Password})
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%v %+v %#v %s %s", o, o, o, raw, o.Password.LogValue())
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "[secret]") {
		t.Errorf("secrets show: %s", text)
	}
}

func TestTemporary(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{ErrNotFound, false},
		{&ServerError{"Access denied"}, false},
		{&ServerError{"Key too large"}, false},
		{&ServerError{"Namespace not found"}, false},
		{&ServerError{"Cannot write data right now"}, true},
		{&ServerError{"Namespace is temporarily frozen (read-write disabled)"}, true},
		{fmt.Errorf("step: %w", &ServerError{"Too many connections"}), true},
		{&ConnError{Err: io.EOF}, true},
		{&ConnError{Err: context.DeadlineExceeded}, true},
		{&ConnError{Err: context.Canceled}, false},
	} {
		if got := Temporary(tc.err); got != tc.want {
			t.Errorf("Temporary(%v) = %v, want %v", tc.err, got, tc.want)
		}
	}
	if !errors.Is(&ServerError{"Key not found"}, ErrNotFound) {
		t.Error("DEL of a missing key is not ErrNotFound")
	}
}
