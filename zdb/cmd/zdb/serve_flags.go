package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"qsfs/zdb/client"
	"qsfs/zdb/server"
)

// serveFlags are the flags of zdb serve as they were typed.
type serveFlags struct {
	listen        []string
	port          int
	socket        string
	dualnet       bool
	metrics       string
	tlsCert       string
	tlsKey        string
	tlsClientCA   string
	mode          string
	sync          string
	syncTime      int
	admin         string
	adminFile     string
	namespaces    []string
	namespaceFile string
	segmentSize   string
	ballast       string
	maxSize       string
	keepDeleted   string
	rotate        int
	maxOutput     string
	maxRequests   string
	compaction    string
	compactRate   string
	logFile       string
	jsonLog       bool
	verbose       bool
	o             server.Options

	changed func(flag string) bool // was it on the command line
}

func (f *serveFlags) register(fl *pflag.FlagSet) {
	f.changed = fl.Changed
	fl.StringArrayVar(&f.listen, "listen", []string{"127.0.0.1"}, "`ADDRESS` to listen on: host:port, tcp:host:port (never TLS), tls:host:port, unix:/path, or a host alone, which takes --port; may be repeated")
	fl.IntVar(&f.port, "port", 9900, "`PORT` of the addresses that have none")
	fl.StringVar(&f.socket, "socket", "", "`PATH` of a unix socket to listen on instead of TCP")
	fl.BoolVar(&f.dualnet, "dualnet", false, "with --socket: listen on TCP too")
	fl.StringVar(&f.metrics, "metrics", "", "`ADDRESS` host:port where Prometheus finds /metrics; none without it")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "`FILE` with the certificate chain in PEM; every TCP address but tcp:… then takes TLS 1.3 only")
	fl.StringVar(&f.tlsKey, "tls-key", "", "`FILE` with the key of the certificate in PEM")
	fl.StringVar(&f.tlsClientCA, "tls-client-ca", "", "`FILE` with the authorities in PEM that must vouch for each client's certificate")
	fl.StringVar(&f.o.DataDir, "data", "./zdb-data", "`DIR` of the data segments")
	fl.StringVar(&f.o.IndexDir, "index", "./zdb-index", "`DIR` of the index segments and the index")
	fl.StringVar(&f.mode, "mode", "mixed", "`MODE` of the namespaces: user (keys are the client's), seq (the server numbers the values) or mixed (each its own)")
	fl.StringVar(&f.sync, "sync", "always", "`WHEN` writes are made durable: always (before the reply) or none (about once a second)")
	fl.Lookup("sync").NoOptDefVal = "always"
	fl.IntVar(&f.syncTime, "synctime", 0, "`SECONDS` after which the log is made durable; replies do not wait for it, as with --sync=none")
	fl.StringVar(&f.admin, "admin", "", "admin `PASSWORD`; without one every client is admin, and nothing with keep_deleted is served")
	fl.StringVar(&f.adminFile, "admin-file", "", "`FILE` that holds the admin password, or its hash as zdb passwd writes it")
	fl.BoolVar(&f.o.Protect, "protect", false, "let clients only read the default namespace until they select it with the admin password")
	fl.StringVar(&f.maxSize, "maxsize", "0", "`SIZE` that the default namespace may take; 0 for no limit")
	fl.StringVar(&f.keepDeleted, "keep-deleted", "0", "`TIME`, such as 30d, for which new namespaces keep what is deleted or overwritten; needs an admin password")
	fl.StringArrayVar(&f.namespaces, "namespace", nil, "`NAME[:PASSWORD]` of a namespace to make if it is missing; may be repeated")
	fl.StringVar(&f.namespaceFile, "namespace-file", "", "`FILE` with a NAME[:PASSWORD] per line, as --namespace")
	fl.StringVar(&f.segmentSize, "segment-size", "64MiB", "`SIZE` at which a data segment is sealed")
	fl.StringVar(&f.segmentSize, "datasize", "64MiB", "`SIZE`, the same as --segment-size")
	fl.IntVar(&f.rotate, "rotate", 0, "`SECONDS` after which a segment that has entries is sealed; 0 leaves it to the size")
	fl.StringVar(&f.compaction, "compaction", "auto", "`WHEN` the space of dead entries comes back: auto (in the background) or off (by zdb compact, or when maxsize is near)")
	fl.StringVar(&f.compactRate, "compact-rate", "32MiB", "`SIZE` that compaction copies per second, unless space is short; 0 for no bound")
	fl.StringVar(&f.ballast, "ballast", "96MiB", "`SIZE` of disk space that each namespace holds back for its index and for deletes on a full disk; 0 for none")
	fl.IntVar(&f.o.MaxConns, "max-connections", 4096, "most connections at once")
	fl.StringVar(&f.maxOutput, "max-output", "1MiB", "`SIZE` of the replies that may wait for one client, which is not served further until it reads")
	fl.StringVar(&f.maxRequests, "max-request-memory", "256MiB", "`SIZE` of all requests above 64 KiB together while they arrive")
	fl.DurationVar(&f.o.IdleTimeout, "idle-timeout", 0, "how long a client may be silent; 0 for ever")
	fl.DurationVar(&f.o.RequestTimeout, "request-timeout", time.Minute, "how long a request may take to arrive")
	fl.DurationVar(&f.o.WriteTimeout, "write-timeout", time.Minute, "how long a client may take none of its replies")
	fl.DurationVar(&f.o.AuthDelay, "auth-delay", 50*time.Millisecond, "how long the answer to a wrong password waits, for each that came before on the connection; and the pace of guesses per address")
	fl.DurationVar(&f.o.DrainTimeout, "drain-timeout", 10*time.Second, "how long a stop waits for clients to take their replies")
	fl.StringVar(&f.o.Hook, "hook", "", "`PROGRAM` that is told of events, see COMMANDS.md")
	fl.StringVar(&f.logFile, "logfile", "", "`FILE` to append the log to, instead of standard error; SIGHUP opens it anew")
	fl.BoolVar(&f.jsonLog, "json", false, "log as JSON")
	fl.BoolVar(&f.verbose, "verbose", false, "log more")
	// Flags of the original server that have another answer here.
	fl.Bool("secure", true, "")
	fl.Bool("background", false, "")
	fl.Bool("dump", false, "")
	for _, old := range []string{"secure", "background", "dump"} {
		fl.Lookup(old).Hidden = true
	}
}

