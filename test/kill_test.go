package test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qsfs/test/harness"
	"qsfs/test/oracle"
	"qsfs/zstor/client"
)

// leastAcks is how many acknowledgements each kill test must have seen.
const leastAcks = 1000

// crashes is what a kill test does to one kind of process: each round dies at a point, or at a random moment ("").
type crashes struct {
	points []string
	must   []string // substrings: at least one point with each must have killed
}

// writing is an oracle's writer that runs beside the test.
type writing struct {
	*oracle.Writer
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

func newWriting(t *testing.T, root string, seed uint64) *writing {
	t.Helper()
	w, err := oracle.New(root, filepath.Join(harness.TempDir(t), "acknowledged"), seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return &writing{Writer: w, t: t}
}

// start lets the writer run until pause, or until an operation fails.
func (w *writing) start() {
	ctx, stop := context.WithCancel(w.t.Context())
	w.stop, w.done = stop, make(chan error, 1)
	go func() { w.done <- w.Run(ctx) }()
}

// pause stops the writer and gives the error of its last operation.
func (w *writing) pause() error {
	w.t.Helper()
	w.stop()
	select {
	case err := <-w.done:
		return err
	case <-time.After(time.Minute):
		w.t.Fatal("the writer hangs in an operation")
		return nil
	}
}

// fail waits for the operation that must fail because the mount is gone.
func (w *writing) fail() {
	w.t.Helper()
	select {
	case err := <-w.done:
		if err == nil {
			w.t.Error("the mount is gone and the writer saw nothing")
		}
	case <-time.After(time.Minute):
		w.t.Fatal("the mount is gone and the writer hangs, or goes on")
	}
	w.stop()
}

// waitAcks waits until the running writer has n acknowledgements more.
func (w *writing) waitAcks(n int64, limit time.Duration) {
	w.t.Helper()
	want := w.Acks() + n
	harness.Eventually(w.t, limit, "more acknowledgements", func() (bool, string) {
		return w.Acks() >= want, "the writer stands still"
	})
}

// check compares the tree with the promise.
func (w *writing) check(root string) {
	w.t.Helper()
	if _, err := w.Check(root); err != nil {
		w.t.Fatal(err)
	}
}

// finish brings the run to at least leastAcks, then compares once more after everything has been shipped, evicted, and
// recovered on another machine.
func (w *writing) finish(c *harness.Cluster) {
	t := w.t
	t.Helper()
	w.start()
	if missing := leastAcks - w.Acks(); missing > 0 {
		w.waitAcks(missing, 3*time.Minute)
	}
	if err := w.pause(); err != nil {
		t.Fatal(err)
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	c.Front.Ship(shipLimit)
	c.Front.WaitSafe(shipLimit)
	w.check(c.Front.Path())
	t.Logf("%d acknowledgements; crashes at points: %v", w.Acks(), c.Crash.Hits())
}

// provePoints fails unless the named points have really killed.
func provePoints(t *testing.T, c *harness.Cluster, must []string) {
	t.Helper()
	hits := c.Crash.Hits()
	for _, part := range must {
		n := 0
		for name, times := range hits {
			if strings.Contains(name, part) {
				n += times
			}
		}
		if n == 0 {
			t.Errorf("no crash inside %s: %v", part, hits)
		}
	}
}

// dieAt lets p, which is down, live until the point has killed it, or until a random moment when the point is "".
// start must start it again and wait until it answers, unless it dies first.
func dieAt(t *testing.T, c *harness.Cluster, r *rand.Rand, p *harness.Process, point string, start func()) {
	t.Helper()
	if point == "" {
		c.Crash.Disarm(p)
		start()
		time.Sleep(time.Duration(50+r.IntN(1000)) * time.Millisecond)
		p.Kill9()
		return
	}
	c.Crash.Arm(p, point, 1+r.IntN(3))
	start()
	died := p.WaitExit(30 * time.Second)
	c.Crash.Disarm(p)
	if !died {
		t.Errorf("%s never reached %s three times while the writer wrote", p.Name, point)
		p.Kill9()
	}
}

func TestKillMount(t *testing.T) {
	plan := crashes{
		points: []string{
			"", "zdb.commit.written", "zdb.sync.before", "zdb.sync.after", "zdb.seal.synced", "zdb.seal.renamed",
			"zdb.seal.dirsynced", "zdb.apply.before", "zdb.apply.after", "",
		},
		must: []string{"seal", "apply"},
	}
	c := harness.Start(t, harness.Options{})
	f := c.Front
	w := newWriting(t, f.Path(), 11)
	r := rand.New(rand.NewPCG(11, 2))
	f.Unmount()
	for _, point := range repeat(plan.points, rounds(1, 10)) {
		// The mount dies while the writer writes: armed at its start, it may even die before the mount is there.
		dieAt(t, c, r, f.Zdbfs, point, func() {
			f.StartMount()
			if mountedOrDead(t, f) {
				w.start()
			}
		})
		if w.done != nil {
			w.fail()
			w.done = nil
		}
		f.Mount()
		w.check(f.Path())
		f.WaitStatus(shipLimit, "attached again", func(s *client.Status) bool { return s.Verdict == client.Verified })
		f.Zdbfs.Kill9()
	}
	f.Mount()
	w.check(f.Path())
	w.finish(c)
	provePoints(t, c, plan.must)
}

func TestKillZstor(t *testing.T) {
	plan := crashes{
		points: []string{
			"", "zstor.upload.intent", "zstor.upload.shard", "zstor.upload.manifest", "zstor.receipt.written",
			"zstor.cut.before", "zstor.cut.put", "zstor.cut.after", "zstor.tail.piece", "zstor.delete.before",
		},
		must: []string{"upload", "cut", "tail", "receipt"},
	}
	c := harness.Start(t, harness.Options{})
	f := c.Front
	w := newWriting(t, f.Path(), 12)
	r := rand.New(rand.NewPCG(12, 2))
	w.start()
	f.Zstor.Kill9()
	for _, point := range repeat(plan.points, rounds(1, 10)) {
		dieAt(t, c, r, f.Zstor, point, f.Zstor.Start)
		w.waitAcks(1, 30*time.Second) // writes go on without zstor
	}
	f.Zstor.Start()
	f.WaitZstor()
	w.waitAcks(20, time.Minute)
	if err := w.pause(); err != nil {
		t.Fatalf("the writer must not notice zstor's deaths: %v", err)
	}
	w.finish(c)
	provePoints(t, c, plan.must)
	recoverElsewhere(t, c, w)
}

func TestKillNode(t *testing.T) {
	plan := crashes{
		points: []string{
			"", "zdb.commit.written", "zdb.sync.before", "zdb.sync.after", "zdb.server.reply.before",
			"zdb.apply.before", "zdb.apply.after", "zdb.server.reply.before", "", "",
		},
		must: []string{"zdb.apply", "zdb.server.reply"},
	}
	c := harness.Start(t, harness.Options{})
	f := c.Front
	w := newWriting(t, f.Path(), 13)
	r := rand.New(rand.NewPCG(13, 2))
	w.start()
	for _, point := range repeat(plan.points, rounds(1, 10)) {
		n := c.Nodes[r.IntN(len(c.Nodes))]
		n.Kill9()
		dieAt(t, c, r, n.Process, point, n.Start)
		w.waitAcks(1, 30*time.Second)
		n.Up()
	}
	if err := w.pause(); err != nil {
		t.Fatalf("the writer must not notice a node's death: %v", err)
	}
	w.finish(c)
	provePoints(t, c, plan.must)
	recoverElsewhere(t, c, w)
}

// recoverElsewhere ends the front machine, recovers on an empty one and compares.
func recoverElsewhere(t *testing.T, c *harness.Cluster, w *writing) {
	t.Helper()
	c.Front.Kill9()
	other := c.NewFront("other", "", "")
	other.Recover(shipLimit)
	w.check(other.Path())
}

// mountedOrDead waits until the mount is there or its process has ended.
func mountedOrDead(t *testing.T, f *harness.Front) bool {
	t.Helper()
	mounted := false
	harness.Eventually(t, time.Minute, "the mount, or its end", func() (bool, string) {
		mounted = f.Mounted()
		return mounted || !f.Zdbfs.Alive(), "neither"
	})
	return mounted
}

// repeat gives the list n times over.
func repeat(list []string, n int) []string {
	var out []string
	for range n {
		out = append(out, list...)
	}
	return out
}
