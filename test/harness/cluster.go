package harness

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"qsfs/zstor/config"
)

// Options shape a cluster. The zero value is six nodes in three groups, 4-of-6 with the fallback 3-of-4.
type Options struct {
	Programs Programs // built when empty
	Dir      string   // holds everything that is not given elsewhere; a temporary directory when empty
	Nodes    int      // 6 when 0
	Groups   int      // 3 when 0; node i is in group i / (Nodes / Groups)
	Policy   Policy
	Proxies  bool               // put a Proxy in front of each node
	Settings map[string]string  // keys of [qsfs] with their TOML values, over the ones of quickSettings
	Plain    bool               // the programs' own defaults instead of quickSettings
	NodeDir  func(i int) string // where node i keeps its data
	Address  func(i int) string // where node i listens; a free port when nil
	State    string             // state directory of the first front machine
	Mount    string             // its mount point
	Key      string             // key file; made when it is not there
}

// quickSettings make everything happen within a test's patience: small segments, short intervals.
var quickSettings = map[string]string{
	"segment_size_data": `"1MiB"`,
	"segment_size_meta": `"1MiB"`,
	"sync_interval":     `"500ms"`,
	"flush_interval":    `"100ms"`,
	"fetch_timeout":     `"10s"`,
	"cache_size":        `"1GiB"`,
}

// Cluster is a set of nodes and the front machines that use them. Front is the first of these.
type Cluster struct {
	Nodes []*Node
	Front *Front
	Crash CrashLog

	dir      string
	key      string
	programs Programs
	policy   Policy
	settings map[string]string
	t        TB
}

// New prepares a cluster without starting anything.
func New(t TB, o Options) *Cluster {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 6
	}
	if o.Groups == 0 {
		o.Groups = 3
	}
	if o.Policy == (Policy{}) {
		o.Policy = defaultPolicy
	}
	if o.Programs == "" {
		o.Programs = Build(t)
	}
	if o.Dir == "" {
		o.Dir = TempDir(t)
	}
	if o.NodeDir == nil {
		o.NodeDir = func(i int) string { return filepath.Join(o.Dir, "nodes", fmt.Sprint(i)) }
	}
	c := &Cluster{
		dir: o.Dir, programs: o.Programs, policy: o.Policy, settings: make(map[string]string), t: t,
		Crash: CrashLog{path: filepath.Join(o.Dir, "crash.log")},
	}
	if !o.Plain {
		maps.Copy(c.settings, quickSettings)
	}
	maps.Copy(c.settings, o.Settings)
	if o.Address == nil {
		o.Address = func(int) string { return FreeAddress(t) }
	}
	if err := os.MkdirAll(c.logs(), 0o700); err != nil {
		t.Fatalf("make log directory: %v", err)
	}
	perGroup := max(1, o.Nodes/o.Groups)
	for i := range o.Nodes {
		group := string(rune('a' + min(i/perGroup, o.Groups-1)))
		c.Nodes = append(c.Nodes, c.newNode(o, i, group))
	}
	c.key = o.Key
	if c.key == "" {
		c.key = filepath.Join(o.Dir, "key")
	}
	if _, err := os.Stat(c.key); os.IsNotExist(err) {
		if _, err := config.GenerateKey(c.key); err != nil {
			t.Fatalf("make a key: %v", err)
		}
	}
	c.Front = c.NewFront("front", o.State, o.Mount)
	return c
}

// Start prepares a cluster and starts all of it, up to the mount.
func Start(t TB, o Options) *Cluster {
	t.Helper()
	c := New(t, o)
	c.StartNodes()
	c.Front.Up()
	return c
}

// StartNodes starts every node and makes its namespaces.
func (c *Cluster) StartNodes() {
	c.t.Helper()
	for _, n := range c.Nodes {
		n.Start()
	}
	for _, n := range c.Nodes {
		n.waitUp()
		n.MakeNamespaces()
	}
}

// Group gives the nodes of one group.
func (c *Cluster) Group(name string) []*Node {
	var in []*Node
	for _, n := range c.Nodes {
		if n.Group == name {
			in = append(in, n)
		}
	}
	return in
}

// Traffic sums the counters of the nodes that run.
func (c *Cluster) Traffic() Traffic {
	c.t.Helper()
	var sum Traffic
	for _, n := range c.Nodes {
		if !n.Alive() {
			continue
		}
		one := n.Traffic()
		sum = sum.Sub(Traffic{}.Sub(one))
	}
	return sum
}

// Policy that the cluster was made with.
func (c *Cluster) Policy() Policy { return c.policy }

func (c *Cluster) groupNames() []string {
	names := make(map[string]bool)
	for _, n := range c.Nodes {
		names[n.Group] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (c *Cluster) logs() string { return filepath.Join(c.dir, "log") }

// Where says in words what is where.
func (c *Cluster) Where() string {
	var b strings.Builder
	for _, g := range c.groupNames() {
		fmt.Fprintf(&b, "group %s:", g)
		for _, n := range c.Group(g) {
			fmt.Fprintf(&b, "  node %d at %s in %s", n.Index, n.Endpoint(), n.Dir)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
