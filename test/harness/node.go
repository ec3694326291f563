package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Names of the two namespaces that each node holds for a filesystem.
const (
	DataNamespace = "qsfs-data"
	MetaNamespace = "qsfs-meta"
)

// Node is one zdb server with a data and a metadata namespace.
type Node struct {
	*Process
	Index    int
	Group    string
	Address  string // of the server itself
	Proxy    *Proxy // in front of it, nil unless asked for
	Dir      string // holds data/ and index/
	Password string // of both namespaces
	admin    string
	t        TB
}

// newNode prepares a node; its directory may hold the state of an earlier run.
func (c *Cluster) newNode(o Options, index int, group string) *Node {
	t, dir := c.t, o.NodeDir(index)
	n := &Node{
		Index: index, Group: group, Dir: dir, Address: o.Address(index),
		Password: fmt.Sprintf("node-%d-password", index), admin: fmt.Sprintf("node-%d-admin", index), t: t,
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatalf("make node directory: %v", err)
	}
	args := []string{
		c.programs.Path("zdb"), "serve",
		"--listen", n.Address, "--data", filepath.Join(dir, "data"), "--index", filepath.Join(dir, "index"),
		"--mode", "user", "--admin", n.admin, "--sync=always",
	}
	if !o.Plain {
		args = append(args, "--segment-size", "2MiB", "--ballast", "0")
	}
	n.Process = NewProcess(t, c.logs(), fmt.Sprintf("node%d", index), args...)
	if o.Proxies {
		n.Proxy = NewProxy(t, n.Address)
	}
	return n
}

// Endpoint is the address that the configuration names: the proxy's, if there is one.
func (n *Node) Endpoint() string {
	if n.Proxy != nil {
		return n.Proxy.Address
	}
	return n.Address
}

// Up starts the server and waits until it answers.
func (n *Node) Up() {
	n.t.Helper()
	n.Start()
	n.waitUp()
}

func (n *Node) waitUp() {
	n.t.Helper()
	Eventually(n.t, 30*time.Second, n.Name+" to answer", func() (bool, string) {
		if !n.Alive() {
			return false, "it has ended:\n" + tail(n.Log(), 2000)
		}
		_, err := n.command("PING")
		return err == nil, fmt.Sprint(err)
	})
}

// MakeNamespaces creates the two namespaces with their password, where they are missing.
func (n *Node) MakeNamespaces() {
	n.t.Helper()
	for _, name := range []string{DataNamespace, MetaNamespace} {
		n.makeNamespace(name)
	}
}

func (n *Node) makeNamespace(name string) {
	n.t.Helper()
	c := n.Admin()
	defer c.Close()
	for _, cmd := range [][]string{
		{"NSNEW", name}, {"NSSET", name, "password", n.Password}, {"NSSET", name, "public", "0"},
	} {
		_, err := c.Do(cmd...)
		if cmd[0] == "NSNEW" && err != nil && strings.Contains(err.Error(), "not available") {
			return // it is there from an earlier run, with its password
		}
		if err != nil {
			n.t.Fatalf("%s: %v: %v", n.Name, cmd[:2], err)
		}
	}
}

// WipeMeta deletes the metadata namespace and makes it anew, empty: a disk that was replaced.
func (n *Node) WipeMeta() {
	n.t.Helper()
	n.wipe(MetaNamespace)
}

// WipeData does the same with the data namespace.
func (n *Node) WipeData() {
	n.t.Helper()
	n.wipe(DataNamespace)
}

func (n *Node) wipe(name string) {
	n.t.Helper()
	c := n.Admin()
	defer c.Close()
	if _, err := c.Do("NSDEL", name); err != nil {
		n.t.Fatalf("%s: NSDEL: %v", n.Name, err)
	}
	n.makeNamespace(name)
}

// Keys is the number of keys in the data namespace.
func (n *Node) Keys() int64 { n.t.Helper(); return n.info("entries") }

// DataBytes is the size of all values in the data namespace.
func (n *Node) DataBytes() int64 { n.t.Helper(); return n.info("data_size_bytes") }

// info gives a number that the node tells about its data namespace.
func (n *Node) info(field string) int64 {
	n.t.Helper()
	c, err := Dial(n.Address)
	if err != nil {
		n.t.Fatalf("%s: %v", n.Name, err)
	}
	defer c.Close()
	info, err := c.Do("NSINFO", DataNamespace)
	if err != nil {
		n.t.Fatalf("%s: NSINFO: %v", n.Name, err)
	}
	return fields(info)[field]
}

// Traffic is what a node has served since its start, from its own counters.
type Traffic struct {
	Commands, BytesIn, BytesOut, GetBytes, SetBytes, Gets, Sets int64
}

// Traffic asks the node for its counters.
func (n *Node) Traffic() Traffic {
	n.t.Helper()
	info, err := n.command("INFO")
	if err != nil {
		n.t.Fatalf("%s: INFO: %v", n.Name, err)
	}
	f := fields(info)
	if _, ok := f["get_bytes"]; !ok {
		n.t.Fatalf("%s: INFO has no get_bytes:\n%s", n.Name, info)
	}
	return Traffic{
		Commands: f["commands"], BytesIn: f["bytes_in"], BytesOut: f["bytes_out"],
		GetBytes: f["get_bytes"], SetBytes: f["set_bytes"], Gets: f["gets"], Sets: f["sets"],
	}
}

// Sub is the traffic since an earlier reading.
func (a Traffic) Sub(b Traffic) Traffic {
	return Traffic{
		Commands: a.Commands - b.Commands, BytesIn: a.BytesIn - b.BytesIn, BytesOut: a.BytesOut - b.BytesOut,
		GetBytes: a.GetBytes - b.GetBytes, SetBytes: a.SetBytes - b.SetBytes, Gets: a.Gets - b.Gets, Sets: a.Sets - b.Sets,
	}
}

// Admin opens a connection with admin rights.
func (n *Node) Admin() *Conn {
	n.t.Helper()
	c, err := Dial(n.Address)
	if err == nil {
		_, err = c.Do("AUTH", n.admin)
	}
	if err != nil {
		n.t.Fatalf("%s: %v", n.Name, err)
	}
	return c
}

// command runs one command on a connection of its own.
func (n *Node) command(args ...string) (string, error) {
	c, err := Dial(n.Address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.Do(args...)
}

// fields reads the numbers out of "key: value" lines.
func fields(text string) map[string]int64 {
	out := make(map[string]int64)
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if v, err := strconv.ParseInt(value, 10, 64); ok && err == nil {
			out[key] = v
		}
	}
	return out
}
