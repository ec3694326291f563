package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"qsfs/zdb"
)

// A count is the exact number of live keys of a namespace, of their bytes and of their payload. Writes adjust it. What
// was there at the opening is counted from a consistent iterator in the background, so that a node with millions of
// entries serves at once; only what needs the figures (quota, DBSIZE, NSINFO) waits for that.
type count struct {
	entries, keyBytes, payload atomic.Int64

	done   chan struct{} // closed when the background count is in, or failed
	err    error         // after done
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// begin starts counting the keys from first on.
func (c *count) begin(ctx context.Context, eng *zdb.Namespace, first []byte) error {
	c.done = make(chan struct{})
	ctx, c.cancel = context.WithCancel(ctx)
	it, err := eng.NewIter(ctx, zdb.IterOptions{Lower: first, KeysOnly: true})
	if err != nil {
		c.cancel()
		return err
	}
	if !it.First() { // new and small namespaces need no goroutine
		c.err = it.Err()
		close(c.done)
		return it.Close()
	}
	c.wg.Go(func() {
		defer close(c.done)
		defer it.Close()
		var entries, keyBytes, payload int64
		for ok := true; ok; ok = it.Next() {
			if c.err = ctx.Err(); c.err != nil {
				return
			}
			e, err := it.Entry()
			if err != nil {
				c.err = err
				return
			}
			entries++
			keyBytes += int64(len(it.Key()))
			payload += int64(e.Location.Length)
		}
		if c.err = it.Err(); c.err != nil {
			return
		}
		c.entries.Add(entries)
		c.keyBytes.Add(keyBytes)
		c.payload.Add(payload)
	})
	return nil
}

// ready waits until the figures are exact.
func (c *count) ready(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// recount counts what an iterator shows and puts right what the figures were when it was made.
func (n *namespace) recount(ctx context.Context, eng *zdb.Namespace) error {
	if err := n.count.ready(ctx); err != nil {
		return err
	}
	o := zdb.IterOptions{KeysOnly: true}
	if n.sequential() {
		o.Lower = firstID
	}
	for i := range n.keys { // no key changes between the iterator and the figures
		n.keys[i].Lock()
	}
	it, err := eng.NewIter(ctx, o)
	entries, keyBytes, payload := -n.entries.Load(), -n.keyBytes.Load(), -n.payload.Load()
	for i := range n.keys {
		n.keys[i].Unlock()
	}
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		e, err := it.Entry()
		if err != nil {
			return errors.Join(err, it.Close())
		}
		entries++
		keyBytes += int64(len(it.Key()))
		payload += int64(e.Location.Length)
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		return err
	}
	n.entries.Add(entries)
	n.keyBytes.Add(keyBytes)
	n.payload.Add(payload)
	return nil
}

func (c *count) stop() {
	c.cancel()
	c.wg.Wait()
}

// adjust counts a write that replaced, made or removed a key.
func (c *count) adjust(entries int64, key []byte, payload int64) {
	c.entries.Add(entries)
	c.keyBytes.Add(entries * int64(len(key)))
	c.payload.Add(payload)
}

// reserve counts payload in advance when it fits below limit. What shrinks always fits.
func (c *count) reserve(delta int64, limit uint64) bool {
	for {
		used := c.payload.Load()
		if delta > 0 && used+delta > int64(min(limit, 1<<62)) {
			return false
		}
		if c.payload.CompareAndSwap(used, used+delta) {
			return true
		}
	}
}
