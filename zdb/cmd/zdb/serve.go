package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"qsfs/zdb/client"
	"qsfs/zdb/server"
)

// serveFlags are the flags of zdb serve as they were typed.
type serveFlags struct {
	listen        []string
	mode          string
	sync          string
	admin         string
	adminFile     string
	namespaces    []string
	namespaceFile string
	segmentSize   string
	ballast       string
	jsonLog       bool
	verbose       bool
	o             server.Options
}

func serveCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve namespaces until SIGTERM",
		Long: `Serve the namespaces of a data directory over RESP.

A SIGTERM or SIGINT stops it: commands that have arrived are answered, the log is made durable, then it ends.
Under systemd (Type=notify) it tells when it is ready.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return usageError{err}
			}
			return runServe(cmd.Context(), f, o)
		},
	}
	fl := c.Flags()
	fl.StringArrayVar(&f.listen, "listen", []string{"127.0.0.1:9900"}, "`ADDRESS` to listen on: host:port or unix:/path; may be repeated")
	fl.StringVar(&f.o.DataDir, "data", "./zdb-data", "`DIR` of the data segments")
	fl.StringVar(&f.o.IndexDir, "index", "./zdb-index", "`DIR` of the index segments and the index")
	fl.StringVar(&f.mode, "mode", "user", "`MODE` of the namespaces: user (keys are the client's)")
	fl.StringVar(&f.sync, "sync", "always", "`WHEN` writes are made durable: always (before the reply) or none (about once a second)")
	fl.StringVar(&f.admin, "admin", "", "admin `PASSWORD`; without one every client is admin")
	fl.StringVar(&f.adminFile, "admin-file", "", "`FILE` that holds the admin password")
	fl.BoolVar(&f.o.Protect, "protect", false, "let clients only read the default namespace until they select it with the admin password")
	fl.StringArrayVar(&f.namespaces, "namespace", nil, "`NAME[:PASSWORD]` of a namespace to make if it is missing; may be repeated")
	fl.StringVar(&f.namespaceFile, "namespace-file", "", "`FILE` with a NAME[:PASSWORD] per line, as --namespace")
	fl.StringVar(&f.segmentSize, "segment-size", "64MiB", "`SIZE` at which a data segment is sealed")
	fl.StringVar(&f.ballast, "ballast", "96MiB", "`SIZE` of disk space that each namespace holds back for its index and for deletes on a full disk; 0 for none")
	fl.IntVar(&f.o.MaxConns, "max-connections", 4096, "most connections at once")
	fl.DurationVar(&f.o.DrainTimeout, "drain-timeout", 10*time.Second, "how long a stop waits for clients to take their replies")
	fl.BoolVar(&f.jsonLog, "json", false, "log as JSON")
	fl.BoolVar(&f.verbose, "verbose", false, "log more")
	return c
}

// options checks the flags and returns all faults.
func (f *serveFlags) options() (server.Options, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	o := f.o
	switch f.mode {
	case "user":
	case "seq", "mixed":
		fault("--mode %s: this version serves user mode only", f.mode)
	default:
		fault("--mode %q: want user", f.mode)
	}
	switch f.sync {
	case "always":
	case "none":
		o.NoSync = true
	default:
		fault("--sync %q: want always or none", f.sync)
	}
	o.Admin = client.Secret(f.admin)
	if f.adminFile != "" {
		if f.admin != "" {
			fault("--admin and --admin-file exclude each other")
		}
		raw, err := os.ReadFile(f.adminFile)
		if err != nil {
			fault("--admin-file: %w", err)
		} else if o.Admin = client.Secret(strings.TrimSpace(string(raw))); o.Admin == "" {
			fault("--admin-file %s: the file is empty", f.adminFile)
		}
	}
	if f.namespaceFile != "" {
		raw, err := os.ReadFile(f.namespaceFile)
		if err != nil {
			fault("--namespace-file: %w", err)
		}
		for line := range strings.Lines(string(raw)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				f.namespaces = append(f.namespaces, line)
			}
		}
	}
	for _, size := range []struct {
		flag, text string
		min        int64
		to         *int64
	}{
		{"segment-size", f.segmentSize, 1 << 20, &o.SegmentSize},
		{"ballast", f.ballast, 0, &o.Ballast},
	} {
		n, err := parseSize(size.text)
		if err == nil && n < size.min {
			err = fmt.Errorf("less than %d bytes", size.min)
		}
		if err != nil {
			fault("--%s %q: %w", size.flag, size.text, err)
		}
		*size.to = n
	}
	if o.Ballast == 0 {
		o.Ballast = -1 // none; 0 would be the default
	}
	for _, address := range f.listen {
		if _, _, err := client.ParseAddress(address); err != nil {
			fault("--listen: %w", err)
		}
	}
	if err := o.Validate(); err != nil {
		faults = append(faults, err)
	}
	o.Log = f.logger()
	return o, errors.Join(faults...)
}

func (f *serveFlags) logger() *slog.Logger {
	level := &slog.HandlerOptions{Level: slog.LevelInfo}
	if f.verbose {
		level.Level = slog.LevelDebug
	}
	if f.jsonLog {
		return slog.New(slog.NewJSONHandler(os.Stderr, level))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, level))
}

// parseSize reads a number of bytes with an optional unit: K, M, G, T, with or without iB.
func parseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "KMGTiB")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New("not a size such as 64MiB")
	}
	shift := 0
	switch unit := text[len(number):]; unit {
	case "", "B":
	case "K", "KiB":
		shift = 10
	case "M", "MiB":
		shift = 20
	case "G", "GiB":
		shift = 30
	case "T", "TiB":
		shift = 40
	default:
		return 0, fmt.Errorf("unit %q is none of K, M, G, T", unit)
	}
	if n > 1<<62>>shift {
		return 0, errors.New("too large")
	}
	return n << shift, nil
}

// runServe serves until ctx ends, which is how a signal arrives.
func runServe(ctx context.Context, f serveFlags, o server.Options) error {
	srv, err := server.Open(ctx, o)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		o.Log.Info("stopped before it was ready")
		return nil
	}
	if err != nil {
		return err
	}
	listeners, err := prepare(ctx, srv, f)
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return errors.Join(err, srv.Close())
	}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- srv.Serve(l) }()
	}
	notify(o.Log, daemon.SdNotifyReady)
	stopWatchdog := watchdog(o.Log)
	defer stopWatchdog()
	select {
	case <-ctx.Done():
		o.Log.Info("stopping", "connections", srv.Connections())
	case err = <-failed:
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

// prepare makes the namespaces that were asked for and opens the listeners, so that nobody is served before both.
func prepare(ctx context.Context, srv *server.Server, f serveFlags) (listeners []net.Listener, err error) {
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
		listeners = append(listeners, l)
	}
	return listeners, nil
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
