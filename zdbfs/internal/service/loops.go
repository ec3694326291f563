package service

import (
	"context"
	"time"

	"qsfs/zdbfs"
)

const (
	// evictEvery is how often the cache is measured; a filesystem of very many segments is measured
	// less often, for looking at them takes time.
	evictEvery   = time.Second
	manySegments = 20000
	// soonest is the least time between two measurements while a writer waits for room.
	soonest = 100 * time.Millisecond
	// capacityEvery is how often zstor is asked how much room the nodes have.
	capacityEvery = 30 * time.Second
)

// startLoops begins what runs until stop.
func (s *Service) startLoops() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.link.start()
	s.loops.Go(func() { s.evictLoop(ctx) })
	s.loops.Go(func() { s.capacityLoop(ctx) })
	// The manager counts during a stop as well, so this loop ends last.
	alive, cancel := context.WithCancel(context.Background())
	s.cancelWatchdog = cancel
	s.watchdog.Go(func() { s.watchdogLoop(alive) })
}

func (s *Service) stopWatchdog() {
	s.cancelWatchdog()
	s.watchdog.Wait()
}

func (s *Service) evictLoop(ctx context.Context) {
	for {
		every := evictEvery
		if s.eng.data.Stats().Segments > manySegments {
			every *= 10
		}
		if !s.waitWanted(ctx, every) {
			return
		}
		var age time.Duration
		if t, ok := s.link.since(); ok {
			age = time.Since(t)
		}
		s.evictor.pass(ctx, age)
	}
}

func (s *Service) capacityLoop(ctx context.Context) {
	for {
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		if st, err := s.zstor.Status(callCtx); err == nil {
			s.capacity.update(st)
		}
		cancel()
		if !wait(ctx, capacityEvery) {
			return
		}
	}
}

// watchdogLoop tells the service manager that we live, as long as the filesystem answers and the link
// goes round.
func (s *Service) watchdogLoop(ctx context.Context) {
	every := watchdogInterval()
	if every == 0 {
		return
	}
	for wait(ctx, every/2) {
		if s.healthy(ctx, every/4) {
			s.opt.Notify("WATCHDOG=1")
		} else {
			s.log.Error("the filesystem does not answer itself; without a change the service manager will restart it")
		}
	}
}

// healthy asks the core for what it must always have at hand. The link may take its time: its calls
// are bounded, and a slow disk is no reason to be killed. A stop is bounded in itself.
func (s *Service) healthy(ctx context.Context, within time.Duration) bool {
	select {
	case <-s.mount.Done():
		return true
	default:
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.fs.Getattr(ctx, zdbfs.RootIno)
		done <- err
	}()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case err := <-done:
		return err == nil || ctx.Err() != nil
	case <-timer.C:
		return false
	}
}

// wait sleeps; false when ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// waitWanted is wait that ends when a writer waits for room.
func (s *Service) waitWanted(ctx context.Context, d time.Duration) bool {
	least := d / (evictEvery / soonest)
	if !wait(ctx, least) {
		return false
	}
	timer := time.NewTimer(d - least)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.pressure.wanted:
	case <-timer.C:
	}
	return true
}
