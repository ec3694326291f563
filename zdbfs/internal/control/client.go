package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/unixhttp"
)

// ErrDown: no mount daemon answers on the socket.
var ErrDown = errors.New("no zdbfs mount is running")

// Client talks to the mount daemon.
type Client struct {
	http *unixhttp.Client
}

// NewClient gives a client for the socket; it dials at each call.
func NewClient(socket string) *Client {
	return &Client{unixhttp.New(socket, "zdbfs", 0, func(_ int, body []byte) error {
		var e errorBody
		if err := json.Unmarshal(body, &e); err != nil || e.Error == "" {
			return nil
		}
		return &exit.Error{Code: e.Code, Line: e.Error}
	})}
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
	err := c.http.Call(ctx, method, path, in, out)
	var t *unixhttp.TransportError
	switch {
	case !errors.As(err, &t):
		return err
	case t.Dial:
		return fmt.Errorf("%w (%s): %w", ErrDown, t.Socket, t.Err)
	}
	return fmt.Errorf("zdbfs stopped answering: %w", t.Err)
}
