// Package config reads the one configuration file of QSFS, /etc/qsfs/qsfs.toml,
// which the filesystem daemon and the dispersal daemon share.
//
// Load reports all faults of a file at once, each with its line: unknown keys
// are faults, and so is a policy that the nodes cannot honour. The keys of the
// older zstor format keep their meaning; keys of our own live under [qsfs].
// Values that are secret have the type Secret and never print.
package config

import (
	"path/filepath"
	"time"
)

// DefaultFile is where the configuration is looked for.
const DefaultFile = "/etc/qsfs/qsfs.toml"

// Config is a loaded and validated configuration.
type Config struct {
	// File is the path the configuration was read from; empty for one made
	// in memory.
	File string

	MinimalShards   int // k: shards that are needed to read
	ExpectedShards  int // n: shards that are stored
	RedundantGroups int // whole groups that may be lost
	RedundantNodes  int // nodes of each remaining group that may be lost as well

	// Root is the directory under which `zstor store` accepts files; it is
	// stripped from their names. Empty: any file, full path as name.
	Root string
	// Socket is the unix socket of the dispersal daemon.
	Socket string

	Groups      []Group
	Meta        Meta
	Compression string // CompressionZstd or CompressionNone
	QSFS        QSFS

	// Warnings are things worth saying that do not stop anything.
	Warnings []string
}

// Values of Config.Compression.
const (
	CompressionZstd = "zstd"
	CompressionNone = "none"
)

// Group is a set of nodes that can fail together: a site, a rack, a provider.
type Group struct {
	Name     string
	Backends []Backend
}

// Backend is one namespace on one node.
type Backend struct {
	Address   string // host:port, or unix:/path
	Namespace string
	Password  Secret
	Group     string // name of the group the node is in
	Durable   Durability
}

// ID names the backend in placements, records and messages; it holds no secret.
func (b Backend) ID() string { return b.Address + "/" + b.Namespace }

// Durability is what an acknowledgement of a backend is worth.
type Durability struct {
	Never bool          // an acknowledgement promises nothing: confirmed by reading back
	After time.Duration // on stable storage this long after the acknowledgement; 0: with it
}

// OnAck reports whether an acknowledged write is on stable storage.
func (d Durability) OnAck() bool { return !d.Never && d.After == 0 }

// String gives the value as it stands in the file.
func (d Durability) String() string {
	switch {
	case d.Never:
		return "never"
	case d.After > 0:
		return d.After.String()
	}
	return "on-ack"
}

// Meta describes the metadata nodes, which hold the records.
type Meta struct {
	Prefix      string // part of every record name: two filesystems may share a namespace
	Backends    []Backend
	WriteQuorum int // W: nodes that acknowledge a record before it counts
	ReadQuorum  int // R: nodes that answer before a record is the newest
}

// Evict, OfflineMount, Sync and Transport values.
const (
	EvictAuto = "auto" // a full cache may also drop objects that are above the floor but not complete
	EvictFull = "full" // only completely placed objects are ever dropped

	SyncLocal  = "local"  // fsync returns when the data is on local stable storage
	SyncRemote = "remote" // fsync returns when the data is dispersed too

	TransportAuto  = "auto"
	TransportBazil = "bazil"
)

// QSFS is the table [qsfs]: what the older format had no words for.
type QSFS struct {
	State   string // state directory of the front machine
	Mount   string // mount point
	KeyFile string // path, or credential:NAME for a systemd credential
	// KeyCheck is the check value of a key of this filesystem, hex: a wrong key
	// file is known before anything else. Empty: not checked here.
	KeyCheck string

	Sync            string        // SyncLocal or SyncRemote
	SyncInterval    time.Duration // how often the tail is shipped
	FlushInterval   time.Duration // the longest that a write stays only in memory
	MaxUnshippedAge time.Duration // older than this, writers are slowed
	CacheSize       Size          // bytes of local segments and fetched stripes
	Evict           string        // EvictAuto or EvictFull
	OfflineMount    bool          // mount on local data while the metadata nodes are away
	FetchTimeout    time.Duration // how long a read of dispersed data waits
	Transport       string        // TransportAuto or TransportBazil

	SegmentSizeData Size
	SegmentSizeMeta Size

	Slice        Size          // bytes of plaintext per data shard of a stripe; 0: by k
	MinSecrecy   int           // lowest k that any data may ever be stored with
	AckFloor     int           // shards acknowledged before an object counts as stored
	ConfirmAfter time.Duration // unconfirmed shards are read back after this
	ZstorMemory  Size          // budget of the dispersal daemon for data in flight
	Hedge        bool          // ask a further node when one is slow

	Fallback *Fallback // nil: none, objects wait locally
	Argon2id []Argon2id
	// PassphraseFile holds the passphrase of Argon2id keys: a path, or
	// credential:NAME.
	PassphraseFile string
}

// Fallback is the policy used on what lives when the main one is below its floor.
type Fallback struct {
	MinimalShards  int
	ExpectedShards int
}

// Argon2id holds the public parameters from which a passphrase gives the
// master key of one key epoch.
type Argon2id struct {
	KeyEpoch uint32
	Salt     []byte
	Time     uint32 // passes
	Memory   Size
	Threads  uint8
	Check    string // key-check value, hex
}

// Nodes lists the data backends of all groups, in the order of the file.
func (c *Config) Nodes() []Backend {
	var out []Backend
	for _, g := range c.Groups {
		out = append(out, g.Backends...)
	}
	return out
}

// SocketDir is the directory of the control sockets.
func (c *Config) SocketDir() string { return filepath.Dir(c.Socket) }

// SliceSize is the plaintext per data shard of a stripe coded with k data shards.
func (c *Config) SliceSize(k int) int {
	if c.QSFS.Slice > 0 {
		return int(c.QSFS.Slice)
	}
	if k <= 8 {
		return 256 << 10
	}
	return 64 << 10
}

// Default returns the configuration with every value that has a default.
// Policy, groups and metadata nodes have none.
func Default() *Config {
	return &Config{
		Socket:      "/run/qsfs/zstor.sock",
		Compression: CompressionZstd,
		Meta:        Meta{Prefix: "qsfs"},
		QSFS: QSFS{
			State:           "/var/lib/qsfs",
			Mount:           "/mnt/qsfs",
			KeyFile:         "/etc/qsfs/key",
			Sync:            SyncLocal,
			SyncInterval:    5 * time.Second,
			FlushInterval:   time.Second,
			MaxUnshippedAge: 60 * time.Second,
			CacheSize:       10 << 30,
			Evict:           EvictAuto,
			OfflineMount:    true,
			FetchTimeout:    30 * time.Second,
			Transport:       TransportAuto,
			SegmentSizeData: 64 << 20,
			SegmentSizeMeta: 16 << 20,
			ConfirmAfter:    10 * time.Minute,
			ZstorMemory:     128 << 20,
			Hedge:           true,
		},
	}
}
