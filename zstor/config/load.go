package config

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// maxFile bounds what is read: a configuration is a page, not a disk image.
const maxFile = 1 << 20

// Load reads and validates a configuration file. Its error lists every fault
// and matches ErrInvalid.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, readFault(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, readFault(path, err)
	}
	doc, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, readFault(path, err)
	}
	c, err := Parse(path, doc)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 && c.hasPassword() {
		c.Warnings = append(c.Warnings, fmt.Sprintf("%s holds passwords and can be read by others (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path))
	}
	return c, nil
}

func readFault(path string, err error) error {
	msg := "cannot read the configuration: " + err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		msg = "there is no such configuration file"
	}
	return Errors{{File: path, Msg: msg, Err: err}}
}

func (c *Config) hasPassword() bool {
	for _, b := range append(c.Nodes(), c.Meta.Backends...) {
		if !b.Password.Empty() {
			return true
		}
	}
	return false
}

// Parse reads and validates a configuration. The name is used in messages.
func Parse(name string, doc []byte) (*Config, error) {
	if len(doc) > maxFile {
		return nil, Errors{{File: name, Msg: fmt.Sprintf("is larger than %v: not a configuration file", Size(maxFile))}}
	}
	tree := map[string]any{}
	if err := toml.NewDecoder(bytes.NewReader(doc)).Decode(&tree); err != nil {
		line := 0
		var de *toml.DecodeError
		if errors.As(err, &de) {
			line, _ = de.Position()
		}
		// The decoder's message is kept, its excerpt of the text is not: it
		// could show a password.
		return nil, Errors{{File: name, Line: line, Msg: "not valid TOML: " + strings.TrimPrefix(err.Error(), "toml: ")}}
	}
	b := &binder{file: name, lines: findPositions(doc)}
	c := Default()
	c.File = name
	c.bind(&table{b: b, value: tree})
	c.applyDerived()
	c.check(b)
	if err := b.errs.asError(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Config) bind(t *table) {
	t.integer("minimal_shards", &c.MinimalShards)
	t.integer("expected_shards", &c.ExpectedShards)
	t.integer("redundant_groups", &c.RedundantGroups)
	t.integer("redundant_nodes", &c.RedundantNodes)
	t.str("root", &c.Root)
	t.str("socket", &c.Socket)
	for i, g := range t.tables("groups") {
		c.Groups = append(c.Groups, bindGroup(g, i))
	}
	if m := t.table("meta"); m != nil {
		c.bindMeta(m)
	}
	if z := t.table("compression"); z != nil {
		z.choice("algorithm", &c.Compression, CompressionZstd, CompressionNone, "snappy")
		if c.Compression == "snappy" {
			// The older format knew only snappy: it means "compress".
			c.Compression = CompressionZstd
		}
		z.done()
	}
	if q := t.table("qsfs"); q != nil {
		c.QSFS.bind(q)
	}
	// Where the older format's names have a new home they keep their meaning.
	qsfs, _ := t.value["qsfs"].(map[string]any)
	if t.has("zdbfs_mountpoint") {
		t.str("zdbfs_mountpoint", &c.QSFS.Mount)
		if _, both := qsfs["mount"]; both {
			t.b.fault("zdbfs_mountpoint", "is the older name of mount under [qsfs], which is there too: keep one")
		}
	}
	if t.has("max_zdb_data_dir_size") {
		var mib int
		t.integer("max_zdb_data_dir_size", &mib)
		c.QSFS.CacheSize = Size(mib) << 20
		if _, both := qsfs["cache_size"]; both {
			t.b.fault("max_zdb_data_dir_size", "is the older name of cache_size under [qsfs], which is there too: keep one")
		}
	}
	t.retired("encryption", "keys do not belong into the configuration: put the master key into a file of mode 0600 and name it as key_file under [qsfs] (zdbfs init makes one)")
	t.retired("pid_file", "is not used any more: a lock in the state directory keeps a second daemon away; remove this key")
	t.retired("zdb_data_dir_path", "is not used any more: segments live under state of [qsfs]; remove this key")
	t.retired("prometheus_port", "is not supported by this version; remove this key")
	t.done()
}

func bindGroup(t *table, i int) Group {
	g := Group{Name: fmt.Sprintf("group%d", i+1)}
	t.str("name", &g.Name)
	for _, b := range t.tables("backends") {
		be := bindBackend(b)
		be.Group = g.Name
		b.done()
		g.Backends = append(g.Backends, be)
	}
	t.done()
	return g
}

func bindBackend(t *table) Backend {
	be := Backend{Namespace: "default"}
	t.str("address", &be.Address)
	t.str("namespace", &be.Namespace)
	t.secret("password", &be.Password)
	var durable string
	t.str("durable", &durable)
	switch durable {
	case "", "on-ack":
	case "never":
		be.Durable.Never = true
	default:
		d, err := time.ParseDuration(durable)
		if err != nil || d < 0 {
			t.b.fault(t.key("durable"), "must be \"on-ack\", \"never\", or the time after which an acknowledged write is on disk, like \"30s\"")
		}
		be.Durable.After = d
	}
	return be
}

func (c *Config) bindMeta(t *table) {
	kind := "zdb"
	t.choice("type", &kind, "zdb")
	if m := t.table("config"); m != nil {
		m.str("prefix", &c.Meta.Prefix)
		m.integer("write_quorum", &c.Meta.WriteQuorum)
		m.integer("read_quorum", &c.Meta.ReadQuorum)
		for _, b := range m.tables("backends") {
			be := bindBackend(b)
			b.str("group", &be.Group)
			b.done()
			c.Meta.Backends = append(c.Meta.Backends, be)
		}
		m.retired("encryption", "records are encrypted with a key derived from key_file under [qsfs]; remove this table")
		m.done()
	}
	t.done()
}

func (q *QSFS) bind(t *table) {
	t.str("state", &q.State)
	t.str("mount", &q.Mount)
	t.str("key_file", &q.KeyFile)
	t.str("key_check", &q.KeyCheck)
	t.str("passphrase_file", &q.PassphraseFile)
	t.choice("sync", &q.Sync, SyncLocal, SyncRemote)
	t.duration("sync_interval", &q.SyncInterval)
	t.duration("flush_interval", &q.FlushInterval)
	t.duration("max_unshipped_age", &q.MaxUnshippedAge)
	t.size("cache_size", &q.CacheSize)
	t.choice("evict", &q.Evict, EvictAuto, EvictFull)
	t.yesNo("offline_mount", &q.OfflineMount)
	t.duration("fetch_timeout", &q.FetchTimeout)
	t.choice("transport", &q.Transport, TransportAuto, TransportBazil)
	t.size("segment_size_data", &q.SegmentSizeData)
	t.size("segment_size_meta", &q.SegmentSizeMeta)
	if t.value["slice"] == "auto" {
		t.take("slice")
	} else {
		t.size("slice", &q.Slice)
	}
	t.integer("min_secrecy", &q.MinSecrecy)
	t.integer("ack_floor", &q.AckFloor)
	t.duration("confirm_after", &q.ConfirmAfter)
	t.size("zstor_memory", &q.ZstorMemory)
	t.boolean("hedge", &q.Hedge)
	if f := t.table("fallback"); f != nil {
		q.Fallback = &Fallback{}
		f.integer("minimal_shards", &q.Fallback.MinimalShards)
		f.integer("expected_shards", &q.Fallback.ExpectedShards)
		f.done()
	}
	for _, a := range t.tables("argon2id") {
		q.Argon2id = append(q.Argon2id, bindArgon2id(a))
	}
	t.done()
}

func bindArgon2id(t *table) Argon2id {
	var a Argon2id
	var epoch, passes, threads int
	var salt string
	t.integer("key_epoch", &epoch)
	t.str("salt", &salt)
	t.integer("time", &passes)
	t.size("memory", &a.Memory)
	t.integer("threads", &threads)
	t.str("check", &a.Check)
	t.done()
	var err error
	if a.Salt, err = hex.DecodeString(salt); err != nil || len(a.Salt) < 16 {
		t.b.fault(t.key("salt"), "must be at least 16 bytes in hex")
	}
	if threads > 255 {
		t.b.fault(t.key("threads"), "must be at most 255")
		threads = 0
	}
	a.KeyEpoch, a.Time, a.Threads = uint32(epoch), uint32(passes), uint8(threads)
	return a
}
