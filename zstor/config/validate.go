package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"qsfs/zstor/internal/placement"
)

// Validate returns all faults of a configuration made in memory.
func (c *Config) Validate() error {
	b := &binder{file: c.File}
	c.applyDerived()
	c.check(b)
	return b.errs.asError()
}

// applyDerived fills what was left out and follows from the rest.
func (c *Config) applyDerived() {
	q := &c.QSFS
	if q.MinSecrecy == 0 {
		q.MinSecrecy = c.MinimalShards
	}
	if q.AckFloor == 0 {
		q.AckFloor = c.MinimalShards + 1
	}
	for i := range c.Meta.Backends {
		m := &c.Meta.Backends[i]
		if m.Group != "" {
			continue
		}
		// A metadata namespace beside a data namespace is in the same group.
		for _, d := range c.Nodes() {
			if d.Address == m.Address {
				m.Group = d.Group
			}
		}
	}
	def := placement.DefaultQuorum(len(c.Meta.Backends))
	if c.Meta.WriteQuorum == 0 {
		c.Meta.WriteQuorum = def.Write
	}
	if c.Meta.ReadQuorum == 0 {
		c.Meta.ReadQuorum = def.Read
	}
}

func (c *Config) check(b *binder) {
	c.checkNodes(b)
	c.checkPolicy(b)
	c.checkMeta(b)
	c.checkPaths(b)
	c.checkLimits(b)
	c.checkKeys(b)
}

func (c *Config) checkNodes(b *binder) {
	if len(c.Groups) == 0 {
		b.fault("groups", "there are no nodes: at least one [[groups]] with [[groups.backends]] is needed")
	}
	names, nodes := map[string]bool{}, map[string]string{}
	hosts := map[string]string{}
	for gi, g := range c.Groups {
		path := index("groups", gi)
		if names[g.Name] {
			b.fault(path+".name", "a group named %q is already there", g.Name)
		}
		names[g.Name] = true
		if len(g.Backends) == 0 {
			b.fault(path, "group %q has no [[groups.backends]]", g.Name)
		}
		for bi, be := range g.Backends {
			p := index(path+".backends", bi)
			checkBackend(b, p, be)
			if other, ok := nodes[be.Address]; ok && be.Address != "" {
				b.fault(p+".address", "%s is already used by %s: two namespaces of one server are one node, they fail together", be.Address, other)
			}
			nodes[be.Address] = be.ID()
			c.warnSharedHost(hosts, be, g.Name)
		}
	}
}

// warnSharedHost speaks up when one machine is in two groups. Loopback is left
// out: there a whole cluster on one machine is the point.
func (c *Config) warnSharedHost(hosts map[string]string, be Backend, group string) {
	host, _, err := net.SplitHostPort(be.Address)
	if err != nil || host == "localhost" || net.ParseIP(host).IsLoopback() {
		return
	}
	if other, ok := hosts[host]; ok && other != group {
		msg := fmt.Sprintf("host %s is in group %q and in group %q: losing it takes nodes of both", host, other, group)
		if !slices.Contains(c.Warnings, msg) {
			c.Warnings = append(c.Warnings, msg)
		}
	}
	hosts[host] = group
}

func checkBackend(b *binder, path string, be Backend) {
	if be.Address == "" {
		b.fault(path+".address", "is missing: host:port of the node")
	} else if err := checkAddress(be.Address); err != nil {
		b.fault(path+".address", "%v", err)
	}
	if n := be.Namespace; n == "" || len(n) > 128 || strings.ContainsAny(n, "/ \t\r\n") {
		b.fault(path+".namespace", "must be 1 to 128 characters without blanks and slashes")
	}
}

func checkAddress(a string) error {
	if p, ok := strings.CutPrefix(a, "unix:"); ok {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("%q: a unix socket needs an absolute path", a)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not host:port (an IPv6 address stands in brackets)", a)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q: %q is not a port", a, port)
	}
	return nil
}

// Policy gives the main policy in the words of package placement.
func (c *Config) Policy() placement.Policy {
	return placement.Policy{K: c.MinimalShards, N: c.ExpectedShards, RedundantGroups: c.RedundantGroups, RedundantNodes: c.RedundantNodes}
}

// Topology gives the data nodes by their ids.
func (c *Config) Topology() placement.Topology {
	t := make(placement.Topology, len(c.Groups))
	for i, g := range c.Groups {
		t[i].Name = g.Name
		for _, be := range g.Backends {
			t[i].Nodes = append(t[i].Nodes, be.ID())
		}
	}
	return t
}

