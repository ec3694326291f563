package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb/client"
	"qsfs/zdb/resp"
)

// A load is what the clients of a benchmark do together.
type load struct {
	f       benchFlags
	size    int
	next    atomic.Int64 // number of the next key to write
	written atomic.Int64 // keys that can be read
	claimed atomic.Int64 // requests handed out, when they are limited
	done    atomic.Int64 // requests answered
}

// A loader is one client.
type loader struct {
	*load
	test  string
	nc    net.Conn
	in    *bufio.Reader
	out   []byte
	value []byte
	rng   *rand.Rand

	latencies        histogram
	requests, misses int64
	errors           int64
	firstError       string
}

func (l *load) run(ctx context.Context, test string) (benchResult, error) {
	r := benchResult{Test: test, Clients: l.f.clients, Pipeline: l.f.pipeline, Size: int64(l.size)}
	if test == "ping" {
		r.Size = 0
	}
	var crew []*loader
	defer func() {
		for _, c := range crew {
			c.nc.Close()
		}
	}()
	for i := range l.f.clients {
		nc, err := client.Connect(ctx, l.f.target.options())
		if err != nil {
			return r, err
		}
		c := &loader{
			load: l, test: test, nc: nc, in: bufio.NewReaderSize(nc, 64<<10), value: make([]byte, l.size),
			rng: rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano()))),
		}
		for i := range c.value {
			c.value[i] = byte(c.rng.Uint32())
		}
		crew = append(crew, c)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A client that waits for a reply when time is up is cut off after a while.
	defer context.AfterFunc(ctx, func() {
		for _, c := range crew {
			c.nc.SetDeadline(time.Now().Add(5 * time.Second))
		}
	})()
	l.claimed.Store(0)
	l.done.Store(0)
	stopBar := l.progress(ctx, test)
	began := time.Now()
	time.AfterFunc(l.f.duration, cancel)
	var wg sync.WaitGroup
	errs := make([]error, len(crew))
	for i, c := range crew {
		wg.Go(func() { errs[i] = c.work(ctx) })
	}
	wg.Wait()
	took := time.Since(began)
	cancel()
	stopBar()
	if err := errors.Join(errs...); err != nil {
		return r, err
	}
	var all histogram
	for _, c := range crew {
		all.add(&c.latencies)
		r.Requests += c.requests
		r.Misses += c.misses
		r.Errors += c.errors
		if r.FirstError == "" {
			r.FirstError = c.firstError
		}
	}
	if test == "set" && l.f.keys == 0 {
		l.written.Store(l.next.Load())
	}
	r.Seconds = took.Seconds()
	r.OpsPerSecond = float64(r.Requests) / r.Seconds
	r.BytesPerSec = r.OpsPerSecond * float64(r.Size)
	r.P50, r.P95, r.P99, r.P999, r.Max = all.quantile(0.5), all.quantile(0.95), all.quantile(0.99), all.quantile(0.999), all.most()
	return r, nil
}

// progress draws a bar until it is stopped.
func (l *load) progress(ctx context.Context, test string) (stop func()) {
	p := newBar(fmt.Sprintf("%s, %d clients", test, l.f.clients), l.f.json, false)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		began := time.Now()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if l.f.requests > 0 {
				p.show(l.done.Load(), l.f.requests)
			} else {
				p.show(int64(time.Since(began).Seconds()), int64(l.f.duration.Seconds()))
			}
		}
	})
	return func() { wg.Wait(); p.close() }
}

// work sends batches until time or requests are used up.
func (c *loader) work(ctx context.Context) error {
	for ctx.Err() == nil {
		n := int64(c.f.pipeline)
		if c.f.requests > 0 {
			if left := c.f.requests - (c.claimed.Add(n) - n); left <= 0 {
				return nil
			} else {
				n = min(n, left)
			}
		}
		c.out = c.out[:0]
		for range n {
			c.request()
		}
		began := time.Now()
		if _, err := c.nc.Write(c.out); err != nil {
			return err
		}
		for range n {
			if err := c.reply(); err != nil {
				return err
			}
		}
		c.latencies.record(time.Since(began))
		c.requests += n
		c.done.Add(n)
	}
	return nil
}

func (c *loader) request() {
	switch c.test {
	case "set":
		n := c.next.Add(1) - 1
		c.stamp(uint64(n))
		if c.f.keys > 0 {
			n %= c.f.keys
		}
		c.out = resp.AppendArray(c.out, 3)
		c.out = resp.AppendBulkString(c.out, "SET")
		c.key(n)
		c.out = resp.AppendBulk(c.out, c.value)
	case "get":
		c.out = resp.AppendArray(c.out, 2)
		c.out = resp.AppendBulkString(c.out, "GET")
		c.key(c.rng.Int64N(max(c.written.Load(), 1)))
	default:
		c.out = append(c.out, "*1\r\n$4\r\nPING\r\n"...)
	}
}

// stamp makes the value another one than any before, so that no SET repeats what is there.
func (c *loader) stamp(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	copy(c.value, b[:])
}

// key appends a key of 16 bytes.
func (c *loader) key(n int64) {
	c.out = append(c.out, "$16\r\nbench:"...)
	at := len(c.out)
	c.out = append(c.out, "0000000000\r\n"...)
	for i := at + 9; n > 0 && i >= at; i-- {
		c.out[i] = byte('0' + n%10)
		n /= 10
	}
}

// reply reads one reply and throws its payload away.
func (c *loader) reply() error {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	switch line[0] {
	case '+', ':':
	case '-':
		c.errors++
		if c.firstError == "" {
			c.firstError = string(bytes.TrimRight(line[1:], "\r\n"))
		}
	case '$':
		n, err := strconv.Atoi(string(bytes.TrimRight(line[1:], "\r\n")))
		if err != nil || n > resp.MaxBulk {
			return &resp.ProtocolError{Text: "bulk length"}
		}
		if n < 0 {
			c.misses++ // of SET: the same value was there
			return nil
		}
		_, err = c.in.Discard(n + 2)
		return err
	default:
		return &resp.ProtocolError{Text: fmt.Sprintf("unexpected reply %q", line[0])}
	}
	return nil
}
