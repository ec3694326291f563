package service

import (
	"log/slog"
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