// FallbackPolicy gives the fallback in the words of package placement, or nil.
func (c *Config) FallbackPolicy() *placement.Fallback {
	if c.QSFS.Fallback == nil {
		return nil
	}
	return &placement.Fallback{K: c.QSFS.Fallback.MinimalShards, N: c.QSFS.Fallback.ExpectedShards}
}

func (c *Config) checkPolicy(b *binder) {
	p, t := c.Policy(), c.Topology()
	addRefusals(b, placement.Check(p, t))
	if placement.CheckCode(p.K, p.N) != nil {
		return // what is built on the main code would only repeat it
	}
	addRefusals(b, placement.CheckFallback(p, c.FallbackPolicy(), c.QSFS.MinSecrecy, t))
	if f := c.QSFS.AckFloor; f < p.K+1 || f > p.N {
		b.fault("qsfs.ack_floor", "%d is not between minimal_shards + 1 = %d and expected_shards = %d", f, p.K+1, p.N)
	}
}

func addRefusals(b *binder, err error) {
	var list placement.Refusals
	if errors.As(err, &list) {
		for _, r := range list {
			b.fault(r.About, "%s", r.Reason)
		}
	}
}

func (c *Config) checkMeta(b *binder) {
	counts, at := map[string]int{}, map[string]bool{}
	faults := len(b.errs)
	for i, be := range c.Meta.Backends {
		p := index("meta.config.backends", i)
		checkBackend(b, p, be)
		if at[be.Address] {
			b.fault(p+".address", "%s is already a metadata node: two namespaces of one server are one node", be.Address)
		}
		at[be.Address] = true
		if slices.ContainsFunc(c.Nodes(), func(d Backend) bool { return d.ID() == be.ID() }) {
			b.fault(p+".namespace", "%s already holds data: records need a namespace of their own", be.ID())
		}
		if !be.Durable.OnAck() {
			b.fault(p+".durable", "a node that is not durable on acknowledgement cannot hold records")
		}
		known := slices.ContainsFunc(c.Groups, func(g Group) bool { return g.Name == be.Group })
		switch {
		case be.Group == "":
			b.fault(p, "group is missing: no data node has this address, so say which group it is in")
		case !known:
			b.fault(p+".group", "there is no group %q", be.Group)
		}
		counts[be.Group]++
	}
	if len(b.errs) > faults {
		return // counts per group mean nothing until the nodes are right
	}
	var perGroup []int
	for _, n := range counts {
		perGroup = append(perGroup, n)
	}
	addRefusals(b, placement.CheckQuorum(c.Quorum(), perGroup, c.RedundantGroups))
}

// Quorum gives the metadata quorums in the words of package placement.
func (c *Config) Quorum() placement.Quorum {
	return placement.Quorum{Write: c.Meta.WriteQuorum, Read: c.Meta.ReadQuorum}
}

func (c *Config) checkPaths(b *binder) {
	for _, p := range []struct{ key, value string }{
		{"socket", c.Socket}, {"qsfs.state", c.QSFS.State}, {"qsfs.mount", c.QSFS.Mount},
	} {
		if !filepath.IsAbs(p.value) {
			b.fault(p.key, "%q is not an absolute path", p.value)
		}
	}
	if c.Root != "" && !filepath.IsAbs(c.Root) {
		b.fault("root", "%q is not an absolute path", c.Root)
	}
	// sun_path of a unix socket has 108 bytes, with the final zero.
	if len(c.Socket) > 107 {
		b.fault("socket", "is longer than the 107 bytes that a unix socket path may have")
	}
	inside := func(dir, path string) bool {
		rel, err := filepath.Rel(dir, path)
		return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
	}
	if filepath.IsAbs(c.QSFS.State) && filepath.IsAbs(c.QSFS.Mount) {
		if inside(c.QSFS.Mount, c.QSFS.State) {
			b.fault("qsfs.state", "lies under the mount point: the filesystem would wait for itself")
		} else if inside(c.QSFS.State, c.QSFS.Mount) {
			b.fault("qsfs.mount", "lies in the state directory")
		}
	}
}

