package test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"qsfs/test/harness"
	"qsfs/zstor/client"
)

// The tests of this file lose the whole front machine, in awkward moments. What must be there is what a `zdbfs sync --remote`
// had promised; what came later may be there, up to some operation.

// shippedWriter runs a writer for a while and ships: so much is promised. Then it goes on without promises.
func shippedWriter(t *testing.T, f *harness.Front, seed uint64) *writing {
	t.Helper()
	w := newWriting(t, f.Path(), seed)
	w.PromiseRemote()
	w.start()
	w.waitAcks(150, time.Minute) // enough to seal segments
	w.ship(f)
	w.start()
	return w
}

// ship pauses the writer, ships everything and remembers that it is promised.
func (w *writing) ship(f *harness.Front) {
	w.t.Helper()
	if err := w.pause(); err != nil {
		w.t.Fatal(err)
	}
	f.Ship(shipLimit)
	w.Shipped()
}

// TestRecoverAfterCrashOfZstor: zstor dies at a point, the whole machine with it.
func TestRecoverAfterCrashOfZstor(t *testing.T) {
	for seed, point := range []string{
		"zstor.tail.piece",      // the data tail is shipped, its metadata is not
		"zstor.cut.before",      // both are shipped, the cut is not
		"zstor.cut.put",         // the cut has reached some nodes
		"zstor.cut.after",       // … enough nodes, and nobody heard of it
		"zstor.upload.shard",    // a segment is half uploaded
		"zstor.upload.manifest", // … wholly, and nothing says so
	} {
		t.Run(point, func(t *testing.T) {
			c := harness.Start(t, harness.Options{})
			w := shippedWriter(t, c.Front, 100+uint64(seed))
			c.Front.Zstor.Kill9()
			c.Crash.Arm(c.Front.Zstor, point, 2)
			c.Front.Zstor.Start()
			if !c.Front.Zstor.WaitExit(30 * time.Second) {
				t.Fatalf("zstor never reached %s", point)
			}
			_ = w.pause()
			recoverElsewhere(t, c, w)
			if c.Crash.Hits()[point] == 0 {
				t.Errorf("no crash at %s", point)
			}
		})
	}
}

// TestUploadRetriedAfterHalf: zstor dies in the middle of an upload, starts again and finishes. Then everything is evicted and
// read back from the nodes.
func TestUploadRetriedAfterHalf(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	f := c.Front
	w := newWriting(t, f.Path(), 120)
	for i := range 3 {
		f.Zstor.Kill9()
		c.Crash.Arm(f.Zstor, "zstor.upload.shard", 2+3*i)
		f.Zstor.Start()
		w.start()
		if !f.Zstor.WaitExit(30 * time.Second) {
			t.Fatal("zstor never uploaded a shard")
		}
		if err := w.pause(); err != nil {
			t.Fatal(err)
		}
	}
	c.Crash.Disarm(f.Zstor)
	f.UpZstor()
	f.Seal(shipLimit)
	f.EvictAll(shipLimit)
	w.check(f.Path())
	recoverElsewhere(t, c, w)
}

// TestKilledWhileFillingANode: zstor dies while it makes again what a wiped node held. The next one goes on, and all that
// the node is to hold is there: it is read without two others.
func TestKilledWhileFillingANode(t *testing.T) {
	const point = "zstor.audit.shard"
	c := harness.Start(t, harness.Options{})
	f := c.Front
	w := shippedWriter(t, f, 160)
	w.ship(f)
	f.Seal(shipLimit)
	n := c.Nodes[0]
	before := n.Keys()
	f.Zstor.Kill9()
	n.WipeData()
	c.Crash.Arm(f.Zstor, point, 3)
	f.Zstor.Start()
	if !f.Zstor.WaitExit(30 * time.Second) {
		t.Fatalf("zstor never reached %s", point)
	}
	if c.Crash.Hits()[point] == 0 {
		t.Errorf("no crash at %s", point)
	}
	if got := n.Keys(); got == 0 || got >= before {
		t.Errorf("the node holds %d of %d keys: not half-way", got, before)
	}
	c.Crash.Disarm(f.Zstor)
	f.UpZstor()
	f.WaitStatus(shipLimit, "safe, and the node complete", func(s *client.Status) bool {
		return s.Safety == client.Safe && !slices.ContainsFunc(s.Nodes, func(x client.NodeStatus) bool { return x.Renewed })
	})
	f.EvictAll(shipLimit)
	for _, other := range c.Group(c.Nodes[len(c.Nodes)-1].Group) {
		other.Kill9()
	}
	w.check(f.Path())
}

