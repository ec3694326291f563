package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"qsfs/zdb/client"
	"qsfs/zdb/server"
)

func serveCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve namespaces until SIGTERM",
		Long: `Serve the namespaces of a data directory over RESP.

A SIGTERM or SIGINT stops it: commands that have arrived are answered, the log is made durable, then it ends.
A SIGHUP makes it read the TLS files and the admin file anew and open its log file again; certificate files that
changed are found without it too. Under systemd (Type=notify) it tells when it is ready.

Without --admin or --admin-file every client is admin. So it does not start without one while namespaces keep what is deleted
(keep_deleted): any client could end that. Any password will do, it need not be the one of before.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 && (args[0] == "always" || args[0] == "none") {
				return usageError{fmt.Errorf("unexpected argument %q: write --sync=%s", args[0], args[0])}
			}
			return noArgs(nil, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return usageError{err}
			}
			out, err := openLog(f.logFile)
			if err != nil {
				return usageError{fmt.Errorf("--logfile: %w", err)}
			}
			defer out.Close()
			o.Log = f.logger(out)
			return runServe(cmd.Context(), f, o, out)
		},
	}
	f.register(c.Flags())
	return c
}

// runServe serves until ctx ends, which is how a signal arrives.
func runServe(ctx context.Context, f serveFlags, o server.Options, out *logFile) error {
	if f.changed("secure") {
		o.Log.Info("--secure is always so: a segment is synced before the next one begins")
	}
	defer tendMemory()()
	o.Working = server.SpareProcessor
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	var certs *server.Certificates
	if f.tlsCert != "" {
		var err error
		if certs, err = server.LoadCertificates(f.tlsCert, f.tlsKey, f.tlsClientCA, o.Log); err != nil {
			return usageError{err}
		}
	}
	srv, err := server.Open(ctx, o)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		o.Log.Info("stopped before it was ready")
		return nil
	}
	if errors.Is(err, server.ErrKeepNeedsAdmin) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	listeners, err := prepare(ctx, srv, f, certs)
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return errors.Join(err, srv.Close())
	}
	if err := srv.Ready(ctx); err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return errors.Join(err, srv.Close())
	}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- srv.Serve(l) }()
	}
	stopMetrics, err := serveMetrics(f.metrics, srv, o.Log)
	if err != nil {
		return errors.Join(err, srv.Close())
	}
	defer stopMetrics()
	notify(o.Log, daemon.SdNotifyReady)
	stopWatchdog := watchdog(o.Log)
	defer stopWatchdog()
	for serving := true; serving; {
		select {
		case <-ctx.Done():
			o.Log.Info("stopping", "connections", srv.Connections())
			serving = false
		case <-srv.StopRequested():
			o.Log.Info("stopping, a client asked for it", "connections", srv.Connections())
			serving = false
		case err = <-failed:
			serving = false
		case <-hup:
			f.reload(srv, certs, out, o.Log)
		}
	}
	notify(o.Log, daemon.SdNotifyStopping)
	drain, cancel := context.WithTimeout(context.Background(), o.DrainTimeout)
	defer cancel()
	err = errors.Join(err, srv.Shutdown(drain))
	if err == nil {
		o.Log.Info("stopped")
	}
	return err
}

// serveMetrics answers Prometheus at an address, if there is one.
func serveMetrics(address string, srv *server.Server, log *slog.Logger) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", srv.Metrics())
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "err", err)
		}
	}()
	log.Info("metrics", "address", l.Addr().String())
	return func() { web.Close(); <-done }, nil
}

// prepare makes the namespaces that were asked for and opens the listeners, so that nobody is served before both.
func prepare(ctx context.Context, srv *server.Server, f serveFlags, certs *server.Certificates) (listeners []net.Listener, err error) {
	for _, ns := range f.namespaces {
		name, password, _ := strings.Cut(ns, ":")
		if err := srv.EnsureNamespace(ctx, name, password); err != nil {
			return listeners, usageError{err}
		}
	}
	for _, address := range f.listen {
		l, err := server.Listen(ctx, address)
		if err != nil {
			return listeners, fmt.Errorf("listen on %s: %w", address, err)
		}
		if certs != nil && l.Addr().Network() == "tcp" && !strings.HasPrefix(address, "tcp:") {
			l = certs.Listener(l)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// reload is what SIGHUP asks for. What cannot be read leaves things as they are.
func (f *serveFlags) reload(srv *server.Server, certs *server.Certificates, out *logFile, log *slog.Logger) {
	if err := out.reopen(); err != nil {
		log.Error("open the log file anew", "err", err)
	}
	if certs != nil {
		if err := certs.Reload(); err != nil {
			log.Error("new TLS files are not usable, the old ones stay", "err", err)
		}
	}
	if f.adminFile != "" {
		raw, err := os.ReadFile(f.adminFile)
		if err == nil {
			err = srv.SetAdmin(client.Secret(strings.TrimSpace(string(raw))))
		}
		if err != nil {
			log.Error("read the admin file anew", "err", err)
		}
	}
	log.Info("reloaded")
}

// notify tells systemd, if it started us.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("notify systemd", "state", state, "err", err)
	}
}

// watchdog pings systemd as often as the unit asks for.
func watchdog(log *slog.Logger) (stop func()) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every / 2)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				notify(log, daemon.SdNotifyWatchdog)
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}