// options checks the flags and returns all faults.
func (f *serveFlags) options() (server.Options, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	o := f.o
	switch f.mode {
	case "mixed":
	case "user", "seq":
		o.Mode = server.Mode(f.mode)
	case "direct": // what the original once called it
		o.Mode = server.ModeSequential
	default:
		fault("--mode %q: want user, seq or mixed", f.mode)
	}
	if f.changed("background") {
		fault("--background: let systemd run it (zdb@.service), or start it with setsid and &")
	}
	if f.changed("dump") {
		fault("--dump: use zdb dump, which lists the entries of a namespace")
	}
	f.syncing(&o, fault)
	f.administration(&o, fault)
	f.listening(&o, fault)
	f.sizes(&o, fault)
	if f.rotate < 0 {
		fault("--rotate %d: less than 0", f.rotate)
	}
	var err error
	if o.KeepDeleted, err = server.ParseAge(f.keepDeleted); err != nil {
		fault("--keep-deleted: %w", err)
	}
	o.Rotate = time.Duration(f.rotate) * time.Second
	if err := o.Validate(); err != nil {
		faults = append(faults, err)
	}
	return o, errors.Join(faults...)
}

type faultFunc func(format string, args ...any)

func (f *serveFlags) syncing(o *server.Options, fault faultFunc) {
	switch f.sync {
	case "always":
	case "none":
		o.NoSync = true
	default:
		fault("--sync %q: want always or none", f.sync)
	}
	switch {
	case f.syncTime < 0:
		fault("--synctime %d: less than 0", f.syncTime)
	case f.syncTime > 0 && f.changed("sync") && !o.NoSync:
		fault("--sync and --synctime exclude each other")
	case f.syncTime > 0:
		o.NoSync, o.FlushInterval = true, time.Duration(f.syncTime)*time.Second
	}
}

func (f *serveFlags) administration(o *server.Options, fault faultFunc) {
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
}

