package client

import (
	"context"
	"encoding/hex"
	"iter"
	"strconv"
	"time"

	"qsfs/zdb/resp"
)

// Ping checks that the server answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.Do(ctx, "PING")
	return err
}

// Set stores value under key. When it returns nil, the server has made it durable (unless it runs with --sync=none).
// stored is false when the key had that very value already.
func (c *Client) Set(ctx context.Context, key, value []byte) (stored bool, err error) {
	v, err := c.Do(ctx, "SET", key, value)
	if err != nil {
		return false, err
	}
	return SetResult(v)
}

// SetResult reads the reply to a SET that was sent in a pipeline.
func SetResult(v resp.Value) (stored bool, err error) {
	switch v.Kind {
	case resp.Bulk:
		return true, nil
	case resp.Nil:
		return false, nil
	}
	return false, unexpected(v)
}

// Get returns the value of key, or ErrNotFound.
func (c *Client) Get(ctx context.Context, key []byte) ([]byte, error) {
	v, err := c.Do(ctx, "GET", key)
	if err != nil {
		return nil, err
	}
	return BulkResult(v)
}

// BulkResult reads a reply that is a bulk string, as that to GET is. Nil is ErrNotFound.
func BulkResult(v resp.Value) ([]byte, error) {
	switch v.Kind {
	case resp.Bulk:
		return v.Data, nil
	case resp.Nil:
		return nil, ErrNotFound
	}
	return nil, unexpected(v)
}

// A Lookup is the answer for one key of MGet.
type Lookup struct {
	Value []byte
	Err   error // ErrNotFound, or a *ServerError for an entry that cannot be read
}

// MGet looks up many keys. The answers are in the order of the keys. It is made for small values: the answers to 1023
// keys travel in one reply, which Options.Limits bounds to 64 MiB unless told otherwise.
func (c *Client) MGet(ctx context.Context, keys ...[]byte) ([]Lookup, error) {
	answers := make([]Lookup, 0, len(keys))
	for len(keys) > 0 {
		part := keys[:min(len(keys), resp.MaxArgs-1)]
		keys = keys[len(part):]
		v, err := c.Do(ctx, "MGET", part...)
		if err != nil {
			return nil, err
		}
		if v.Kind != resp.Array || len(v.Array) != len(part) {
			return nil, unexpected(v)
		}
		for _, e := range v.Array {
			var l Lookup
			if l.Err = replyError(e); l.Err == nil {
				l.Value, l.Err = BulkResult(e)
			}
			answers = append(answers, l)
		}
	}
	return answers, nil
}

// Del deletes key; ErrNotFound says that it did not exist.
func (c *Client) Del(ctx context.Context, key []byte) error {
	_, err := c.Do(ctx, "DEL", key)
	return err
}

// Exists reports whether key exists.
func (c *Client) Exists(ctx context.Context, key []byte) (bool, error) {
	n, err := c.integer(ctx, "EXISTS", key)
	return n == 1, err
}

// Check lets the server read the entry and verify its checksum: nil, ErrNotFound, or ErrReadFailed.
func (c *Client) Check(ctx context.Context, key []byte) error {
	v, err := c.Do(ctx, "CHECK", key)
	if err != nil {
		return err
	}
	return CheckResult(v)
}

// CheckResult reads the reply to a CHECK that was sent in a pipeline.
func CheckResult(v resp.Value) error {
	switch {
	case v.Kind == resp.Nil:
		return ErrNotFound
	case v.Kind != resp.Integer:
		return unexpected(v)
	case v.Int != 1:
		return ErrReadFailed
	}
	return nil
}

// CAS sets key to value if its present value is expected; a nil expected means that the key must not exist. It is atomic
// and durable. swapped is also true when the key has that value already, so that a repeated CAS succeeds. Otherwise
// current is the present value, nil when the key does not exist.
func (c *Client) CAS(ctx context.Context, key, value, expected []byte) (swapped bool, current []byte, err error) {
	v, err := c.Do(ctx, "CAS", CASArgs(key, value, expected)...)
	if err != nil {
		return false, nil, err
	}
	return CASResult(v)
}

