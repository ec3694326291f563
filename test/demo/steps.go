package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"qsfs/test/harness"
	"qsfs/zstor/client"
)

// patience is how long any one step may take.
const patience = 10 * time.Minute

// leastServed is the share of the tree's compressed bytes that the nodes must have served for a compare to count as cold.
const leastServed = 0.9

// mostLocal is the share of the tree's bytes that may be on the front machine before a compare.
const mostLocal = 0.15

type demo struct {
	p       *harness.Program
	report  *report
	cluster *harness.Cluster
	front   *harness.Front
	tree    string

	want       *contents
	compressed int64
}

// begin starts six nodes in three groups, both daemons and the mount.
func (d *demo) begin(programs harness.Programs) {
	r := d.report
	host, _ := os.Hostname()
	r.step("Six nodes in three groups, 4-of-6, fallback 3-of-4; %s on %s", d.tree, host)
	d.cluster = harness.Start(d.p, harness.Options{
		Programs: programs, Plain: true,
		Settings: map[string]string{"segment_size_data": `"8MiB"`, "segment_size_meta": `"4MiB"`, "sync_interval": `"1s"`, "fetch_timeout": `"10s"`},
	})
	d.front = d.cluster.Front
	for line := range strings.Lines(d.cluster.Where()) {
		r.fact("%s", strings.TrimSpace(line))
	}
}

// copyTree fills the mount and waits until all of it is dispersed.
func (d *demo) copyTree() {
	r := d.report
	var err error
	if d.want, err = readTree(d.tree); err != nil {
		d.p.Fatalf("read %s: %v", d.tree, err)
	}
	if d.compressed, err = compressedBytes(d.tree); err != nil {
		d.p.Fatalf("compress %s: %v", d.tree, err)
	}
	r.step("Copy %d files, %s (zstd makes %s of them)", len(d.want.files), size(d.want.bytes), size(d.compressed))
	start := time.Now()
	harness.MustRun(d.p, patience, "cp", "-rP", d.tree, d.front.Path("tree"))
	r.fact("cp took %s", took(start))

	r.step("Wait until all of it is dispersed")
	start = time.Now()
	d.front.Seal(patience)
	s := d.front.Status()
	r.fact("dispersed after another %s; the nodes hold %s", took(start), size(d.stored()))
	r.claim(s.Safety == client.Safe, "status: %s", s.Headline)
	r.claim(s.Objects.Degraded == 0 && s.Objects.Fallback == 0, "%d objects, each at full strength", s.Objects.Full)
}

// loseGroup stops two of six nodes and reads everything from the rest.
func (d *demo) loseGroup() {
	r := d.report
	r.step("Evict every sealed segment (the nodes must consent, so before the loss), then stop group c: two of six nodes, their metadata too")
	d.front.EvictAll(patience)
	for _, n := range d.cluster.Group("c") {
		d.stop(n)
	}
	harness.DropCaches(d.p)
	d.proveCold()
	d.compare("with four nodes left")
}

// loseFront wipes the machine and recovers on an empty one.
func (d *demo) loseFront() {
	r := d.report
	r.step("Kill both daemons and wipe the whole state of the front machine")
	old := d.front
	pids := []int{old.Zdbfs.Pid(), old.Zstor.Pid()}
	old.Kill9()
	for _, pid := range pids {
		r.claim(gone(pid), "daemon %d is gone", pid)
	}
	old.Wipe()
	r.claim(harness.HeldBytes(d.p, old.State) == 0, "%s is empty", old.State)

	r.step("Recover on an empty machine, from four nodes, with configuration and key alone")
	d.front = d.cluster.NewFront("second", "", "")
	start := time.Now()
	d.front.Recover(patience)
	r.fact("the filesystem is mounted again after %s", took(start))
	harness.DropCaches(d.p)
	d.proveCold()
	d.compare("on the recovered machine")
}