// TestRecoveryKilledHalfWay kills zstor, and the command that drives it, in the middle of a recovery. The next run finishes.
func TestRecoveryKilledHalfWay(t *testing.T) {
	for seed, point := range []string{"zstor.claim.raised", "zstor.recover.receipt", "zstor.recover.segment"} {
		t.Run(point, func(t *testing.T) {
			c := harness.Start(t, harness.Options{})
			w := shippedWriter(t, c.Front, 130+uint64(seed))
			w.ship(c.Front)
			c.Front.Kill9()
			other := c.NewFront("other", "", "")
			c.Crash.Arm(other.Zstor, point, 1)
			other.UpZstor()
			if r := other.Command(shipLimit, "zdbfs", "recover"); r.Code == 0 {
				t.Fatalf("recovery succeeded although zstor was to die at %s", point)
			}
			if !other.Zstor.WaitExit(10 * time.Second) {
				t.Fatalf("zstor lives after %s", point)
			}
			c.Crash.Disarm(other.Zstor)
			other.UpZstor()
			if r := other.Command(time.Minute, "zdbfs", "mount", "--mount", other.Mountpoint); r.Code == 0 {
				t.Error("a state directory that is half recovered was mounted")
			}
			other.Recover(shipLimit)
			w.check(other.Path())
			writeSynced(t, other.Path("afterwards"), []byte("alive"))
			other.Ship(shipLimit)
		})
	}
}

// TestOldWriterShipsWhileNewOneClaims: the old machine lives and ships while another recovers. What it was told is shipped is
// in the recovered tree, and from some moment on it is told nothing any more.
func TestOldWriterShipsWhileNewOneClaims(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	old := c.Front
	w := shippedWriter(t, old, 140)
	recovered := make(chan harness.Result, 1)
	other := c.NewFront("other", "", "")
	other.UpZstor()
	ships, fenced := 0, ""
	for fenced == "" {
		_ = w.pause()
		r := old.Command(30*time.Second, "zdbfs", "sync", "--remote")
		if r.Code == 0 {
			w.Shipped()
			ships++
			if ships == 2 {
				go func() { recovered <- other.Command(shipLimit, "zdbfs", "recover") }()
			}
			w.start()
			time.Sleep(20 * time.Millisecond)
			continue
		}
		fenced = r.Stderr
		if r.Code != 9 {
			t.Errorf("sync --remote on the fenced machine: exit code %d, want 9: %s", r.Code, r.Stderr)
		}
	}
	if r := <-recovered; r.Code != 0 {
		t.Fatalf("recover: exit code %d\n%s", r.Code, r.Stderr)
	}
	t.Logf("%d ships, then: %s", ships, strings.TrimSpace(fenced))
	other.Mount()
	w.check(other.Path())

	// The old mount says who took over and takes nothing any more.
	harness.Eventually(t, time.Minute, "the old mount to turn read-only", func() (bool, string) {
		s := old.MountStatus()
		return s.Mount.ReadOnly && strings.Contains(s.Mount.Reason, "taken over"), fmt.Sprintf("%+v", s)
	})
	if err := trySynced(old.Path("late"), []byte("late")); err == nil {
		t.Error("the fenced mount acknowledged an fsync")
	}
	old.Kill9()
	old.UpZstor()
	if r := old.Command(time.Minute, "zdbfs", "mount"); r.Code != 9 {
		t.Errorf("mount of a fenced state: exit code %d, want 9: %s", r.Code, r.Stderr)
	}
	if r := old.Command(time.Minute, "zdbfs", "mount", "--take-over"); r.Code != 9 {
		t.Errorf("take-over with a state that is not the newest: exit code %d, want 9: %s", r.Code, r.Stderr)
	}
}

