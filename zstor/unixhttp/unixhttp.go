// Package unixhttp sends HTTP requests with JSON bodies to a daemon's unix socket.
//
// It is the frame that the clients of both daemons share. What the answers mean, the refusals among them, is theirs.
package unixhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	maxJSON    = 16 << 20 // of an answer
	maxRefusal = 1 << 20
	dialTime   = 5 * time.Second
	idleTime   = 30 * time.Second
)

// A Client sends requests to one daemon. It is safe for concurrent use.
type Client struct {
	socket, daemon string
	refused        func(status int, body []byte) error
	http           *http.Client
}

// New gives a client for the daemon of that name on the socket; it dials when it is used, and again after the daemon
// was restarted. It keeps up to idle connections open; with 0 each request has its own. refused makes the error of an
// answer that is none of 2xx; nil from it stands for one that the daemon did not write.
func New(socket, daemon string, idle int, refused func(status int, body []byte) error) *Client {
	dialer := &net.Dialer{Timeout: dialTime}
	return &Client{socket: socket, daemon: daemon, refused: refused, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		MaxIdleConns:        idle,
		MaxIdleConnsPerHost: idle,
		IdleConnTimeout:     idleTime,
		DisableKeepAlives:   idle == 0,
		DisableCompression:  true,
	}}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// A TransportError says that no answer came.
type TransportError struct {
	Socket string
	Dial   bool // nobody took the request; otherwise the daemon went away over it
	Err    error
}

func (e *TransportError) Error() string { return fmt.Sprintf("%s: %v", e.Socket, e.Err) }

// Unwrap gives the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// Do sends one request, with in as its JSON body unless it is nil, and returns an answer of 2xx; the caller ends it
// with Drain. The error is the context's, a *TransportError, or what refused made of the answer.
func (c *Client) Do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.daemon+path, body)
	if err != nil {
		return nil, fmt.Errorf("build request %s: %w", path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.transportError(ctx, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer Drain(resp.Body)
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err == nil {
		err = c.refused(resp.StatusCode, b)
	} else {
		err = nil
	}
	if err == nil {
		err = fmt.Errorf("%s answered %s", c.daemon, resp.Status)
	}
	return nil, err
}

// Call is Do for an answer that is one JSON value, which is read into out.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.Do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer Drain(resp.Body)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxJSON)).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}

// transportError tells a daemon that is not there from a caller that gave up.
func (c *Client) transportError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return &TransportError{Socket: c.socket, Dial: true, Err: op.Err}
	}
	return &TransportError{Socket: c.socket, Err: err}
}

// Drain ends an answer: what little is left of it is read, so that its connection can be used again.
func Drain(b io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, b, 64<<10)
	_ = b.Close()
}
