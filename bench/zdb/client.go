package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb/resp"
)

// A conn is a plain client: it writes requests and reads replies, with no goroutine between.
type conn struct {
	nc  net.Conn
	dec *resp.Decoder
	out *bufio.Writer
	buf []byte
}

func dial(network, address string) (*conn, error) {
	nc, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &conn{nc: nc, dec: resp.NewDecoder(nc, resp.ReplyLimits{}), out: bufio.NewWriterSize(nc, 64<<10)}, nil
}

func (c *conn) close() { c.nc.Close() }

// send writes a request into the buffer.
func (c *conn) send(args ...[]byte) error {
	c.buf = resp.AppendCommand(c.buf[:0], args...)
	_, err := c.out.Write(c.buf)
	return err
}

// receive reads one reply. An error reply is an error.
func (c *conn) receive() (resp.Value, error) {
	v, err := c.dec.Read()
	if err == nil && v.Kind == resp.Error {
		err = fmt.Errorf("server: %s", v.Data)
	}
	return v, err
}

// call is one request and its reply.
func (c *conn) call(args ...[]byte) (resp.Value, error) {
	if err := c.send(args...); err != nil {
		return resp.Value{}, err
	}
	if err := c.out.Flush(); err != nil {
		return resp.Value{}, err
	}
	return c.receive()
}

func (c *conn) do(words ...string) (resp.Value, error) {
	args := make([][]byte, len(words))
	for i, w := range words {
		args[i] = []byte(w)
	}
	return c.call(args...)
}

// A filling writes n entries, the i-th under key(i), from several pipelined connections.
type filling struct {
	n, clients, pipeline int
	namespace            string
	key                  func(dst []byte, i int) []byte
	value                func(dst []byte, i int) []byte
}

func (f filling) into(ctx context.Context, s *server) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, f.clients)
	for range f.clients {
		wg.Go(func() { errs <- f.client(ctx, s, &next) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return fmt.Errorf("load %d keys: %w", f.n, err)
		}
	}
	return nil
}

func (f filling) client(ctx context.Context, s *server, next *atomic.Int64) error {
	c, err := dial("unix", s.socket)
	if err != nil {
		return err
	}
	defer c.close()
	if f.namespace != "" {
		if _, err := c.do("SELECT", f.namespace); err != nil {
			return err
		}
	}
	set := []byte("SET")
	var key, value []byte
	for ctx.Err() == nil {
		from := int(next.Add(int64(f.pipeline))) - f.pipeline
		to := min(from+f.pipeline, f.n)
		if from >= to {
			return nil
		}
		for i := from; i < to; i++ {
			key, value = f.key(key[:0], i), f.value(value[:0], i)
			if err := c.send(set, key, value); err != nil {
				return err
			}
		}
		if err := c.out.Flush(); err != nil {
			return err
		}
		for range to - from {
			if _, err := c.receive(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// benchKey is the i-th key as redis-benchmark writes it.
func benchKey(dst []byte, i int) []byte { return fmt.Appendf(dst, "key:%012d", i) }

// scatteredKey is the i-th of many 16-byte keys in no order.
func scatteredKey(dst []byte, i int) []byte {
	dst = binary.BigEndian.AppendUint64(dst, mix(uint64(i)))
	return binary.BigEndian.AppendUint64(dst, uint64(i))
}

// mix scatters (the finalizer of MurmurHash3 by Austin Appleby, public domain).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// valueOf gives values of one size that differ.
func valueOf(size int) func(dst []byte, i int) []byte {
	fill := strings.Repeat("v", max(size-8, 0))
	return func(dst []byte, i int) []byte {
		dst = binary.BigEndian.AppendUint64(dst, uint64(i)+1)
		return append(dst, fill...)[:size]
	}
}