func (c *Config) checkLimits(b *binder) {
	q := &c.QSFS
	durationIn := func(key string, v, low, high time.Duration) {
		if v < low || v > high {
			b.fault("qsfs."+key, "%v is not between %v and %v", v, low, high)
		}
	}
	sizeIn := func(key string, v, low, high Size) {
		if v < low || v > high {
			b.fault("qsfs."+key, "%v is not between %v and %v", v, low, high)
		}
	}
	durationIn("sync_interval", q.SyncInterval, 100*time.Millisecond, time.Hour)
	durationIn("flush_interval", q.FlushInterval, 10*time.Millisecond, time.Minute)
	durationIn("fetch_timeout", q.FetchTimeout, 100*time.Millisecond, time.Hour)
	durationIn("confirm_after", q.ConfirmAfter, 0, 24*time.Hour)
	durationIn("max_unshipped_age", q.MaxUnshippedAge, time.Second, 24*time.Hour)
	if q.MaxUnshippedAge < q.SyncInterval {
		b.fault("qsfs.max_unshipped_age", "%v is shorter than sync_interval (%v): writers would always be slowed", q.MaxUnshippedAge, q.SyncInterval)
	}
	sizeIn("segment_size_data", q.SegmentSizeData, 64<<10, 1<<30)
	sizeIn("segment_size_meta", q.SegmentSizeMeta, 64<<10, 256<<20)
	sizeIn("zstor_memory", q.ZstorMemory, 8<<20, 1<<40)
	sizeIn("cache_size", q.CacheSize, 1<<20, 1<<60)
	if q.CacheSize < 2*q.SegmentSizeData {
		b.fault("qsfs.cache_size", "%v does not hold two data segments of %v", q.CacheSize, q.SegmentSizeData)
	}
	c.checkSlice(b)
}

// A shard, with its header, stays within 8 MiB.
const maxSlice = 8<<20 - 4<<10

func (c *Config) checkSlice(b *binder) {
	s := c.QSFS.Slice
	if s != 0 && (s < 64<<10 || s > maxSlice || s%(4<<10) != 0) {
		b.fault("qsfs.slice", "%v must be \"auto\" or a multiple of 4KiB between 64KiB and %v (a shard with its header must stay within 8MiB)", s, Size(maxSlice))
		return
	}
	if k, n := c.MinimalShards, c.ExpectedShards; placement.CheckCode(k, n) == nil {
		// Package, shards and plaintext of two stripes at once are the least
		// that uploading works with.
		if need := Size(2 * (2*k + n) * c.SliceSize(k)); need > c.QSFS.ZstorMemory {
			b.fault("qsfs.zstor_memory", "%v is too little for stripes of %d slices of %v: at least %v is needed", c.QSFS.ZstorMemory, k, Size(c.SliceSize(k)), need)
		}
	}
}

// CredentialPrefix marks a file that systemd hands over as a credential.
const CredentialPrefix = "credential:"

func (c *Config) checkKeys(b *binder) {
	q := &c.QSFS
	checkKeyPath := func(key, value string) {
		if name, ok := strings.CutPrefix(value, CredentialPrefix); ok {
			if name == "" || strings.ContainsAny(name, "/\x00") {
				b.fault(key, "%q does not name a credential", value)
			}
		} else if !filepath.IsAbs(value) {
			b.fault(key, "%q is neither an absolute path nor credential:NAME", value)
		}
	}
	if d, err := hex.DecodeString(q.KeyCheck); err != nil || len(d) != 0 && len(d) != 8 {
		b.fault("qsfs.key_check", "must be a key-check value, 16 hex digits")
	}
	if len(q.Argon2id) == 0 {
		checkKeyPath("qsfs.key_file", q.KeyFile)
		if q.PassphraseFile != "" {
			b.fault("qsfs.passphrase_file", "has no [[qsfs.argon2id]] that says how a key is made of it")
		}
		return
	}
	if q.PassphraseFile == "" {
		b.fault("qsfs.argon2id", "needs passphrase_file under [qsfs]: where the passphrase is read from")
	} else {
		checkKeyPath("qsfs.passphrase_file", q.PassphraseFile)
	}
	seen := map[uint32]bool{}
	for i, a := range q.Argon2id {
		p := index("qsfs.argon2id", i)
		if a.KeyEpoch == 0 || seen[a.KeyEpoch] {
			b.fault(p+".key_epoch", "must be a number from 1 that no other table has")
		}
		seen[a.KeyEpoch] = true
		if a.Time < 1 || a.Time > 1000 {
			b.fault(p+".time", "must be between 1 and 1000")
		}
		if a.Threads < 1 {
			b.fault(p+".threads", "must be at least 1")
		}
		if a.Memory < 8<<20 || a.Memory > 4<<30 {
			b.fault(p+".memory", "must be between 8MiB and 4GiB")
		}
		if d, err := hex.DecodeString(a.Check); err != nil || len(d) == 0 {
			b.fault(p+".check", "must be the key-check value in hex")
		}
	}
}
