package harness

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Policy is how data is spread; the zero value stands for 4-of-6 with the fallback 3-of-4.
type Policy struct {
	MinimalShards, ExpectedShards   int
	RedundantGroups, RedundantNodes int
	// FallbackMinimal and FallbackExpected: no fallback when both are 0 and Policy is not the zero value.
	FallbackMinimal, FallbackExpected int
}

var defaultPolicy = Policy{
	MinimalShards: 4, ExpectedShards: 6, RedundantGroups: 1,
	FallbackMinimal: 3, FallbackExpected: 4,
}

// WithoutFallback is the default policy where objects wait while a group is down.
var WithoutFallback = Policy{MinimalShards: 4, ExpectedShards: 6, RedundantGroups: 1}

// writeConfig writes the configuration of a front machine.
func (f *Front) writeConfig() error {
	var b strings.Builder
	p := f.cluster.policy
	fmt.Fprintf(&b, "minimal_shards = %d\nexpected_shards = %d\nredundant_groups = %d\nredundant_nodes = %d\n",
		p.MinimalShards, p.ExpectedShards, p.RedundantGroups, p.RedundantNodes)
	fmt.Fprintf(&b, "socket = %q\n\n", f.Socket)

	for _, group := range f.cluster.groupNames() {
		fmt.Fprintf(&b, "[[groups]]\nname = %q\n", group)
		for _, n := range f.cluster.Nodes {
			if n.Group == group {
				b.WriteString("[[groups.backends]]\n" + backend(n, DataNamespace))
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("[meta]\ntype = \"zdb\"\n[meta.config]\nprefix = \"qsfs\"\n")
	for _, n := range f.cluster.Nodes[:min(7, len(f.cluster.Nodes))] {
		fmt.Fprintf(&b, "[[meta.config.backends]]\n%sgroup = %q\n", backend(n, MetaNamespace), n.Group)
	}

	fmt.Fprintf(&b, "\n[qsfs]\nstate = %q\nmount = %q\nkey_file = %q\n", f.State, f.Mountpoint, f.KeyFile)
	if p.FallbackMinimal > 0 {
		fmt.Fprintf(&b, "min_secrecy = %d\n", p.FallbackMinimal)
	}
	for _, key := range slices.Sorted(maps.Keys(f.Settings)) {
		fmt.Fprintf(&b, "%s = %s\n", key, f.Settings[key])
	}
	if p.FallbackMinimal > 0 {
		fmt.Fprintf(&b, "[qsfs.fallback]\nminimal_shards = %d\nexpected_shards = %d\n", p.FallbackMinimal, p.FallbackExpected)
	}
	return os.WriteFile(f.Config, []byte(b.String()), 0o600)
}

func backend(n *Node, namespace string) string {
	return fmt.Sprintf("address = %q\nnamespace = %q\npassword = %q\n", n.Endpoint(), namespace, n.Password)
}
