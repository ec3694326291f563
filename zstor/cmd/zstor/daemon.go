package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"qsfs/zstor"
	"qsfs/zstor/config"
	"qsfs/zstor/internal/api"
)

const (
	// stopWithin bounds the last round after SIGTERM.
	stopWithin = 60 * time.Second
	// outsideBudget is what the daemon needs beside data in flight: connections, records, code.
	outsideBudget = 96 << 20
)

func daemonCmd(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "daemon",
		Short: "Watch the state directory, disperse it, and serve the socket",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			return runDaemon(cmd.Context(), c, newLog(g.debug))
		},
	}
}

// newLog writes to stderr; under systemd the journal adds the time.
func newLog(verbose bool) *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if verbose {
		o.Level = slog.LevelDebug
	}
	if os.Getenv("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

func runDaemon(ctx context.Context, c *config.Config, log *slog.Logger) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(c.QSFS.ZstorMemory) + outsideBudget)
	}
	l, err := listen(c.Socket)
	if err != nil {
		return err
	}
	host, _ := os.Hostname() // told to people; empty is no harm
	store, err := zstor.Open(ctx, zstor.Options{Config: c, Log: log, Host: host})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	srv := api.Serve(l, store, log)
	log.Info("zstor is ready", "socket", c.Socket, "state", c.QSFS.State)
	notify(log, sd.SdNotifyReady)
	defer watchdog(log)() // systemd counts during the stop too
	<-ctx.Done()

	log.Info("stopping: the last round is finished first", "at most", stopWithin)
	notify(log, sd.SdNotifyStopping)
	stopCtx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	store.Drain(stopCtx)
	closeCtx, cancelClose := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancelClose()
	err = srv.Close(closeCtx)
	done, cancelDone := context.WithCancel(context.Background())
	cancelDone() // drained already
	return errors.Join(ignoreDeadline(err), store.Close(done))
}

// ignoreDeadline: calls that were still waiting were cut off, as they had to be.
func ignoreDeadline(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// listen opens the socket with mode 0600. A socket that nobody answers on is left over from a
// process that died.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("socket directory: %w", err)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close() // somebody is there, that is all that was asked
		return nil, fmt.Errorf("%w: a daemon answers on %s", zstor.ErrInUse, path)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove left-over socket: %w", err)
		}
	}
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

func notify(log *slog.Logger, state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		log.Warn("cannot notify systemd", "error", err)
	}
}

// watchdog pats systemd's watchdog until the returned function is called.
func watchdog(log *slog.Logger) (end func()) {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("cannot read the watchdog's interval", "error", err)
	}
	if err != nil || every <= 0 {
		return func() {}
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every / 3)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				notify(log, sd.SdNotifyWatchdog)
			}
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}
