package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"qsfs/zdb/resp"
)

// A fake is a server in memory. Under testing/synctest its pipes take no real time.
type fake struct {
	handle func(args [][]byte) []byte // reply in wire form; nil is none

	mu    sync.Mutex
	down  bool
	dials int
	conns []net.Conn
	wg    sync.WaitGroup
}

var errDown = errors.New("fake server is down")

func (f *fake) dial(context.Context, string, string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials++
	if f.down {
		return nil, errDown
	}
	near, far := net.Pipe()
	f.conns = append(f.conns, far)
	f.wg.Go(func() { f.serve(far) })
	return near, nil
}

func (f *fake) serve(nc net.Conn) {
	defer nc.Close()
	rd := resp.NewReader(resp.Source{Reader: nc}, resp.Limits{})
	for {
		args, err := rd.ReadCommand()
		if err != nil {
			return
		}
		reply := f.handle(args)
		if _, err := nc.Write(reply); err != nil {
			return
		}
	}
}

// cut breaks all connections, and lets new ones fail or not.
func (f *fake) cut(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
	for _, nc := range f.conns {
		nc.Close()
	}
	f.conns = nil
}

func (f *fake) dialed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dials
}

// client returns a Client of f that is closed with the test.
func (f *fake) client(t *testing.T, o Options) *Client {
	t.Helper()
	o.Address, o.Dial = "tcp:fake:1", f.dial
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stop ends client and server, so that a bubble can end.
func (f *fake) stop(c *Client) {
	c.Close()
	f.cut(true)
	f.wg.Wait()
}

// echo answers PING with PONG and anything else with its last argument.
func echo(args [][]byte) []byte {
	if string(args[0]) == "PING" {
		return []byte("+PONG\r\n")
	}
	return resp.AppendBulk(nil, args[len(args)-1])
}
