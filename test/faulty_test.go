package test

import (
	"testing"
	"time"

	"qsfs/test/harness"
	"qsfs/zstor/client"
)

// TestFaultyNodes lets one node after another misbehave while a writer writes and everything is shipped: replies that are lost
// after the work was done, silence, cut connections, flipped bits, a slow line. Then, with two bad nodes at once, all is
// evicted, read back and recovered.
func TestFaultyNodes(t *testing.T) {
	c := harness.Start(t, harness.Options{Proxies: true, Settings: map[string]string{"fetch_timeout": `"20s"`}})
	f := c.Front
	w := shippedWriter(t, f, 71)
	for i, fault := range []harness.Fault{
		{DropReply: true},
		{Silent: true},
		{CutAfter: 700},
		{FlipEvery: 5000},
		{Delay: 50 * time.Millisecond, Rate: 2 << 20},
		{Refuse: true},
	} {
		p := c.Nodes[i].Proxy
		p.Set(fault)
		w.waitAcks(40, time.Minute)
		w.ship(f)
		if drops := p.Drops(); fault.DropReply && drops == 0 {
			t.Error("no reply was dropped: this proved nothing")
		}
		for tries := 0; fault.FlipEvery > 0 && p.Flips() == 0 && tries < 50; tries++ {
			w.start() // not enough replies yet
			w.waitAcks(40, time.Minute)
			w.ship(f)
		}
		if flips := p.Flips(); fault.FlipEvery > 0 && flips == 0 {
			t.Error("no bit was flipped: this proved nothing")
		}
		p.Set(harness.Fault{})
		p.Cut()
		w.start()
	}
	if err := w.pause(); err != nil {
		t.Fatalf("the writer must not notice: %v", err)
	}
	f.Seal(shipLimit)
	w.Shipped()
	f.EvictAll(shipLimit)
	// Two bad nodes of one group: what they say must neither be believed nor waited for.
	c.Nodes[4].Proxy.Set(harness.Fault{FlipEvery: 3000})
	c.Nodes[5].Proxy.Set(harness.Fault{Silent: true})
	for _, n := range c.Nodes {
		n.Proxy.Cut()
	}
	before := f.Status().Reads
	w.check(f.Path())
	after := f.Status().Reads
	if after.Stripes == before.Stripes {
		t.Error("nothing was fetched: the compare proved nothing")
	}
	t.Logf("reads: %d stripes, %d shards, %d hedged, %d damaged", after.Stripes-before.Stripes, after.Shards-before.Shards,
		after.Hedged-before.Hedged, after.Damaged-before.Damaged)
	recoverElsewhere(t, c, w)
	for _, n := range c.Nodes {
		n.Proxy.Set(harness.Fault{})
		n.Proxy.Cut()
	}
}

// TestStatusOfLosses takes nodes away one after the other: the status counts what is left, and is right again when they return.
func TestStatusOfLosses(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	f := c.Front
	content := make([]byte, 3<<20)
	fillRandom(content, 81)
	writeSynced(t, f.Path("file"), content)
	f.Seal(shipLimit)
	if s := f.Status(); s.SurvivableNodes != 2 || s.SurvivableGroups != 1 {
		t.Errorf("with all nodes: %d nodes and %d groups may be lost, want 2 and 1", s.SurvivableNodes, s.SurvivableGroups)
	}
	for i, n := range []*harness.Node{c.Nodes[0], c.Nodes[3]} {
		n.Kill9()
		s := f.WaitStatus(time.Minute, "one node fewer", func(s *client.Status) bool { return s.SurvivableNodes == 1-i })
		if s.Safety == client.Safe {
			t.Errorf("with %d nodes down the status says %q", i+1, s.Headline)
		}
		if r := f.Command(time.Minute, "zdbfs", "status"); r.Code != 10 {
			t.Errorf("zdbfs status with %d nodes down: exit code %d, want 10", i+1, r.Code)
		}
	}
	c.Nodes[0].Up()
	c.Nodes[3].Up()
	f.WaitSafe(shipLimit)
	if r := f.Command(time.Minute, "zdbfs", "status"); r.Code != 0 {
		t.Errorf("zdbfs status with all nodes back: exit code %d\n%s", r.Code, r.Stdout)
	}
}
