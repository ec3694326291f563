package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"qsfs/zdb/resp"
)

// A dialing is a connection that is being made; all calls that need one wait for the same.
type dialing struct {
	done chan struct{}
	conn *conn // after done
	err  error
}

// firstBackoff is short, so that a node that restarts is missed for a moment only.
const firstBackoff = 50 * time.Millisecond

// conn returns a connection for a call: an idle one, or the least busy one when there are enough or another cannot be
// made now.
func (c *Client) conn(ctx context.Context) (*conn, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	best, load := c.leastBusyLocked()
	if best != nil && (load == 0 || len(c.conns) >= c.o.Conns) {
		c.mu.Unlock()
		return best, nil
	}
	wait := time.Now().Before(c.retryAt)
	if !wait && c.dial == nil {
		c.startDialLocked()
	}
	d, lastErr := c.dial, c.lastErr
	c.mu.Unlock()

	switch {
	case best != nil:
		return best, nil // the new connection is for later calls
	case d == nil:
		return nil, lastErr
	}
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, &ConnError{Address: c.o.Address, Op: "connect", Err: context.Cause(ctx)}
	}
}

func (c *Client) leastBusyLocked() (best *conn, load int) {
	for _, cn := range c.conns {
		if n := cn.load(); best == nil || n < load {
			best, load = cn, n
		}
	}
	return best, load
}

func (c *Client) startDialLocked() {
	d := &dialing{done: make(chan struct{})}
	c.dial = d
	c.wg.Go(func() {
		defer close(d.done)
		cn, err := c.connect()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.dial = nil
		if err == nil && c.closed {
			cn.fail(ErrClosed)
			err = ErrClosed
		}
		if err != nil {
			d.err = err
			backoff := min(firstBackoff<<min(c.failures, 16), c.o.MaxBackoff)
			c.failures++
			c.retryAt, c.lastErr = time.Now().Add(backoff), err
			return
		}
		c.failures = 0
		d.conn = cn
		c.conns = append(c.conns, cn)
		cn.start(&c.wg, c.drop)
	})
}

// drop forgets a connection that broke.
func (c *Client) drop(cn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = slices.DeleteFunc(c.conns, func(x *conn) bool { return x == cn })
}

// Connect makes one connection, secure and greeted as o says, for who speaks RESP over it himself.
func Connect(ctx context.Context, o Options) (net.Conn, error) {
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, c.cancel)()
	cn, err := c.connect()
	if err != nil {
		return nil, err
	}
	return cn.nc, nil // nothing is in its decoder: every reply of the greeting has been read
}

// connect makes a connection and greets: admin password, namespace, or at least a PING, for a server may accept a
// connection only to say that it has too many.
func (c *Client) connect() (*conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.o.DialTimeout)
	defer cancel()
	nc, err := c.o.Dial(ctx, c.network, c.address)
	if err != nil {
		return nil, &ConnError{Address: c.o.Address, Op: "connect", Err: c.closedOr(err)}
	}
	if c.tls != nil {
		if nc, err = handshake(ctx, nc, c.tls); err != nil {
			return nil, &ConnError{Address: c.o.Address, Op: "TLS handshake", Err: c.closedOr(err)}
		}
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	cn := newConn(nc, c.o)
	for _, hello := range c.greeting() {
		reply, err := cn.exchange(hello)
		if err == nil && string(hello[0]) == nsinfo {
			err = checkDurable(reply)
		}
		if err != nil {
			stop()
			nc.Close()
			var se *ServerError
			if errors.As(err, &se) || errors.Is(err, ErrNotDurable) {
				return nil, fmt.Errorf("connect to %s: %s: %w", c.o.Address, hello[0], err)
			}
			return nil, &ConnError{Address: c.o.Address, Op: string(hello[0]), Err: c.closedOr(err)}
		}
	}
	if !stop() {
		nc.Close()
		return nil, &ConnError{Address: c.o.Address, Op: "connect", Err: c.closedOr(ctx.Err())}
	}
	return cn, nil
}

func (c *Client) closedOr(err error) error {
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

func (c *Client) greeting() (hello []Command) {
	if c.o.Admin != "" {
		hello = append(hello, Cmd("AUTH", []byte(c.o.Admin)))
	}
	switch {
	case c.o.Namespace != "" && c.o.Password != "":
		hello = append(hello, Cmd("SELECT", []byte(c.o.Namespace), []byte(c.o.Password)))
	case c.o.Namespace != "":
		hello = append(hello, Cmd("SELECT", []byte(c.o.Namespace)))
	default:
		hello = append(hello, Cmd("PING"))
	}
	if c.o.Durable {
		hello = append(hello, Cmd(nsinfo, []byte(cmp.Or(c.o.Namespace, "default"))))
	}
	return hello
}

const nsinfo = "NSINFO"

// checkDurable looks for the server's word that it syncs before it answers; the original server does not give it.
func checkDurable(v resp.Value) error {
	text, err := BulkResult(v)
	if err != nil {
		return err
	}
	if parseInfo(text)["sync"] != "always" {
		return ErrNotDurable
	}
	return nil
}

// exchange sends one command and reads its reply, before the goroutines of the connection run.
func (cn *conn) exchange(cmd Command) (resp.Value, error) {
	if _, err := cn.nc.Write(resp.AppendCommand(nil, cmd...)); err != nil {
		return resp.Value{}, err
	}
	v, err := cn.dec.Read()
	if err != nil {
		return v, err
	}
	return v, replyError(v)
}
