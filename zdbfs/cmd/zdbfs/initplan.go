package main

import (
	"fmt"
	"strings"

	"qsfs/zdbfs/internal/exit"
)

// maxMeta is how many metadata nodes a configuration may have.
const maxMeta = 7

// plan is what init was asked for.
type plan struct {
	groups                          []string // name=host:port,…
	minimal, expected               int
	redundantGroups, redundantNodes int
	fallback                        string
	dataNS, metaNS, password        string
	state, mount, key, socket       string
	check                           string // value of the key, once it is made
}

// text gives the configuration file. Whether the policy can be honoured is found when it is parsed.
func (p plan) text() ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, `# QSFS. Both daemons read this file. It holds passwords: keep it at mode 0600.
minimal_shards = %d
expected_shards = %d
redundant_groups = %d
redundant_nodes = %d
socket = %q

`, p.minimal, p.expected, p.redundantGroups, p.redundantNodes, p.socket)
	type node struct{ address, group string }
	var byGroup [][]node
	for _, g := range p.groups {
		name, list, ok := strings.Cut(g, "=")
		if !ok || name == "" || list == "" {
			return nil, exit.Errorf(exit.Usage, "--group %q: it is written name=host:port,host:port", g)
		}
		fmt.Fprintf(&b, "[[groups]]\nname = %q\n", name)
		var nodes []node
		for _, a := range strings.Split(list, ",") {
			fmt.Fprintf(&b, "[[groups.backends]]\naddress = %q\nnamespace = %q\npassword = %q\n", a, p.dataNS, p.password)
			nodes = append(nodes, node{a, name})
		}
		byGroup = append(byGroup, nodes)
		b.WriteByte('\n')
	}
	// Metadata nodes are taken from the groups in turn, so that seven are spread as well as they can be.
	b.WriteString("[meta]\ntype = \"zdb\"\n[meta.config]\nprefix = \"qsfs\"\n")
	count := 0
	for i := 0; count < maxMeta; i++ {
		more := false
		for _, nodes := range byGroup {
			if i >= len(nodes) || count == maxMeta {
				continue
			}
			more = true
			count++
			n := nodes[i]
			fmt.Fprintf(&b, "[[meta.config.backends]]\naddress = %q\nnamespace = %q\npassword = %q\ngroup = %q\n", n.address, p.metaNS, p.password, n.group)
		}
		if !more {
			break
		}
	}
	fmt.Fprintf(&b, "\n[qsfs]\nstate = %q\nmount = %q\nkey_file = %q\n", p.state, p.mount, p.key)
	if p.check != "" {
		fmt.Fprintf(&b, "key_check = %q\n", p.check)
	}
	if p.fallback != "" {
		var k, n int
		if c, err := fmt.Sscanf(p.fallback, "%d-of-%d", &k, &n); err != nil || c != 2 {
			return nil, exit.Errorf(exit.Usage, "--fallback %q: it is written 3-of-4", p.fallback)
		}
		fmt.Fprintf(&b, "min_secrecy = %d\n\n[qsfs.fallback]\nminimal_shards = %d\nexpected_shards = %d\n", k, k, n)
	}
	return []byte(b.String()), nil
}
