package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qsfs/test/harness"
	"qsfs/zstor/client"
)

// TestPowerCutFront cuts the power of the disk that holds the front machine's state, ten times, while a writer writes.
func TestPowerCutFront(t *testing.T) {
	disk := harness.NewDisk(t, 2<<30)
	c := harness.Start(t, harness.Options{State: disk.Dir + "/state"})
	f := c.Front
	w := newWriting(t, f.Path(), 21)
	r := rand.New(rand.NewPCG(21, 2))
	for range rounds(10, 50) {
		w.start()
		w.waitAcks(1+int64(r.IntN(40)), time.Minute)
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		w.Doubt(true)
		disk.PowerCut()
		f.Kill9()
		w.fail()
		w.Doubt(false)
		disk.PowerOn()
		f.Up()
		w.check(f.Path())
	}
	f.WaitStatus(shipLimit, "attached again", func(s *client.Status) bool { return s.Verdict == client.Verified })
	w.finish(c)
	recoverElsewhere(t, c, w)
}

// Shape of the load on a single node.
const (
	nodeClients = 16
	nodeKeys    = 40
)

// nodeClient is one client of a node with keys of its own. For each key it knows what the node has acknowledged, and what was
// sent and never answered. A value of "" stands for a key that is not there.
type nodeClient struct {
	id      int
	rand    *rand.Rand
	acked   map[string]string
	pending map[string]string
	acks    *atomic.Int64
	deletes *atomic.Int64
	cutting *atomic.Bool // the power goes: an answer from now on proves nothing (see harness.Disk.PowerCut)
}

// TestPowerCutNode cuts the power of a node's disk, five times, with sixteen clients setting, overwriting and deleting.
func TestPowerCutNode(t *testing.T) {
	disk := harness.NewDisk(t, 1<<30)
	c := harness.New(t, harness.Options{NodeDir: func(i int) string {
		if i == 0 {
			return disk.Dir + "/node"
		}
		return fmt.Sprintf("%s/unused%d", disk.Dir, i)
	}})
	node := c.Nodes[0]
	node.Up()
	node.MakeNamespaces()
	var acks, deletes atomic.Int64
	var cutting atomic.Bool
	clients := make([]*nodeClient, nodeClients)
	for i := range clients {
		clients[i] = &nodeClient{
			id: i, rand: rand.New(rand.NewPCG(22, uint64(i))), acked: make(map[string]string), acks: &acks, deletes: &deletes, cutting: &cutting,
		}
	}
	for round := range rounds(5, 30) {
		var group sync.WaitGroup
		for _, cl := range clients {
			group.Go(func() { cl.run(node) })
		}
		want := acks.Load() + 300
		harness.Eventually(t, time.Minute, "acknowledgements", func() (bool, string) { return acks.Load() > want, "the node stands still" })
		time.Sleep(time.Duration(clients[0].rand.IntN(200)) * time.Millisecond)
		cutting.Store(true)
		disk.PowerCut()
		node.Kill9()
		group.Wait()
		cutting.Store(false)
		disk.PowerOn()
		node.Up()
		for _, cl := range clients {
			for _, wrong := range cl.check(t, node) {
				t.Errorf("round %d: %s", round, wrong)
			}
		}
	}
	if deletes.Load() < 50 {
		t.Errorf("only %d deletes acknowledged", deletes.Load())
	}
	t.Logf("%d acknowledgements, %d of them deletes", acks.Load(), deletes.Load())
}

// run sends commands until the node is gone.
func (c *nodeClient) run(node *harness.Node) {
	c.pending = make(map[string]string)
	conn, err := harness.Dial(node.Address)
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := conn.Do("SELECT", harness.DataNamespace, node.Password); err != nil {
		return
	}
	for {
		key := fmt.Sprintf("client %d key %d", c.id, c.rand.IntN(nodeKeys))
		value := ""
		if c.rand.IntN(3) > 0 {
			value = strings.Repeat(fmt.Sprintf("%d,", c.rand.Uint64()), 1+c.rand.IntN(800))
		}
		c.pending[key] = value
		if value == "" {
			_, err = conn.Do("DEL", key)
			if err != nil && c.acked[key] == "" && isReply(err) {
				err = nil // there was nothing to delete
			}
		} else {
			_, err = conn.Do("SET", key, value)
		}
		if err != nil || c.cutting.Load() {
			return
		}
		delete(c.pending, key)
		c.acked[key] = value
		c.acks.Add(1)
		if value == "" {
			c.deletes.Add(1)
		}
	}
}

// check reads every key back and names what is not as acknowledged; it goes on from what it found.
func (c *nodeClient) check(t *testing.T, node *harness.Node) (wrong []string) {
	t.Helper()
	conn, err := harness.Dial(node.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Do("SELECT", harness.DataNamespace, node.Password); err != nil {
		t.Fatal(err)
	}
	for i := range nodeKeys {
		key := fmt.Sprintf("client %d key %d", c.id, i)
		got, err := conn.Do("GET", key)
		if err != nil && !isReply(err) && !errors.Is(err, harness.ErrNil) {
			t.Fatalf("GET %s: %v", key, err)
		}
		sent, unanswered := c.pending[key]
		if got != c.acked[key] && !(unanswered && got == sent) {
			wrong = append(wrong, fmt.Sprintf("%s: got %.30q (%d bytes), acknowledged %.30q (%d bytes), unanswered %.30q",
				key, got, len(got), c.acked[key], len(c.acked[key]), sent))
		}
		c.acked[key] = got
	}
	return wrong
}

// isReply tells an error text of the node from a broken connection.
func isReply(err error) bool {
	var reply harness.ReplyError
	return errors.As(err, &reply)
}
