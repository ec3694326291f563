package main

import (
	"context"
	"errors"
	"iter"
	"strings"

	"qsfs/zdb/client"
	"qsfs/zdb/resp"
)

// keysOf walks the keys of a namespace at a running server. Pages by prefix there are only where clients choose the keys.
func keysOf(ctx context.Context, c *client.Client, namespace, prefix string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		info, err := c.NSInfo(ctx, namespace)
		if err != nil {
			yield(nil, err)
			return
		}
		walk := c.Keys(ctx, []byte(prefix))
		if info["mode"] == "sequential" {
			walk = scan(ctx, c)
		}
		for key, err := range walk {
			if err == nil && !strings.HasPrefix(string(key), prefix) {
				continue
			}
			if !yield(key, err) || err != nil {
				return
			}
		}
	}
}

// scan walks the ids of a sequential namespace.
func scan(ctx context.Context, c *client.Client) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var cursor [][]byte
		for {
			v, err := c.Do(ctx, "SCAN", cursor...)
			var end *client.ServerError
			if errors.As(err, &end) && end.Text == "No more data" {
				return
			}
			if err == nil && (v.Kind != resp.Array || len(v.Array) != 2 || v.Array[1].Kind != resp.Array) {
				err = errors.New("SCAN: unexpected reply")
			}
			if err != nil {
				yield(nil, err)
				return
			}
			cursor = [][]byte{v.Array[0].Data}
			for _, e := range v.Array[1].Array {
				if e.Kind != resp.Array || len(e.Array) == 0 {
					yield(nil, errors.New("SCAN: unexpected reply"))
					return
				}
				if !yield(e.Array[0].Data, nil) {
					return
				}
			}
		}
	}
}
