package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"syscall"

	"qsfs/zstor/unixhttp"
)

// maxStripe limits what a client accepts from the daemon.
const maxStripe = 1 << 30

// Headers of a stripe answer.
const (
	HeaderStripeOffset  = "X-Stripe-Offset"
	HeaderSegmentLength = "X-Segment-Length"
)

// Client is a connection pool to one daemon. It is safe for concurrent use.
type Client struct {
	http *unixhttp.Client
}

// New gives a client for the daemon on the unix socket. It dials on first use and again after
// the daemon was restarted.
func New(socket string) *Client {
	return &Client{unixhttp.New(socket, "zstor", 64, func(status int, body []byte) error {
		var e ErrorBody
		if err := json.Unmarshal(body, &e); err != nil || e.Code == "" {
			return &Error{Status: status, Code: CodeInternal, Reason: fmt.Sprintf("zstor answered %d %s", status, http.StatusText(status))}
		}
		return e.toError(status)
	})}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.Close() }

// Attach compares the local state with the newest cut. A negative verdict is an answer, not an error.
func (c *Client) Attach(ctx context.Context, r AttachRequest) (AttachReply, error) {
	var out AttachReply
	err := c.call(ctx, http.MethodPost, "/v1/attach", r, &out)
	return out, err
}

// Heads announces durable heads. The error wraps ErrFenced or ErrStale when nothing of this
// session is acknowledged any more, and ErrNotAttached when Attach must be called (again).
func (c *Client) Heads(ctx context.Context, r HeadsRequest) (HeadsReply, error) {
	var out HeadsReply
	err := c.call(ctx, http.MethodPost, "/v1/heads", r, &out)
	return out, err
}

// Evict asks for consent to remove the local file of a sealed data segment.
func (c *Client) Evict(ctx context.Context, r EvictRequest) (EvictReply, error) {
	var out EvictReply
	err := c.call(ctx, http.MethodPost, "/v1/evict", r, &out)
	return out, err
}

// Status asks for the whole status.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var out Status
	if err := c.call(ctx, http.MethodGet, "/v1/status", nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Takeover claims the epoch and compares the newest cut with the one this state wrote last.
func (c *Client) Takeover(ctx context.Context) (TakeoverReply, error) {
	var out TakeoverReply
	err := c.call(ctx, http.MethodPost, "/v1/takeover", nil, &out)
	return out, err
}

// Format makes the metadata nodes ready for first use: epoch 1, owned by this state directory.
func (c *Client) Format(ctx context.Context) (Owner, error) {
	var out Owner
	err := c.call(ctx, http.MethodPost, "/v1/format", nil, &out)
	return out, err
}

// Recover brings the state directory back from the nodes. progress is called for each line.
func (c *Client) Recover(ctx context.Context, progress func(Progress)) error {
	return c.stream(ctx, "/v1/recover", progress)
}

// Flush ships everything announced so far and completes what can be completed.
func (c *Client) Flush(ctx context.Context, progress func(Progress)) error {
	return c.stream(ctx, "/v1/flush", progress)
}

// Stripe fetches the plaintext of the stripe that holds byte off of d<segment>. The error wraps
// ErrNotDispersed, ErrUnavailable, ErrDamaged or ErrDown, and says which deadline or node it was.
func (c *Client) Stripe(ctx context.Context, ns string, segment uint32, off int64) (Stripe, error) {
	q := url.Values{}
	q.Set("ns", ns)
	q.Set("segment", strconv.FormatUint(uint64(segment), 10))
	q.Set("offset", strconv.FormatInt(off, 10))
	resp, err := c.do(ctx, http.MethodGet, "/v1/stripe?"+q.Encode(), nil)
	if err != nil {
		return Stripe{}, err
	}
	defer unixhttp.Drain(resp.Body)
	var st Stripe
	if st.Offset, err = strconv.ParseInt(resp.Header.Get(HeaderStripeOffset), 10, 64); err != nil {
		return Stripe{}, fmt.Errorf("read stripe offset: %w", err)
	}
	if st.SegmentLength, err = strconv.ParseInt(resp.Header.Get(HeaderSegmentLength), 10, 64); err != nil {
		return Stripe{}, fmt.Errorf("read segment length: %w", err)
	}
	if resp.ContentLength < 0 || resp.ContentLength > maxStripe {
		return Stripe{}, fmt.Errorf("stripe of %d bytes announced", resp.ContentLength)
	}
	st.Data = make([]byte, resp.ContentLength)
	if _, err := io.ReadFull(resp.Body, st.Data); err != nil {
		return Stripe{}, fmt.Errorf("read stripe: %w", err)
	}
	return st, nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	return c.transportError(c.http.Call(ctx, method, path, in, out))
}

// stream reads JSON lines until the one that is marked done. A stream that ends without it means
// that the daemon went away half-way.
func (c *Client) stream(ctx context.Context, path string, progress func(Progress)) error {
	return c.streamOf(ctx, path, nil, progress)
}

// streamOf is stream for a request with a body.
func (c *Client) streamOf(ctx context.Context, path string, in any, progress func(Progress)) error {
	resp, err := c.do(ctx, http.MethodPost, path, in)
	if err != nil {
		return err
	}
	defer unixhttp.Drain(resp.Body)
	dec := json.NewDecoder(resp.Body)
	for {
		var p Progress
		if err := dec.Decode(&p); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: it stopped in the middle of %s", ErrDown, path)
		}
		if p.Error != "" {
			return ErrorBody{Code: p.Code, Error: p.Error}.toError(http.StatusOK)
		}
		if progress != nil {
			progress(p)
		}
		if p.Done {
			return nil
		}
	}
}

func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	resp, err := c.http.Do(ctx, method, path, in)
	return resp, c.transportError(err)
}

// transportError tells a daemon that is not there from a socket that is not ours to open.
func (c *Client) transportError(err error) error {
	var t *unixhttp.TransportError
	switch {
	case !errors.As(err, &t):
		return err
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("open %s: %w", t.Socket, t.Err)
	}
	return fmt.Errorf("%w (%s): %w", ErrDown, t.Socket, t.Err)
}
