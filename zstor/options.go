package zstor

import (
	"errors"
	"log/slog"
	"time"

	zdb "qsfs/zdb/client"
	"qsfs/zstor/config"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/backend/metanode"
	"qsfs/zstor/internal/backend/zdbnode"
	"qsfs/zstor/internal/keys"
	"qsfs/zstor/internal/quorum"
)

// Options of Open. Only Config is required.
type Options struct {
	Config *config.Config
	Ring   *keys.Ring   // nil: loaded as the configuration says
	Log    *slog.Logger // nil discards
	Host   string       // name of this machine, told to whoever is fenced

	// DataNode and MetaNode make the nodes; nil: zdb servers.
	DataNode func(config.Backend) (backend.Backend, error)
	MetaNode func(b config.Backend, prefix string) (quorum.Node, error)

	// Rescan is how often the state directory is looked through without being told. Default 10 s.
	Rescan time.Duration
	// Maintain is the pause between looks at the metadata nodes. Default 5 s.
	Maintain time.Duration
	// IdleCut is the age of the newest cut at which an idle filesystem cuts again. Default 5 min.
	IdleCut time.Duration
	// Grace is how long a stripe at the floor waits for its last shards. Default 5 s.
	Grace time.Duration
	// ProbeEvery is the pause between probes of a data node. Default 2 s.
	ProbeEvery time.Duration
	// TombstoneGrace is handed to package quorum. Default 1 h.
	TombstoneGrace time.Duration
}

// Errors that programs turn into exit codes. What comes over the socket has those of zstor/client.
var (
	// ErrInUse: another zstor has the state directory.
	ErrInUse = errors.New("another zstor uses this state directory")
	// ErrPassword: a node refused the configured password.
	ErrPassword = backend.ErrPassword
	// ErrNotEmpty: a recovery was asked for into a state directory that is in use.
	ErrNotEmpty = errors.New("the state directory is not empty")
)

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.Rescan, 10*time.Second)
	def(&o.Maintain, 5*time.Second)
	def(&o.IdleCut, 5*time.Minute)
	def(&o.Grace, 5*time.Second)
	def(&o.ProbeEvery, 2*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.DataNode == nil {
		o.DataNode = func(b config.Backend) (backend.Backend, error) { return zdbnode.New(zdbOptions(b)) }
	}
	if o.MetaNode == nil {
		o.MetaNode = func(b config.Backend, prefix string) (quorum.Node, error) {
			return metanode.New(zdbOptions(b), b.ID(), b.Group, prefix)
		}
	}
	return o
}

// zdbOptions keeps the buffers of the connections small: they are outside of the memory budget.
func zdbOptions(b config.Backend) zdb.Options {
	return zdb.Options{
		Address: b.Address, Namespace: b.Namespace, Password: zdb.Secret(b.Password.Reveal()),
		Conns: 2, MaxBuffered: 1 << 20, Timeout: 15 * time.Second, DialTimeout: 3 * time.Second,
	}
}