// loseThirdNode goes beyond what the policy promises: reads must fail, not lie.
func (d *demo) loseThirdNode() {
	r := d.report
	r.step("Evict again, then stop a third node: more than the policy promises to survive")
	d.front.EvictAll(patience)
	d.stop(d.cluster.Nodes[0])
	harness.DropCaches(d.p)
	start := time.Now()
	refused, right, wrong := d.readSome(40)
	r.claim(refused > 0, "%d of %d reads at once answered EIO, the last after %s", refused, refused+right+wrong, took(start))
	r.claim(wrong == 0, "none gave zeros or other wrong bytes; %d small ones were on this machine and right", right)
	s := d.front.WaitStatus(time.Minute, "three nodes down", func(s *client.Status) bool { return down(s) >= 3 })
	r.claim(s.Safety == client.AtRisk && strings.HasPrefix(s.Headline, "Dispersed data cannot be read: 3 of the 4 nodes"), "status: %s", s.Headline)
	for _, n := range s.Nodes {
		if !n.Up && n.Role == "data" {
			r.fact("status: node %s in group %s is down: %s", n.ID, n.Group, n.Error)
		}
	}
	for _, advice := range s.Advice {
		r.fact("status advises: %s", advice)
	}
	answer := d.front.MountStatus()
	r.claim(!answer.Safe, "zdbfs status: %s", answer.Answer)

	r.step("Start that node again")
	d.cluster.Nodes[0].Up()
	harness.Eventually(d.p, time.Minute, "reads to work again", func() (bool, string) {
		refused, _, wrong := d.readSome(40)
		return refused+wrong == 0, fmt.Sprintf("%d reads refused, %d wrong", refused, wrong)
	})
	r.claim(true, "the same files read right again, without any other help")
}

func (d *demo) end() {
	r := d.report
	d.front.Unmount()
	r.step("Done: %d claims held, %d failed", r.held, r.failed)
}

// stop ends a node and proves that it is gone.
func (d *demo) stop(n *harness.Node) {
	pid := n.Pid()
	n.Stop(time.Minute)
	conn, err := net.DialTimeout("tcp", n.Address, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	d.report.claim(gone(pid) && err != nil, "node %d of group %s (process %d) is gone, %s refuses", n.Index, n.Group, pid, n.Address)
}

// proveCold states that this machine does not have what it is about to read.
func (d *demo) proveCold() {
	sealed := d.front.SealedDataSegments()
	d.report.claim(len(sealed) == 0, "%d sealed data segments are on this machine", len(sealed))
	held := harness.HeldBytes(d.p, d.front.State)
	d.report.claim(float64(held) < mostLocal*float64(d.want.bytes), "its whole state holds %s, %s of the tree's bytes", size(held), percent(held, d.want.bytes))
	part := func(dir, namespace string) int64 {
		return harness.HeldBytes(d.p, filepath.Join(d.front.State, dir, namespace))
	}
	log, index := part("data", client.NamespaceMeta), part("index", client.NamespaceMeta)
	content := part("data", client.NamespaceData) + part("index", client.NamespaceData)
	d.report.fact("of that: names and attributes %s, their index %s, places of the content %s, the rest %s",
		size(log), size(index), size(content), size(held-log-index-content))
}

// compare reads every file and proves by the nodes' counters that the bytes came from them.
func (d *demo) compare(when string) {
	r := d.report
	before, start := d.cluster.Traffic(), time.Now()
	got, err := readTree(d.front.Path("tree"))
	if err != nil {
		r.claim(false, "every file can be read %s: %v", when, err)
		return
	}
	diff := differences(got, d.want)
	r.claim(len(diff) == 0, "%d files, %s: every SHA-256 is the same %s (%s)", len(got.files), size(got.bytes), when, took(start))
	for i, line := range diff {
		if i < 10 {
			r.fact("%s", line)
		}
	}
	served := d.cluster.Traffic().Sub(before)
	r.claim(float64(served.GetBytes) >= leastServed*float64(d.compressed), "the nodes' counters: %s served by %d reads, %s of the compressed bytes",
		size(served.GetBytes), served.Gets, percent(served.GetBytes, d.compressed))
}

// readSome reads n files from all over the tree; wrong counts content that is not what was written.
func (d *demo) readSome(n int) (refused, right, wrong int) {
	var mu sync.Mutex
	var group sync.WaitGroup
	paths := slices.Sorted(maps.Keys(d.want.files))
	for i := range n {
		path := paths[i*len(paths)/n]
		group.Go(func() {
			sum := d.want.files[path]
			got, _, err := sumFile(d.front.Path("tree", filepath.FromSlash(path)))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, syscall.EIO):
				refused++
			case err == nil && got == sum:
				right++
			default:
				wrong++
				d.report.fact("%s: %v", path, err)
			}
		})
	}
	group.Wait()
	return refused, right, wrong
}

// stored is what the living nodes hold in their data namespaces.
func (d *demo) stored() int64 {
	var sum int64
	for _, n := range d.cluster.Nodes {
		sum += n.DataBytes()
	}
	return sum
}

func down(s *client.Status) int {
	n := 0
	for _, node := range s.Nodes {
		if !node.Up && node.Role == "data" {
			n++
		}
	}
	return n
}

// gone reports whether no process has this number any more.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
