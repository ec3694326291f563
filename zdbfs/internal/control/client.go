package control

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

	"qsfs/zdbfs/internal/exit"
)

// ErrDown: no mount daemon answers on the socket.
var ErrDown = errors.New("no zdbfs mount is running")

// Client talks to the mount daemon.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient gives a client for the socket; it dials at each call.
func NewClient(socket string) *Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}}
}

// Status asks for the status.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	if err := c.call(ctx, http.MethodGet, "/v1/status", nil, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Evict asks for eviction and waits for it.
func (c *Client) Evict(ctx context.Context, r EvictRequest) (EvictReply, error) {
	var out EvictReply
	err := c.call(ctx, http.MethodPost, "/v1/evict", r, &out)
	return out, err
}

// Sync makes everything durable, remotely too if asked.
func (c *Client) Sync(ctx context.Context, r SyncRequest) (SyncReply, error) {
	var out SyncReply
	err := c.call(ctx, http.MethodPost, "/v1/sync", r, &out)
	return out, err
}

// Check checks the tree.
func (c *Client) Check(ctx context.Context) (CheckReply, error) {
	var out CheckReply
	err := c.call(ctx, http.MethodPost, "/v1/check", nil, &out)
	return out, err
}

// Stop asks the daemon to end in order. It returns when the daemon has begun to.
func (c *Client) Stop(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/stop", nil, &struct{}{})
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode %s: %w", path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://zdbfs"+path, body)
	if err != nil {
		return fmt.Errorf("build request %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return fmt.Errorf("%w (%s): %w", ErrDown, c.socket, op.Err)
		}
		return fmt.Errorf("zdbfs stopped answering: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		var e errorBody
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&e); err != nil || e.Error == "" {
			return fmt.Errorf("zdbfs answered %s", resp.Status)
		}
		return &exit.Error{Code: e.Code, Line: e.Error}
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}
