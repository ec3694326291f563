package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// stalls measures what a GET client sees while somebody else removes, makes or reloads a namespace.
func stalls() group {
	stall := func(name, command string) *row {
		return &row{
			name: name, title: "p99 of a parallel GET client during " + command + ", 1 M keys loaded", unit: "ms",
			target: "≤ 3 × its quiet p99", reached: func(r *row) float64 { return 3 * quietOf(r) / r.our() }, ratio: func(r *row) float64 { return r.our() / quietOf(r) },
		}
	}
	return group{
		rows: []*row{stall("stall-nsdel", "NSDEL"), stall("stall-nsnew", "NSNEW"), stall("stall-reload", "RELOAD")},
		run:  runStalls,
	}
}

// quietP99 holds, for each row, the p99 before the command, round by round.
var quietP99 = map[*row][]float64{}

func quietOf(r *row) float64 {
	if v := median(quietP99[r]); v > 0 {
		return v
	}
	return math.NaN()
}

func runStalls(b *bench, rows map[string]*row) error {
	for range b.rounds(2 * time.Minute) {
		ours, err := b.startOurs("ours", "--sync=none")
		if err == nil {
			err = b.stallRound(ours, rows)
		}
		ours.remove()
		if err != nil {
			return err
		}
		if b.theirs == "" {
			continue
		}
		theirs, err := b.startTheirs("theirs")
		if err == nil {
			err = b.stallRound(theirs, rows)
		}
		theirs.remove()
		if err != nil {
			return fmt.Errorf("the original: %w", err)
		}
	}
	return nil
}

func (b *bench) stallRound(s *server, rows map[string]*row) error {
	const loaded, watched = "loaded", 10_000
	admin, err := dial("tcp", s.tcp())
	if err != nil {
		return err
	}
	defer admin.close()
	if _, err := admin.do("NSNEW", loaded); err != nil {
		return err
	}
	if err := b.many(b.scale.million, loaded).into(b.ctx, s); err != nil {
		return err
	}
	if err := b.many(watched, "").into(b.ctx, s); err != nil {
		return err
	}
	commands := []struct {
		name string
		run  func() error
	}{
		{"stall-nsnew", func() error { return eachNew(admin, "NSNEW") }},
		{"stall-reload", func() error { _, err := admin.do("RELOAD", loaded); return err }},
		{"stall-nsdel", func() error { _, err := admin.do("NSDEL", loaded); return err }},
	}
	for _, c := range commands {
		r := rows[c.name]
		if r == nil {
			continue
		}
		s.settle(5 * time.Second)
		quiet, during, took, err := b.watch(s, watched, c.run)
		if err != nil {
			if s.ours {
				r.fault = err
			}
			continue
		}
		if s.ours {
			r.addOurs(during.p99)
			quietP99[r] = append(quietP99[r], quiet.p99)
		} else {
			r.addTheirs(during.p99)
		}
		r.note("%s: quiet p99 %.3f ms, longest %.1f ms; during p99 %.3f ms, longest %.1f ms, %d reads; the command took %.0f ms", s.who(),
			quiet.p99, quiet.longest, during.p99, during.longest, during.n, took.Seconds()*1000)
	}
	return nil
}

// eachNew makes some namespaces one after the other.
func eachNew(admin *conn, command string) error {
	for i := range 10 {
		if _, err := admin.do(command, fmt.Sprintf("new-%d", i)); err != nil {
			return err
		}
	}
	return nil
}

// seen is what a client saw, in milliseconds.
type seen struct {
	n            int
	p99, longest float64
}

// shortest is how long a client is watched from the beginning of a command that takes less.
const shortest = 300 * time.Millisecond

// watch lets a client read, first alone and then while the command runs.
func (b *bench) watch(s *server, keys int, command func() error) (quiet, during seen, took time.Duration, err error) {
	c, err := dial("tcp", s.tcp())
	if err != nil {
		return
	}
	defer c.close()
	var phase atomic.Int32 // 0 quiet, 1 during, 2 end
	var times [2][]float64
	failed := make(chan error, 1)
	go func() {
		get := []byte("GET")
		var key []byte
		for i := 0; ; i++ {
			p := phase.Load()
			if p == 2 {
				failed <- nil
				return
			}
			key = scatteredKey(key[:0], i*7%keys)
			began := time.Now()
			v, err := c.call(get, key)
			if err == nil && len(v.Data) != smallValue {
				err = errors.New("a value is missing")
			}
			if err != nil {
				failed <- err
				return
			}
			times[p] = append(times[p], time.Since(began).Seconds()*1000)
		}
	}()
	time.Sleep(b.scale.quiet)
	phase.Store(1)
	began := time.Now()
	err = command()
	if took = time.Since(began); took < shortest {
		time.Sleep(shortest - took)
	}
	phase.Store(2)
	err = errors.Join(err, <-failed)
	return summary(times[0]), summary(times[1]), took, err
}

func summary(v []float64) seen {
	if len(v) == 0 {
		return seen{p99: math.NaN(), longest: math.NaN()}
	}
	slices.Sort(v)
	return seen{n: len(v), p99: v[len(v)*99/100], longest: v[len(v)-1]}
}
