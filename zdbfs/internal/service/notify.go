package service

import (
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// SystemdNotify tells systemd, if it is there, and gives nothing back: a manager that cannot be told
// is no reason to stop.
func SystemdNotify(log *slog.Logger) func(string) {
	return func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Debug("the service manager was not told", "err", err)
		}
	}
}

// watchdogInterval is how often systemd wants to hear from us; 0: never.
func watchdogInterval() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}
	return d
}

// extendEvery is how often the service manager hears that a start goes on.
const extendEvery = 10 * time.Second

// extending runs a step that may take long (a log is read back, an index is made anew) and meanwhile
// asks the service manager for patience.
func (s *Service) extending(step func() error) error {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(extendEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s.extend()
			}
		}
	})
	defer wg.Wait()
	defer close(done)
	return step()
}
