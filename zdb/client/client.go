// Package client talks to zdb servers: pooled, pipelined and aware of contexts.
//
// A Client stands for one namespace of one server, seen with one password. Its methods may be called by any number of
// goroutines; calls share a few connections, and requests that are made at the same time travel together. Connections
// are made when they are needed and made again after they broke; a Client needs no care when a server goes away and
// comes back.
//
// A call ends with its context, at the latest after Options.Timeout, whatever the server does. Nothing is sent twice
// behind the caller's back: a call whose connection broke fails with a *ConnError, and may or may not have happened.
// All commands but Del and CAS can simply be repeated.
//
// Errors come in three classes: ErrNotFound, what the server answered (*ServerError), and what the way to it did
// (*ConnError). Temporary tells whether trying again may help.
package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"qsfs/zdb/resp"
)

// A Secret is a password that does not show in logs, errors and dumps.
type Secret string

// String hides the secret.
func (Secret) String() string { return "[secret]" }

// GoString hides the secret.
func (Secret) GoString() string { return "[secret]" }

// LogValue hides the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText hides the secret.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Options says which namespace of which server, and how to talk to it. Only Address is needed.
type Options struct {
	// Address is "host:port", "unix:/path/of/socket" or "tls:host:port". The last may be followed by ? and, joined by &:
	// sha256=FINGERPRINT (a pin), ca=FILE, name=SERVERNAME, cert=FILE and key=FILE; see TLS.
	Address   string
	Namespace string // default: the server's "default"
	Password  Secret // of the namespace
	Admin     Secret // the server's admin password; the connections get admin rights
	// TLS, when it is not nil, makes the connections secure and takes the place of what Address says of TLS.
	TLS *TLS

	// Conns is the most connections. Default 2: a large value in flight on one does not hold up small requests on the other.
	Conns int
	// Timeout bounds a call whose context has no earlier deadline, and says when a silent connection is given up. Default 30 s.
	Timeout time.Duration
	// DialTimeout bounds making a connection, greeting included. Default 5 s.
	DialTimeout time.Duration
	// MaxBackoff is the longest time for which calls fail at once after connecting failed. It begins at 50 ms. Default 2 s.
	MaxBackoff time.Duration
	// MaxInFlight is the most calls that wait for replies on one connection; more calls wait for their turn. Default 1024.
	MaxInFlight int
	// MaxBuffered is how many bytes of requests may wait to be written on one connection. Default 4 MiB.
	MaxBuffered int
	// Durable refuses, with ErrNotDurable, a server that does not say that its acknowledgements are durable. It is asked on
	// each new connection: a server that changes its mind was started again.
	Durable bool
	// Limits bounds what a reply may cost.
	Limits resp.ReplyLimits
	// Dial makes connections. Default: net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (o Options) withDefaults() Options {
	if o.Conns <= 0 {
		o.Conns = 2
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 5 * time.Second
	}
	if o.MaxBackoff <= 0 {
		o.MaxBackoff = 2 * time.Second
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = 1024
	}
	if o.MaxBuffered <= 0 {
		o.MaxBuffered = 4 << 20
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	return o
}

// ParseAddress splits an address of Options.Address into what net.Dial takes.
func ParseAddress(s string) (network, address string, err error) {
	e, err := parseEndpoint(s)
	return e.network, e.address, err
}

// A Client is a namespace of a server.
type Client struct {
	o                Options
	network, address string
	tls              *tls.Config     // nil: plain connections
	ctx              context.Context // of dials; ends with Close
	cancel           context.CancelFunc
	wg               sync.WaitGroup // goroutines of connections and dials

	mu       sync.Mutex
	conns    []*conn // alive, at most o.Conns
	dial     *dialing
	closed   bool
	failures int       // dials that failed in a row
	retryAt  time.Time // before it, calls that need a dial fail with lastErr
	lastErr  error
}

// New returns a Client without connecting yet.
func New(o Options) (*Client, error) {
	e, err := parseEndpoint(o.Address)
	if err != nil {
		return nil, err
	}
	c := &Client{o: o.withDefaults(), network: e.network, address: e.address}
	if o.TLS != nil {
		e.tls = o.TLS
	}
	if e.tls != nil {
		host, _, _ := net.SplitHostPort(e.address) // a socket file has no host; TLS.ServerName or a pin is needed then
		if c.tls, err = e.tls.config(host); err != nil {
			return nil, fmt.Errorf("address %q: %w", o.Address, err)
		}
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Dial returns a Client with a connection made and greeted, or the reason why there is none.
func Dial(ctx context.Context, o Options) (*Client, error) {
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	if _, err := c.conn(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Address returns the address that the Client was made with.
func (c *Client) Address() string { return c.o.Address }

// Namespace returns the namespace that the Client was made with.
func (c *Client) Namespace() string { return c.o.Namespace }

// Close closes the connections; calls that wait fail with ErrClosed. It waits for all goroutines of the Client.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	c.cancel()
	for _, cn := range conns {
		cn.fail(ErrClosed)
	}
	c.wg.Wait()
	return nil
}
