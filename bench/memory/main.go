// Command memory measures what the two daemons of a front machine hold in memory while a large file is written and dispersed.
//
// It prints the peaks of RssAnon (anonymous resident memory, from /proc/PID/status, sampled every 20 ms) of zstor and zdbfs
// and exits with 1 when one is above its limit.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"qsfs/test/harness"
	"qsfs/zstor/client"
)

func main() {
	bin := flag.String("bin", "bin", "directory of the programs")
	size := flag.Int64("size", 2<<30, "bytes of the file")
	zstorLimit := flag.Int64("zstor", 300, "limit of zstor's RssAnon in MiB")
	zdbfsLimit := flag.Int64("zdbfs", 500, "limit of zdbfs's RssAnon in MiB")
	flag.Parse()
	os.Exit(harness.Main(func() int {
		return harness.RunProgram(func(p *harness.Program) { measure(p, *bin, *size, *zstorLimit<<20, *zdbfsLimit<<20) })
	}))
}

func measure(p *harness.Program, bin string, size, zstorLimit, zdbfsLimit int64) {
	programs, err := filepath.Abs(bin)
	if err != nil {
		p.Fatalf("%v", err)
	}
	// The intervals, segment sizes and budgets are the defaults of a real installation.
	c := harness.Start(p, harness.Options{Programs: harness.Programs(programs), Settings: map[string]string{
		"segment_size_data": `"64MiB"`, "segment_size_meta": `"16MiB"`, "sync_interval": `"5s"`, "flush_interval": `"1s"`,
		"cache_size": `"10GiB"`,
	}})
	zstor, zdbfs := watch(c.Front.Zstor), watch(c.Front.Zdbfs)

	started := time.Now()
	write(p, c.Front.Path("large"), size)
	written := time.Since(started)
	c.Front.Ship(15 * time.Minute)
	status := c.Front.WaitSafe(15 * time.Minute)
	dispersed := time.Since(started)
	zstor.stop()
	zdbfs.stop()

	mib := float64(size) / (1 << 20)
	fmt.Printf("file                 %10.0f MiB of random bytes\n", mib)
	fmt.Printf("written and fsynced  %10.1f s   %8.1f MiB/s\n", written.Seconds(), mib/written.Seconds())
	fmt.Printf("dispersed at         %10.1f s   %8.1f MiB/s   (%s)\n", dispersed.Seconds(), mib/dispersed.Seconds(), summary(status))
	report(p, "zstor", zstor.peak.Load(), zstorLimit)
	report(p, "zdbfs", zdbfs.peak.Load(), zdbfsLimit)
	c.Front.Down()
}

func summary(s *client.Status) string { return fmt.Sprintf("status: %v", s.Safety) }

func report(p *harness.Program, name string, peak, limit int64) {
	fmt.Printf("%-6s RssAnon peak  %10.1f MiB, limit %d MiB\n", name, float64(peak)/(1<<20), limit>>20)
	if peak == 0 {
		p.Errorf("%s: RssAnon was never read", name)
	}
	if peak > limit {
		p.Errorf("%s: RssAnon reached %.1f MiB, the limit is %d MiB", name, float64(peak)/(1<<20), limit>>20)
	}
}

// write makes a file of random bytes, so that compression does not lower the work, and fsyncs it.
func write(p *harness.Program, path string, size int64) {
	f, err := os.Create(path)
	if err != nil {
		p.Fatalf("create: %v", err)
	}
	defer f.Close()
	rng := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, 1<<20)
	for left := size; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(left, int64(len(buf)))]
		_, _ = rng.Read(buf)
		if _, err := f.Write(buf); err != nil {
			p.Fatalf("write: %v", err)
		}
	}
	if err := f.Sync(); err != nil {
		p.Fatalf("fsync: %v", err)
	}
}

// sampler keeps the highest RssAnon of one process.
type sampler struct {
	peak atomic.Int64
	quit chan struct{}
	done chan struct{}
}

func watch(process *harness.Process) *sampler {
	s := &sampler{quit: make(chan struct{}), done: make(chan struct{})}
	path := fmt.Sprintf("/proc/%d/status", process.Pid())
	go func() {
		defer close(s.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			s.peak.Store(max(s.peak.Load(), rssAnon(path)))
			select {
			case <-s.quit:
				return
			case <-tick.C:
			}
		}
	}()
	return s
}

func (s *sampler) stop() {
	close(s.quit)
	<-s.done
}

// rssAnon is in bytes, 0 when the process is gone.
func rssAnon(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
