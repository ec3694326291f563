package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"qsfs/zdb"
	"qsfs/zdb/client"
)

// Options of a Server. The directories are required; everything else has a default.
type Options struct {
	DataDir, IndexDir string
	// Admin is the password that gives admin rights, or its hash as HashPassword makes it. Without one, every connection
	// has them.
	Admin client.Secret
	// Protect lets new connections only read the default namespace until they select it with the admin password.
	Protect bool
	// MaxSize limits the default namespace, see NSSET maxsize. 0 leaves it to the default namespace's own setting.
	MaxSize uint64
	// Mode fixes the mode of all namespaces. Default: each has its own.
	Mode Mode
	// KeepDeleted is what namespaces that are made from now on begin with, see NSSET keep_deleted, and what the default
	// namespace has. It needs an admin password.
	KeepDeleted time.Duration
	// NoSync acknowledges writes before they are durable. The engine still syncs every FlushInterval.
	NoSync bool
	// FlushInterval is the age at which unsynced writes are made durable without being asked. Default: the engine's, 1 s.
	FlushInterval time.Duration
	// NoCompaction leaves the space of dead entries to COMPACT and to maxsize. CompactRate bounds what compaction copies in
	// bytes per second, while the disk is not much fuller than it should be; default the engine's, negative no bound.
	NoCompaction bool
	CompactRate  int64
	// Rotate is the age at which an active segment that has entries is sealed. 0 leaves it to the size.
	Rotate time.Duration
	// SegmentSize is the length at which a data segment is sealed. Default: the engine's.
	SegmentSize int64
	// Ballast is what each namespace holds back of the index file system, see zdb.NamespaceOptions. Default
	// zdb.DefaultBallast; negative is none.
	Ballast int64

	// MaxConns is the most connections; further ones are told so and closed. Default 4096.
	MaxConns int
	// MaxOutput is how many bytes of replies may wait for one client; then it is not served until it reads. A single larger
	// value passes. Default 1 MiB.
	MaxOutput int
	// MaxRequestMemory bounds what all requests larger than 64 KiB take together while they arrive. Default 256 MiB.
	MaxRequestMemory int64
	// WriteTimeout cuts off a client that takes nothing. Default 60 s.
	WriteTimeout time.Duration
	// IdleTimeout cuts off a client that asks nothing for so long. 0 is for ever.
	IdleTimeout time.Duration
	// AuthDelay is what the answer to a wrong password waits, for each one before on the same connection, and the pace of
	// attempts from an address that guesses; see guesses. Default 50 ms.
	AuthDelay time.Duration
	// RequestTimeout cuts off a client that stops in the middle of a request. Default 60 s.
	RequestTimeout time.Duration
	// DrainTimeout bounds how long a stop waits for clients to take their replies. Default 10 s.
	DrainTimeout time.Duration

	// Working is told when the engine begins to compact, check or the like, and calls done when it ends; nil: nobody is. See
	// SpareProcessor.
	Working func() (done func())

	// Metrics gathers what Server.Metrics shows.
	Metrics bool

	// Hook is a program that is told of events; see COMMANDS.md. Instance is what it knows this server by.
	Hook, Instance string

	Log *slog.Logger // nil discards

	// Engine may change the engine's options before it opens; for tests that make its files fail.
	Engine func(*zdb.Options)
}

func (o Options) withDefaults() Options {
	if o.Ballast == 0 {
		o.Ballast = zdb.DefaultBallast
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 4096
	}
	if o.MaxOutput <= 0 {
		o.MaxOutput = 1 << 20
	}
	if o.MaxRequestMemory <= 0 {
		o.MaxRequestMemory = 256 << 20
	}
	for _, d := range []struct {
		to    *time.Duration
		value time.Duration
	}{
		{&o.WriteTimeout, time.Minute}, {&o.RequestTimeout, time.Minute}, {&o.DrainTimeout, 10 * time.Second},
		{&o.AuthDelay, 50 * time.Millisecond},
	} {
		if *d.to <= 0 {
			*d.to = d.value
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate returns all faults.
func (o Options) Validate() error {
	var faults []error
	if o.DataDir == "" {
		faults = append(faults, errors.New("the data directory is missing"))
	}
	if o.IndexDir == "" {
		faults = append(faults, errors.New("the index directory is missing"))
	}
	if o.Protect && o.Admin == "" {
		faults = append(faults, errors.New("protecting the default namespace needs an admin password"))
	}
	if _, err := newAdminRights(o.Admin); err != nil {
		faults = append(faults, err)
	}
	if o.KeepDeleted < 0 || o.KeepDeleted > maxKeepDeleted {
		faults = append(faults, errors.New("the time to keep what was deleted is below 0 or above 100 years"))
	}
	if o.KeepDeleted > 0 && o.Admin == "" {
		faults = append(faults, errors.New("keeping what was deleted needs an admin password: without one everybody may end it"))
	}
	if o.IdleTimeout < 0 || o.FlushInterval < 0 || o.Rotate < 0 {
		faults = append(faults, errors.New("a time is negative"))
	}
	if o.Mode != ModeMixed && o.Mode != ModeUser && o.Mode != ModeSequential {
		faults = append(faults, fmt.Errorf("mode %q is neither user nor seq", o.Mode))
	}
	if o.SegmentSize < 0 {
		faults = append(faults, errors.New("the segment size is negative"))
	}
	return errors.Join(faults...)
}

// newSettings are those of a namespace that is made now.
func (o Options) newSettings() settings { return settings{KeepDeleted: keepTime(o.KeepDeleted)} }

// inlineMax is the longest value kept in the index too. Records of metadata nodes such as an epoch are below it.
const inlineMax = 256

func (o Options) namespaceOptions() zdb.NamespaceOptions {
	return zdb.NamespaceOptions{
		SegmentSize:   o.SegmentSize,
		Prewrite:      !o.NoSync, // where each acknowledgement is an fsync
		InlineMax:     inlineMax,
		FlushInterval: o.FlushInterval,
		Ballast:       max(o.Ballast, 0),
		Compaction:    zdb.Compaction{Auto: !o.NoCompaction, LiveFraction: liveFraction, RateBytes: o.CompactRate},
	}
}

// liveFraction is the share of the log that compaction keeps live. With it, 1 GiB takes less than 2 on disk at any time, all
// counted, and a byte that lives long is written about twice.
const liveFraction = 0.7

// Epoch is the epoch in the sequences of a server's log. Servers are never taken over by another machine.
const Epoch = 1

func (o Options) engineOptions() zdb.Options {
	e := zdb.Options{DataDir: o.DataDir, IndexDir: o.IndexDir, Epoch: Epoch, Log: o.Log, MaxIndexes: maxIndexes, Working: o.Working}
	if o.Engine != nil {
		o.Engine(&e)
	}
	return e
}

// maxIndexes is how many namespaces have their index open at once.
const maxIndexes = 32

func makeDir(path string) error { return os.MkdirAll(path, 0o700) }
