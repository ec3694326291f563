package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A loading is what many clients do at once: SET or GET of 4 KiB values under random keys.
type loading struct {
	op                string
	n, clients, depth int
	keys              int  // of the key space
	unix              bool // over the unix socket
}

const valueSize = 4 << 10

// rate runs a loading and gives commands per second: with redis-benchmark if this machine has it, for its client costs
// the same for both servers; else with a generator of our own.
func (b *bench) rate(s *server, l loading) (float64, error) {
	s.settle(3 * time.Second)
	if path, err := exec.LookPath("redis-benchmark"); err == nil {
		return b.redisBenchmark(path, s, l)
	}
	return b.generate(s, l)
}

func (b *bench) redisBenchmark(path string, s *server, l loading) (float64, error) {
	args := []string{"-h", "127.0.0.1", "-p", s.port}
	if l.unix {
		args = []string{"-s", s.socket}
	}
	args = append(args, "-c", strconv.Itoa(l.clients), "-P", strconv.Itoa(l.depth), "-n", strconv.Itoa(l.n), "-r", strconv.Itoa(l.keys),
		"--precision", "3", l.op, "key:__rand_int__")
	if l.op == "SET" {
		args = append(args, strings.Repeat("v", valueSize))
	}
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	var out, failed bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &out, &failed
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("redis-benchmark: %w: %.200s", errors.Join(err, ctx.Err()), failed.String()+out.String())
	}
	line := field(strings.ReplaceAll(out.String(), "  throughput", "throughput"), "throughput summary")
	v, err := strconv.ParseFloat(strings.Fields(line + " ")[0], 64)
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark printed %.200q", out.String())
	}
	return v, nil
}

// generate is the same with our own clients.
func (b *bench) generate(s *server, l loading) (float64, error) {
	network, address := "tcp", s.tcp()
	if l.unix {
		network, address = "unix", s.socket
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, l.clients)
	began := time.Now()
	for id := range l.clients {
		wg.Go(func() { errs <- l.client(b.ctx, network, address, uint64(id), &next) })
	}
	wg.Wait()
	took := time.Since(began)
	close(errs)
	for err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return float64(l.n) / took.Seconds(), nil
}

func (l loading) client(ctx context.Context, network, address string, id uint64, next *atomic.Int64) error {
	c, err := dial(network, address)
	if err != nil {
		return err
	}
	defer c.close()
	value := bytes.Repeat([]byte("v"), valueSize)
	random := mix(uint64(time.Now().UnixNano()) + id)
	var key []byte
	for ctx.Err() == nil {
		from := int(next.Add(int64(l.depth))) - l.depth
		n := min(l.depth, l.n-from)
		if n <= 0 {
			return nil
		}
		for range n {
			random = mix(random + 1)
			key = benchKey(key[:0], int(random%uint64(l.keys)))
			args := [][]byte{[]byte(l.op), key}
			if l.op == "SET" {
				args = append(args, value)
			}
			if err := c.send(args...); err != nil {
				return err
			}
		}
		if err := c.out.Flush(); err != nil {
			return err
		}
		for range n {
			if _, err := c.receive(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}
