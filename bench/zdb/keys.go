package main

import (
	"fmt"
	"time"
)

// smallValue is what the many keys hold.
const smallValue = 64

// many gives a filling of small entries, as fast as the server takes them.
func (b *bench) many(n int, namespace string) filling {
	return filling{n: n, clients: 4, pipeline: 64, namespace: namespace, key: scatteredKey, value: valueOf(smallValue)}
}

// memoryMillion compares memory with 1 M keys.
func memoryMillion() group {
	return group{
		rows: []*row{{
			name: "memory-1m", title: "memory (RssAnon) with 1 M 16-byte keys, at rest", unit: "MiB",
			target: "≤ 100 MB", reached: below(100e6 / (1 << 20)), ratio: toTheirs,
		}},
		run: runMemoryMillion,
	}
}

func runMemoryMillion(b *bench, rows map[string]*row) error {
	r := rows["memory-1m"]
	for range b.rounds(2 * time.Minute) {
		ours, err := b.startOurs("ours", "--sync=none")
		if err == nil {
			err = b.memoryOf(ours, b.scale.million, r.addOurs, r)
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
			err = b.memoryOf(theirs, b.scale.million, r.addTheirs, r)
		}
		theirs.remove()
		if err != nil {
			return err
		}
	}
	return nil
}

// memoryOf fills a server and measures what it holds when it has come to rest, and what it held at most on the way.
func (b *bench) memoryOf(s *server, n int, add func(float64), r *row) error {
	most := 0.0
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if v, err := s.rssAnon(); err == nil {
				most = max(most, v)
			}
		}
	}()
	err := b.many(n, "").into(b.ctx, s)
	close(stop)
	<-stopped
	if err != nil {
		return err
	}
	s.settle(20 * time.Second)
	time.Sleep(restTime)
	v, err := s.rssAnon()
	if err == nil {
		add(v)
		r.note("%s: at most %s MiB while loading, %s MiB at rest", s.who(), number(most), number(v))
	}
	return err
}

// restTime is how long a server has to give back memory once it works on nothing any more. Ours begins to after half a second without work,
// and what it wrote last is brought into its index before; settle takes the first fifth of a second for rest.
const restTime = 5 * time.Second

// manyKeys measures ours with 10 M keys: memory, and how long it takes to be ready again.
func manyKeys() group {
	return group{
		rows: []*row{
			{name: "memory-10m", title: "memory (RssAnon) with 10 M 16-byte keys, at rest", unit: "MiB", target: "≤ 300 MB", reached: below(300e6 / (1 << 20))},
			{name: "ready-clean", title: "ready after a clean stop, 10 M keys (theirs: 1 M)", unit: "s", target: "≤ 2 s", reached: below(2)},
			{name: "ready-kill", title: "ready after kill -9 under load, 10 M keys (theirs: 1 M)", unit: "s", target: "≤ 15 s", reached: below(15)},
		},
		run: runManyKeys,
	}
}

func runManyKeys(b *bench, rows map[string]*row) error {
	s, err := b.startOurs("ours", "--sync=none")
	defer func() { s.remove() }()
	if err != nil {
		return err
	}
	n := b.scale.many
	began := time.Now()
	memory := rows["memory-10m"]
	if memory == nil {
		memory = &row{}
	}
	if err := b.memoryOf(s, n, memory.addOurs, memory); err != nil {
		return err
	}
	memory.note("loaded with 64-byte values at %s keys/s (10 M), the disk then held %s MiB", number(float64(n)/time.Since(began).Seconds()), number(float64(s.diskBytes())/(1<<20)))
	if err := b.restarts(s, n, rows["ready-clean"], rows["ready-kill"], (*row).addOurs); err != nil || b.theirs == "" {
		return err
	}
	theirs, err := b.startTheirs("theirs")
	defer func() { theirs.remove() }()
	if err != nil {
		return err
	}
	if err := b.many(b.scale.million, "").into(b.ctx, theirs); err != nil {
		return err
	}
	return b.restarts(theirs, b.scale.million, rows["ready-clean"], rows["ready-kill"], (*row).addTheirs)
}

// restarts stops and kills a server in turns and measures the time until it answers a read.
func (b *bench) restarts(s *server, n int, clean, killed *row, add func(*row, float64)) error {
	for round := range b.scale.restarts {
		if clean != nil {
			if err := s.stop(); err != nil {
				return err
			}
			took, err := s.ready(round)
			if err != nil {
				return fmt.Errorf("after a clean stop: %w", err)
			}
			add(clean, took.Seconds())
		}
		if killed != nil {
			// Fresh entries, killed while they come: what the log has and the index has not.
			f := b.many(n/50, "")
			f.key = func(dst []byte, i int) []byte { return scatteredKey(dst, n+round*n/50+i) }
			if err := f.into(b.ctx, s); err != nil {
				return err
			}
			s.kill()
			took, err := s.ready(round)
			if err != nil {
				return fmt.Errorf("after kill -9: %w", err)
			}
			add(killed, took.Seconds())
			if memory, err := s.rssAnon(); err == nil && round == 0 && s.ours {
				killed.note("RssAnon right after the start: %s MiB", number(memory))
			}
		}
	}
	return nil
}

// ready starts the server again and waits for the value of a key.
func (s *server) ready(i int) (time.Duration, error) {
	began := time.Now()
	if err := s.start(); err != nil {
		return 0, err
	}
	c, err := dial("tcp", s.tcp())
	if err != nil {
		return 0, err
	}
	defer c.close()
	v, err := c.call([]byte("GET"), scatteredKey(nil, i))
	if err == nil && len(v.Data) != smallValue {
		err = fmt.Errorf("key %d has a value of %d bytes", i, len(v.Data))
	}
	return time.Since(began), err
}
