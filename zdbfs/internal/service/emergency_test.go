package service

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEmergency: a node is away, nothing is at full strength. The cache takes what it can, then segments go that have shards
// to spare, those with the most of them first, and the writer goes on.
func TestEmergency(t *testing.T) {
	m := newMachine(t, `segment_size_data = "1MiB"`, `cache_size = "16MiB"`)
	m.z.with(func() { m.z.weak = true })
	m.mount()
	data := pattern(6, 40<<20)
	for i := range 10 {
		writeSynced(t, m.path(fmt.Sprint(i)), data[i*4<<20:(i+1)*4<<20])
		m.ship() // the fake takes a cut with each announcement
	}
	// 40 MiB were written, the pass leaves less than 15.
	m.eventually("the budget", func() error {
		c := m.status().Cache
		if c.EvictedWeak < c.Evicted { // more, while a pass is under way
			t.Fatalf("%d segments evicted, %d of them in an emergency", c.Evicted, c.EvictedWeak)
		}
		if c.EvictedWeak < 6 || c.Used > 15<<20 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	m.z.with(func() {
		// Within one pass, that is between two questions that are no emergencies.
		least, gone, better := 1<<30, 0, 0
		for _, a := range m.z.asked {
			switch {
			case !a.emergency:
				least = 1 << 30
				continue
			case a.spare > least:
				t.Errorf("segment %d with %d shards to spare went after one with %d", a.segment, a.spare, least)
			case a.spare == 2:
				better++
			}
			least = a.spare
			gone++
		}
		if gone < 6 || better == 0 {
			t.Errorf("%d questions in an emergency, %d for segments with two shards to spare", gone, better)
		}
	})
	dropKernelCaches(t)
	for i := range 10 {
		wantFile(t, m.path(fmt.Sprint(i)), data[i*4<<20:(i+1)*4<<20])
	}
	m.stop()
}

// TestEvictFullKeepsWhatIsWeak: with evict = "full" nobody asks for a segment that is not at full strength. It counts as what
// cannot go: writers are refused, and go on when it is.
func TestEvictFullKeepsWhatIsWeak(t *testing.T) {
	m := newMachine(t, `segment_size_data = "1MiB"`, `cache_size = "16MiB"`, `evict = "full"`)
	m.z.with(func() { m.z.weak = true })
	m.mount()
	data := pattern(7, 1<<20)
	var err error
	n := 0
	for ; n < 200 && err == nil; n++ {
		err = writeDirect(m.path(fmt.Sprint(n)), data)
		if n%4 == 3 {
			m.ship() // so that the pressure is not for want of a cut
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || n > 40 {
		t.Fatalf("after %d MiB: %v", n, err)
	}
	m.ship()
	m.eventually("the count", func() error {
		if c := m.status().Cache; c.Undispersed < 14<<20 || c.Problem == "" {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	c := m.status().Cache
	if c.Evicted != 0 || c.EvictedWeak != 0 {
		t.Errorf("%d segments were evicted", c.Evicted)
	}
	t.Logf("refused after %d MiB: %s", n, c.Problem)
	m.z.with(func() {
		if len(m.z.asked) > 0 {
			t.Errorf("zstor was asked %d times, first %+v", len(m.z.asked), m.z.asked[0])
		}
		m.z.weak = false
	})
	m.eventually("room", func() error {
		m.ship()
		return writeDirect(m.path("later"), data)
	})
	dropKernelCaches(t)
	for i := range n - 1 {
		wantFile(t, m.path(fmt.Sprint(i)), data)
	}
	m.stop()
}

// TestWhatIsInMemoryTakesRoom: what was written and is in no segment yet counts as well. Looking at the segments does not make
// room for it again.
func TestWhatIsInMemoryTakesRoom(t *testing.T) {
	m := newMachine(t, `segment_size_data = "1MiB"`, `cache_size = "16MiB"`)
	b, err := os.ReadFile(m.config)
	must(t, err)
	for _, slow := range []string{"sync_interval", "flush_interval"} {
		b = regexp.MustCompile(slow+` = "[^"]*"`).ReplaceAll(b, []byte(slow+` = "1m"`))
	}
	must(t, os.WriteFile(m.config, b, 0o600))
	m.mount()
	data := pattern(8, 1<<20)
	n := 0
	for err = nil; n < 40 && err == nil; n++ {
		err = writeDirect(m.path(fmt.Sprint(n)), data)
		time.Sleep(evictEvery / 10) // it looks several times
	}
	if !errors.Is(err, syscall.ENOSPC) || n > 20 {
		t.Errorf("%d MiB went into a cache of 16, and then %v: %+v", n, err, m.status().Cache)
	}
	m.stop()
}

// TestStopWhileWritersWait: a stop does not wait for writes that wait for room, which nobody makes any more. What was synced
// before is there after the next start.
func TestStopWhileWritersWait(t *testing.T) {
	m := newMachine(t, `segment_size_data = "1MiB"`, `cache_size = "16MiB"`, `evict = "full"`)
	m.z.with(func() { m.z.weak = true })
	m.mount()
	data := pattern(9, 32<<20)
	writeSynced(t, m.path("before"), data[:8<<20])
	ended := make(chan error, 1)
	go func() {
		f, err := os.Create(m.path("held"))
		if err == nil {
			if _, err = f.Write(data); err == nil {
				err = f.Sync()
			}
			err = errors.Join(err, f.Close())
		}
		ended <- err
	}()
	m.eventually("a writer that waits", func() error {
		select {
		case err := <-ended:
			t.Fatalf("the writer was not held up: %v", err)
		default:
		}
		if c := m.status().Cache; !c.Throttled || !c.Full {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	start := time.Now()
	m.stop()
	t.Logf("stopped after %v; the writer heard: %v", time.Since(start), <-ended)
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("the stop took %v", d)
	}
	m.mount()
	wantFile(t, m.path("before"), data[:8<<20])
	m.stop()
}

// writeDirect makes a file past the kernel's cache, so that a refusal is heard at once.
func writeDirect(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|unix.O_DIRECT, 0o644)
	if err != nil {
		return err
	}
	_, err = unix.Write(int(f.Fd()), data)
	return errors.Join(err, f.Close())
}
