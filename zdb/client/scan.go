package client

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"

	"qsfs/zdb/resp"
)

// A KeyInfo is what SCAN tells of a key.
type KeyInfo struct {
	Key    []byte
	Length int64 // of the value, in bytes
	Time   time.Time
}

// Scan returns a page of the keys in their order: the first one with a nil cursor, else what comes behind the cursor. next is
// the cursor of the following page; keys and next are nil behind the last one. In a sequential namespace the order is that of
// the ids.
//
// A cursor is opaque, and outlives the deletion of its key. One of a key longer than 12 bytes ends with ErrCursor when
// compaction has removed what it refers to; then begin anew, as Scanned does by itself.
func (c *Client) Scan(ctx context.Context, cursor []byte) (keys []KeyInfo, next []byte, err error) {
	return c.scan(ctx, "SCAN", cursor)
}

// ScanBack is Scan in the other direction, from the last key to the first.
func (c *Client) ScanBack(ctx context.Context, cursor []byte) (keys []KeyInfo, next []byte, err error) {
	return c.scan(ctx, "RSCAN", cursor)
}

func (c *Client) scan(ctx context.Context, name string, cursor []byte) (keys []KeyInfo, next []byte, err error) {
	var args [][]byte
	if cursor != nil {
		args = append(args, cursor)
	}
	v, err := c.Do(ctx, name, args...)
	if errors.Is(err, ErrNoMore) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if v.Kind != resp.Array || len(v.Array) != 2 || v.Array[0].Kind != resp.Bulk || v.Array[1].Kind != resp.Array {
		return nil, nil, unexpected(v)
	}
	for _, e := range v.Array[1].Array {
		if e.Kind != resp.Array || len(e.Array) != 3 || e.Array[0].Kind != resp.Bulk || e.Array[1].Kind != resp.Integer || e.Array[2].Kind != resp.Integer {
			return nil, nil, unexpected(e)
		}
		keys = append(keys, KeyInfo{e.Array[0].Data, e.Array[1].Int, time.Unix(e.Array[2].Int, 0)})
	}
	return keys, v.Array[0].Data, nil
}

// Scanned yields all keys in their order, page by page. An error ends it. A page is consistent, the pages together are not:
// keys that come or go meanwhile may be seen or missed. Each key comes at most once.
func (c *Client) Scanned(ctx context.Context) iter.Seq2[KeyInfo, error] {
	return func(yield func(KeyInfo, error) bool) {
		var cursor, last []byte
		again := false // from the beginning, up to last
		for {
			keys, next, err := c.Scan(ctx, cursor)
			if errors.Is(err, ErrCursor) && cursor != nil {
				// Only cursors of long keys end, and those are of user mode, where the order is that of the bytes.
				cursor, again = nil, true
				continue
			}
			if err != nil {
				yield(KeyInfo{}, err)
				return
			}
			if next == nil {
				return
			}
			for _, k := range keys {
				if again && bytes.Compare(k.Key, last) <= 0 {
					continue
				}
				last, again = k.Key, false
				if !yield(k, nil) {
					return
				}
			}
			cursor = next
		}
	}
}

// KeyCursor returns the cursor with which Scan and ScanBack go on behind a key, or ErrNotFound.
func (c *Client) KeyCursor(ctx context.Context, key []byte) ([]byte, error) {
	v, err := c.Do(ctx, "KEYCUR", key)
	if err != nil {
		return nil, err
	}
	return BulkResult(v)
}
