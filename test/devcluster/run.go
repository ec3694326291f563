package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"qsfs/test/harness"
)

const nodes = 6

// stopPatience is how long Ctrl-C waits for what is not dispersed yet.
const stopPatience = 10 * time.Minute

func run(p *harness.Program, bin, mount, state string) {
	programs, err := filepath.Abs(bin)
	if err != nil {
		p.Fatalf("%v", err)
	}
	mount, err = filepath.Abs(mount)
	if err != nil {
		p.Fatalf("%v", err)
	}
	if state, err = filepath.Abs(state); err != nil {
		p.Fatalf("%v", err)
	}
	addresses, again := nodeAddresses(p, filepath.Join(state, "nodes.json"))
	fmt.Println("Starting six nodes, zstor and the mount …")
	c := harness.Start(p, harness.Options{
		Programs: harness.Programs(programs), Dir: state, Plain: true, Mount: mount,
		Address:  func(i int) string { return addresses[i] },
		Settings: map[string]string{"cache_size": `"10GiB"`},
	})
	explain(c, state, again)
	watch(p, c)
	stop(c)
}

// nodeAddresses gives the ports of the first run: a node is known by its address. again is true when there was one.
func nodeAddresses(p *harness.Program, path string) (addresses []string, again bool) {
	b, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(b, &addresses); err != nil || len(addresses) != nodes {
			p.Fatalf("%s does not name six addresses; give another STATE=, or repair it: %v", path, err)
		}
		for _, address := range addresses {
			l, err := net.Listen("tcp", address)
			if err != nil {
				p.Fatalf("a node of the earlier run listened on %s, which is taken now: %v", address, err)
			}
			_ = l.Close()
		}
		return addresses, true
	}
	if !errors.Is(err, fs.ErrNotExist) {
		p.Fatalf("%v", err)
	}
	for range nodes {
		addresses = append(addresses, harness.FreeAddress(p))
	}
	b, err = json.Marshal(addresses)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		p.Fatalf("remember the nodes' addresses: %v", err)
	}
	return addresses, false
}

// explain says in plain words what is where.
func explain(c *harness.Cluster, state string, again bool) {
	f := c.Front
	fmt.Printf("\nThe filesystem is mounted at %s", f.Mountpoint)
	if again {
		fmt.Print(", with everything that an earlier run left in it")
	}
	fmt.Printf(`.

  What you write there goes into logs in %s; every few seconds what is new is compressed,
  encrypted, cut into shards and sent to the nodes. Any four of six shards bring it back. While a whole group
  is down, three of four do. Files that are not used leave this machine when the cache (10 GiB) is full.

  configuration   %s
  key             %s   whoever loses it loses everything: keep a copy
  state           %s   losable: "zdbfs recover" brings it back from the nodes
  logs            %s

%s
  Try:  cp -a /usr/share/doc %s/
        bin/zdbfs status --config %s
        kill -9 %d %d   (two nodes of one group; writing and reading go on)

Ctrl-C disperses what is left, unmounts and stops everything.

`, f.State, f.Config, f.KeyFile, f.State, filepath.Join(state, "log"), c.Where(), f.Mountpoint, f.Config, c.Nodes[4].Pid(), c.Nodes[5].Pid())
}