// TestTwoTakeoversInARow recovers on a second machine, then on a third, which stops and comes back with --take-over.
func TestTwoTakeoversInARow(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	w := shippedWriter(t, c.Front, 150)
	w.ship(c.Front)
	c.Front.Kill9()
	second := c.NewFront("second", "", "")
	second.Recover(shipLimit)
	w.check(second.Path())
	writeSynced(t, second.Path("by-second"), []byte("second"))
	second.Ship(shipLimit)
	second.Kill9()
	third := c.NewFront("third", "", "")
	third.Recover(shipLimit)
	if b, err := os.ReadFile(third.Path("by-second")); err != nil || string(b) != "second" {
		t.Errorf("what the second machine wrote: %q, %v", b, err)
	}
	if err := os.Remove(third.Path("by-second")); err != nil {
		t.Fatal(err)
	}
	w.check(third.Path())
	epochs := []uint64{third.Status().Owner.Epoch}
	third.Down()
	// The third machine itself comes back, by its own state, with --take-over: nobody has written since.
	third.UpZstor()
	third.Mount("--take-over")
	w.check(third.Path())
	epochs = append(epochs, third.Status().Owner.Epoch)
	if epochs[0] < 3 || epochs[1] <= epochs[0] {
		t.Errorf("epochs %v: each takeover must raise them", epochs)
	}
	writeSynced(t, third.Path("after"), []byte("after"))
	third.Ship(shipLimit)
}

// TestMetadataNodeWipedAndAnotherStale: one node's records are gone, another's are old, at once; then the machine is lost.
func TestMetadataNodeWipedAndAnotherStale(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	w := shippedWriter(t, c.Front, 160)
	stale, wiped := c.Nodes[1], c.Nodes[4]
	stale.Kill9()
	w.waitAcks(60, time.Minute)
	w.ship(c.Front)
	c.Front.Kill9()
	wiped.WipeMeta()
	stale.Up()
	recoverElsewhere(t, c, w)
}

// TestNodeComesBackWithDeletedPieces: while a node is away, pieces that it holds are superseded and deleted.
func TestNodeComesBackWithDeletedPieces(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	f := c.Front
	w := shippedWriter(t, f, 170)
	away := c.Nodes[3]
	w.waitAcks(30, time.Minute)
	away.Kill9()
	w.waitAcks(200, time.Minute) // seals segments: the pieces of their tails go
	w.ship(f)
	away.Up()
	f.Seal(shipLimit) // complete at full strength again, without help
	harness.Eventually(t, shipLimit, "what was deleted to go there too", func() (bool, string) {
		s := f.Status()
		return s.Objects.Undeleted == 0, s.Headline
	})
	recoverElsewhere(t, c, w)
}

// TestGroupDownWithoutFallback: objects wait here, status says for how long; when the group is back they go.
func TestGroupDownWithoutFallback(t *testing.T) {
	c := harness.Start(t, harness.Options{Policy: harness.WithoutFallback})
	f := c.Front
	w := shippedWriter(t, f, 180)
	for _, n := range c.Group("b") {
		n.Kill9()
	}
	w.waitAcks(60, time.Minute)
	s := f.WaitStatus(time.Minute, "data at risk, and why", func(s *client.Status) bool {
		return s.Safety == client.AtRisk && s.Pending.Bytes > 0 && s.Pending.Age > time.Second && s.Pending.Problem != ""
	})
	t.Logf("status: %s (%s)", s.Headline, s.Pending.Problem)
	if err := w.pause(); err != nil {
		t.Fatalf("writing must go on: %v", err)
	}
	for _, n := range c.Group("b") {
		n.Up()
	}
	f.Seal(shipLimit)
	w.Shipped()
	f.EvictAll(shipLimit)
	w.check(f.Path())
	recoverElsewhere(t, c, w)
}

// TestGroupDownWithFallback: what is written while a group is down is dispersed 3-of-4, and survives the machine right then.
func TestGroupDownWithFallback(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	w := shippedWriter(t, c.Front, 190)
	for _, n := range c.Group("b") {
		n.Kill9()
	}
	w.waitAcks(100, time.Minute)
	w.ship(c.Front)
	recoverElsewhere(t, c, w)
}