// listening turns what was said of addresses into full ones.
func (f *serveFlags) listening(o *server.Options, fault faultFunc) {
	if f.port < 0 || f.port > 65535 {
		fault("--port %d: not a port", f.port)
	}
	if f.dualnet && f.socket == "" {
		fault("--dualnet: needs --socket")
	}
	if (f.tlsCert == "") != (f.tlsKey == "") {
		fault("--tls-cert and --tls-key belong together")
	}
	if f.tlsClientCA != "" && f.tlsCert == "" {
		fault("--tls-client-ca: needs --tls-cert and --tls-key")
	}
	var full []string
	for _, address := range f.listen {
		if f.socket != "" && !f.dualnet && !strings.HasPrefix(address, "unix:") {
			continue
		}
		if !strings.HasPrefix(address, "unix:") {
			address = withPort(address, f.port)
		}
		if _, _, err := client.ParseAddress(address); err != nil {
			fault("--listen: %w", err)
		}
		if strings.HasPrefix(address, "tls:") && f.tlsCert == "" {
			fault("--listen %s: needs --tls-cert and --tls-key", address)
		}
		full = append(full, address)
	}
	if f.socket != "" {
		full = append(full, "unix:"+f.socket)
	}
	f.listen = full
	for _, address := range full {
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			o.Instance = "unix://" + path
			break
		}
		if o.Instance == "" {
			o.Instance = "tcp://" + strings.TrimPrefix(strings.TrimPrefix(address, "tcp:"), "tls:")
		}
	}
	if o.Metrics = f.metrics != ""; o.Metrics {
		if _, _, err := net.SplitHostPort(f.metrics); err != nil {
			fault("--metrics: %w", err)
		}
	}
}

// withPort completes an address that is a host alone.
func withPort(address string, port int) string {
	scheme, host := "", address
	for _, s := range []string{"tcp:", "tls:"} {
		if h, ok := strings.CutPrefix(address, s); ok {
			scheme, host = s, strings.TrimPrefix(h, "//")
		}
	}
	if _, _, err := net.SplitHostPort(host); err == nil {
		return scheme + host
	}
	plain := strings.Trim(host, "[]")
	if strings.Contains(plain, ":") && net.ParseIP(plain) == nil {
		return address // neither a host nor an address: what is wrong is said later
	}
	return scheme + net.JoinHostPort(plain, strconv.Itoa(port))
}

func (f *serveFlags) sizes(o *server.Options, fault faultFunc) {
	var maxSize, maxOutput int64
	for _, size := range []struct {
		flag, text string
		min, most  int64
		to         *int64
	}{
		{"segment-size", f.segmentSize, 512 << 10, 4 << 30, &o.SegmentSize},
		{"compact-rate", f.compactRate, 0, 1 << 50, &o.CompactRate},
		{"ballast", f.ballast, 0, 1 << 50, &o.Ballast},
		{"maxsize", f.maxSize, 0, 1 << 62, &maxSize},
		{"max-output", f.maxOutput, 64 << 10, 1 << 30, &maxOutput},
		{"max-request-memory", f.maxRequests, 16 << 20, 1 << 50, &o.MaxRequestMemory},
	} {
		n, err := parseSize(size.text)
		switch {
		case err == nil && n < size.min:
			err = fmt.Errorf("less than %d bytes", size.min)
		case err == nil && n > size.most:
			err = fmt.Errorf("more than %d bytes", size.most)
		}
		if err != nil {
			fault("--%s %q: %w", size.flag, size.text, err)
		}
		*size.to = n
	}
	o.MaxSize, o.MaxOutput = uint64(maxSize), int(maxOutput)
	if o.CompactRate == 0 {
		o.CompactRate = -1 // no bound; 0 would be the default
	}
	switch f.compaction {
	case "auto":
	case "off":
		o.NoCompaction = true
	default:
		fault("--compaction %q: want auto or off", f.compaction)
	}
	if o.Ballast == 0 {
		o.Ballast = -1 // none; 0 would be the default
	}
}

func (f *serveFlags) logger(to *logFile) *slog.Logger {
	level := &slog.HandlerOptions{Level: slog.LevelInfo}
	if f.verbose {
		level.Level = slog.LevelDebug
	}
	if f.jsonLog {
		return slog.New(slog.NewJSONHandler(to, level))
	}
	return slog.New(slog.NewTextHandler(to, level))
}

// parseSize reads a number of bytes, a fraction too, with an optional unit: k or K, M, G, T, with or without iB.
func parseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "kKMGTiB")
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n < 0 || strings.ContainsAny(number, "eExXpPnN_+") {
		return 0, errors.New("not a size such as 64MiB")
	}
	shift := 0
	switch unit := text[len(number):]; unit {
	case "", "B":
	case "k", "K", "KiB":
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
	if n > float64(int64(1)<<62>>shift) {
		return 0, errors.New("too large")
	}
	return int64(n * float64(int64(1)<<shift)), nil
}
