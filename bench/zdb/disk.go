package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// disk overwrites what is live ten times and looks what the files take up at most, while reads and writes go on.
func disk() group {
	return group{
		rows: []*row{{
			name: "disk", title: "disk after overwriting 1 GiB live ten times, while reads and writes go on", unit: "GiB",
			target: "≤ 2 GiB", reached: func(r *row) float64 { return 2 * diskScale / r.our() }, ratio: toTheirs,
		}},
		run: runDisk,
	}
}

// diskScale is the live amount in GiB; 1 but in the quick form.
var diskScale = 1.0

const (
	overwrites     = 10
	overwriteValue = 16 << 10
	// diskLook is how often it is looked what the files take.
	diskLook = 200 * time.Millisecond
)

func runDisk(b *bench, rows map[string]*row) error {
	r := rows["disk"]
	diskScale = float64(b.scale.liveBytes) / (1 << 30)
	for range b.rounds(100 * time.Second) {
		ours, err := b.startOurs("ours", "--sync=none")
		if err == nil {
			err = b.overwrite(ours, r, r.addOurs)
		}
		ours.remove()
		if err != nil {
			return err
		}
		if b.theirs == "" || len(r.theirs) > 0 { // it never gives anything back: once is enough
			continue
		}
		theirs, err := b.startTheirs("theirs")
		if err == nil {
			err = b.overwrite(theirs, r, r.addTheirs)
		}
		theirs.remove()
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) overwrite(s *server, r *row, add func(float64)) error {
	keys := int(b.scale.liveBytes / overwriteValue)
	var phase atomic.Int32
	var wg sync.WaitGroup
	var reads atomic.Int64
	readErr := make(chan error, 1)
	began := time.Now()
	var longest time.Duration
	f := filling{n: keys, clients: 4, pipeline: 8}
	round := 0
	// Each round writes all keys once, in another order, with values that differ from those before.
	f.key = func(dst []byte, i int) []byte { return benchKey(dst, (i*(2*round+1)+round)%keys) }
	value := valueOf(overwriteValue)
	f.value = func(dst []byte, i int) []byte { return value(dst, round*keys+i) }
	if err := f.into(b.ctx, s); err != nil {
		return err
	}
	c, err := dial("tcp", s.tcp())
	if err != nil {
		return err
	}
	defer c.close()
	var most atomic.Int64
	wg.Go(func() {
		for tick := time.NewTicker(diskLook); ; {
			most.Store(max(most.Load(), s.diskBytes()))
			if phase.Load() != 0 {
				tick.Stop()
				return
			}
			<-tick.C
		}
	})
	wg.Go(func() {
		for i := 0; phase.Load() == 0; i++ {
			at := time.Now()
			v, err := c.call([]byte("GET"), benchKey(nil, i*31%keys))
			if err == nil && len(v.Data) != overwriteValue {
				err = errors.New("a value is missing")
			}
			if err != nil {
				readErr <- err
				return
			}
			longest = max(longest, time.Since(at))
			reads.Add(1)
		}
		readErr <- nil
	})
	for round = 1; round <= overwrites && err == nil; round++ {
		err = f.into(b.ctx, s)
	}
	written := time.Since(began)
	after := gib(s.diskBytes())
	phase.Store(1)
	wg.Wait()
	if err := errors.Join(err, <-readErr); err != nil {
		return err
	}
	add(gib(most.Load()))
	who := "theirs"
	if s.ours {
		who = fmt.Sprintf("ours (%.2f GiB right after the last write)", after)
	}
	r.note("%s: %s MiB/s overwritten, %s reads/s meanwhile, the longest %.0f ms", who,
		number(float64(overwrites+1)*float64(b.scale.liveBytes)/(1<<20)/written.Seconds()), number(float64(reads.Load())/written.Seconds()), longest.Seconds()*1000)
	return nil
}

func gib(n int64) float64 { return float64(n) / (1 << 30) }
