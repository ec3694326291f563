package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"qsfs/zdb/client"
)

// checkPage is how many entries one pipeline verifies.
const checkPage = 64

// A keysReport is what --keys found.
type keysReport struct {
	Namespace string   `json:"namespace"`
	Checked   int64    `json:"checked"`
	Bad       [][]byte `json:"bad"`
}

func (f *checkFlags) checkKeys(ctx context.Context, out, talk io.Writer) error {
	c, err := f.target.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	b := newBar("check the keys of "+f.namespace, f.json, false)
	defer b.close()
	total, err := c.DBSize(ctx)
	if err != nil {
		return err
	}
	r := keysReport{Namespace: f.namespace, Bad: [][]byte{}}
	var page [][]byte
	verify := func() error {
		err := r.verify(ctx, c, page)
		page = page[:0]
		b.show(r.Checked, total)
		return err
	}
	for key, err := range keysOf(ctx, c, f.namespace, "") {
		if err != nil {
			return err
		}
		if page = append(page, key); len(page) == checkPage {
			if err := verify(); err != nil {
				return err
			}
		}
	}
	if err := verify(); err != nil {
		return err
	}
	b.close()
	if f.json {
		err = writeJSON(out, r)
	} else {
		for _, key := range r.Bad {
			fmt.Fprintf(out, "%q\n", key)
		}
		fmt.Fprintf(talk, "%d entries checked, %d bad\n", r.Checked, len(r.Bad))
	}
	if err == nil && len(r.Bad) > 0 {
		err = errDamaged
	}
	return err
}

// verify verifies some entries. Those that were deleted meanwhile do not count.
func (r *keysReport) verify(ctx context.Context, c *client.Client, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	cmds := make([]client.Command, 0, len(keys))
	for _, key := range keys {
		cmds = append(cmds, client.Cmd("CHECK", key))
	}
	results, err := c.Pipeline(ctx, cmds...)
	if err != nil {
		return err
	}
	for i, res := range results {
		if res.Err != nil {
			return res.Err
		}
		switch err := client.CheckResult(res.Value); {
		case errors.Is(err, client.ErrNotFound):
			continue
		case errors.Is(err, client.ErrReadFailed):
			r.Bad = append(r.Bad, keys[i])
		case err != nil:
			return err
		}
		r.Checked++
	}
	return nil
}
