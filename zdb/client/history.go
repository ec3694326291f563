package client

import (
	"context"
	"iter"
	"strconv"
	"time"

	"qsfs/zdb/resp"
)

// A Past is a version of a key: what it had as its value.
type Past struct {
	Value []byte
	Time  time.Time // when it was written, in whole seconds
	// Before is the cursor of the version before this one, nil when this is the oldest that is kept. It is opaque.
	Before []byte
}

// History returns a version of a key: the present one with a nil cursor, else that of Past.Before. What the namespace
// keeps of the past is its retention's affair (NSSET keep_last, keep_deleted); without one there is the present version only.
// ErrNotFound says that the key does not exist, ErrCursor that the version is not kept any more.
func (c *Client) History(ctx context.Context, key, cursor []byte) (Past, error) {
	args := [][]byte{key}
	if cursor != nil {
		args = append(args, cursor)
	}
	v, err := c.Do(ctx, "HISTORY", args...)
	if err != nil {
		return Past{}, err
	}
	if v.Kind != resp.Array || len(v.Array) != 3 || v.Array[1].Kind != resp.Bulk || v.Array[2].Kind != resp.Bulk {
		return Past{}, unexpected(v)
	}
	sec, err := strconv.ParseInt(string(v.Array[1].Data), 10, 64)
	if err != nil {
		return Past{}, unexpected(v)
	}
	version := Past{Value: v.Array[2].Data, Time: time.Unix(sec, 0)}
	switch before := v.Array[0]; before.Kind {
	case resp.Nil:
	case resp.Bulk:
		version.Before = before.Data
	default:
		return Past{}, unexpected(v)
	}
	return version, nil
}

// WholeHistory yields what History has of a key, the newest version first. An error ends it: ErrNotFound when there is none, ErrCursor when the
// next one was given up meanwhile.
func (c *Client) WholeHistory(ctx context.Context, key []byte) iter.Seq2[Past, error] {
	return func(yield func(Past, error) bool) {
		for cursor, first := []byte(nil), true; first || cursor != nil; first = false {
			v, err := c.History(ctx, key, cursor)
			if err != nil {
				yield(Past{}, err)
				return
			}
			if !yield(v, nil) {
				return
			}
			cursor = v.Before
		}
	}
}