// CASArgs returns the arguments of a CAS for a pipeline.
func CASArgs(key, value, expected []byte) [][]byte {
	args := [][]byte{key, value}
	if expected != nil {
		args = append(args, expected)
	}
	return args
}

// CASResult reads the reply to a CAS that was sent in a pipeline.
func CASResult(v resp.Value) (swapped bool, current []byte, err error) {
	switch {
	case v.Kind == resp.Integer && v.Int == 1:
		return true, nil, nil
	case v.Kind == resp.Bulk:
		return false, v.Data, nil
	case v.Kind == resp.Nil:
		return false, nil, nil
	}
	return false, nil, unexpected(v)
}

// PScan returns a page of the keys that begin with prefix, in the order of their bytes. A nil cursor begins; next is the
// cursor of the following page, nil at the end. count 0 lets the server choose the size of the page.
func (c *Client) PScan(ctx context.Context, prefix, cursor []byte, count int) (keys [][]byte, next []byte, err error) {
	args := [][]byte{prefix, cursor}
	if count > 0 {
		args = append(args, strconv.AppendInt(nil, int64(count), 10))
	}
	v, err := c.Do(ctx, "PSCAN", args...)
	if err != nil {
		return nil, nil, err
	}
	if v.Kind != resp.Array || len(v.Array) != 2 || v.Array[1].Kind != resp.Array {
		return nil, nil, unexpected(v)
	}
	if v.Array[0].Kind == resp.Bulk {
		next = v.Array[0].Data
	}
	for _, e := range v.Array[1].Array {
		if e.Kind != resp.Bulk {
			return nil, nil, unexpected(e)
		}
		keys = append(keys, e.Data)
	}
	return keys, next, nil
}

// Keys yields all keys that begin with prefix, page by page. An error ends it. A page is consistent, the pages together
// are not: keys that come or go meanwhile may be seen or missed.
func (c *Client) Keys(ctx context.Context, prefix []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for cursor, first := []byte(nil), true; first || cursor != nil; first = false {
			keys, next, err := c.PScan(ctx, prefix, cursor, 0)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, k := range keys {
				if !yield(k, nil) {
					return
				}
			}
			cursor = next
		}
	}
}

// Incarnation returns the random id that the server drew when the namespace was made.
func (c *Client) Incarnation(ctx context.Context) ([16]byte, error) {
	v, err := c.Do(ctx, "INCARNATION")
	if err != nil {
		return [16]byte{}, err
	}
	return IncarnationResult(v)
}

// IncarnationResult reads the reply to an INCARNATION that was sent in a pipeline.
func IncarnationResult(v resp.Value) (id [16]byte, err error) {
	if v.Kind != resp.Bulk || len(v.Data) != 2*len(id) {
		return id, unexpected(v)
	}
	if _, err := hex.Decode(id[:], v.Data); err != nil {
		return id, unexpected(v)
	}
	return id, nil
}

// DBSize returns the number of keys of the namespace.
func (c *Client) DBSize(ctx context.Context) (int64, error) { return c.integer(ctx, "DBSIZE") }

// Time returns the server's clock.
func (c *Client) Time(ctx context.Context) (time.Time, error) {
	v, err := c.Do(ctx, "TIME")
	if err != nil {
		return time.Time{}, err
	}
	if v.Kind != resp.Array || len(v.Array) != 2 {
		return time.Time{}, unexpected(v)
	}
	sec, err1 := strconv.ParseInt(string(v.Array[0].Data), 10, 64)
	usec, err2 := strconv.ParseInt(string(v.Array[1].Data), 10, 64)
	if err1 != nil || err2 != nil {
		return time.Time{}, unexpected(v)
	}
	return time.Unix(sec, usec*1000), nil
}

func (c *Client) integer(ctx context.Context, name string, args ...[]byte) (int64, error) {
	v, err := c.Do(ctx, name, args...)
	if err != nil {
		return 0, err
	}
	if v.Kind != resp.Integer {
		return 0, unexpected(v)
	}
	return v.Int, nil
}
