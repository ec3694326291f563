package engine

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qsfs/test/harness"
	"qsfs/zdb"
)

// loop is a series of lives on one disk.
type loop struct {
	t     *testing.T
	rng   *rand.Rand
	disk  string
	notes string
	life  int
	p     *harness.Process
	want  expect

	// When the power began to go, and when it was gone; 0: it stayed.
	cut, off int64

	acks, doubtful, unsure, lost, compacted, removed, early, rebuilt int
	hits                                                             map[string]int // crash points that killed
}

func newLoop(t *testing.T, disk string) *loop {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	notes := harness.TempDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &loop{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), disk: disk, notes: notes, hits: make(map[string]int),
		p: harness.NewProcess(t, notes, "life", self),
	}
}

func (l *loop) file(name string, life int) string {
	return filepath.Join(l.notes, fmt.Sprintf("%s%d", name, life))
}

// begin starts the next life.
func (l *loop) begin(env ...string) {
	l.t.Helper()
	l.life++
	l.p.Env = append([]string{lifeVar + "=" + l.notes, diskVar + "=" + l.disk, fmt.Sprintf("%s=%d", numberVar, l.life)}, env...)
	l.p.Start()
}

// waitAcks waits until this life has so many acknowledgements, or is dead.
func (l *loop) waitAcks(n int) {
	l.t.Helper()
	harness.Eventually(l.t, 2*time.Minute, "acknowledgements", func() (bool, string) {
		text, _ := os.ReadFile(l.file("notes", l.life))
		have := strings.Count(string(text), "a ")
		return have >= n || !l.p.Alive(), fmt.Sprintf("%d of %d", have, n)
	})
}

// after looks at what a life left, when it is dead: what it found is compared with what the lives before it did, and
// what it did is what the next one must find.
func (l *loop) after() {
	l.t.Helper()
	found, ok := l.read("found")
	if !ok {
		l.early++ // it died while it opened: the next one has still to find the same
		return
	}
	before := l.want
	if err := l.want.check(found); err != nil {
		l.t.Fatalf("life %d, behind life %d: %v", l.life, before.life, err)
	}
	for w := range writers {
		_, number := of(found, w)
		l.lost += max(0, before.started[w]-number)
		_, from := of(before.base, w)
		l.unsure += max(0, before.started[w]-max(from, before.acked[w]))
	}
	l.want.life = l.life
	text, err := os.ReadFile(l.file("notes", l.life))
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var what string
		var w, n int
		var from, to int64
		if _, err := fmt.Sscan(line, &what, &w, &n, &from, &to); err != nil {
			l.t.Fatalf("line %q: %v", line, err)
		}
		switch what {
		case "s":
			l.want.started[w] = n
		case "a":
			switch {
			case l.off > 0 && from > l.off:
				l.t.Errorf("life %d: writer %d: batch %d was acknowledged by a sync that began when the power was gone", l.life, w, n)
			case l.off > 0 && to >= l.cut:
				l.doubtful++
			default:
				l.want.acked[w] = n
				l.acks++
			}
		case "c":
			l.compacted++
			l.removed += n
		}
	}
	for _, name := range []string{"notes", "found"} {
		if err := os.Remove(l.file(name, l.life)); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *loop) read(name string) (state map[string]string, ok bool) {
	l.t.Helper()
	f, err := os.Open(l.file(name, l.life))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	if err := gob.NewDecoder(f).Decode(&state); err != nil {
		l.t.Fatal(err)
	}
	if state == nil {
		state = make(map[string]string) // gob leaves an empty one out
	}
	return state, true
}

// dropIndex makes the next life build the index from the log, where all that compaction should have kept must be.
func (l *loop) dropIndex() {
	l.t.Helper()
	if err := os.RemoveAll(filepath.Join(l.disk, "index", "ns", "badger")); err != nil {
		l.t.Fatal(err)
	}
	l.rebuilt++
}

// finish looks once more, in order, compacts, and reads all files.
func (l *loop) finish() {
	t := l.t
	t.Helper()
	l.dropIndex()
	l.begin(lastVar + "=1")
	if !l.p.WaitExit(2 * time.Minute) {
		t.Fatal("the last life does not end")
	}
	if code := l.p.ExitCode(); code != 0 {
		t.Fatalf("the last life ends with %d", code)
	}
	l.after()
	end, ok := l.read("end")
	if !ok {
		t.Fatal("the last life wrote nothing")
	}
	if err := l.want.check(end); err != nil {
		t.Fatalf("after the last compaction: %v", err)
	}
	res, err := zdb.Check(context.Background(), options(l.disk), "ns", zdb.CheckOptions{})
	if err != nil || !res.Clean() {
		t.Errorf("check: %+v, %v", res, err)
	}
	t.Logf("%d lives, %d of them died while they opened; %d acknowledgements; of %d batches in flight %d were lost; "+
		"%d compactions took %d segments away; %d times the index was made from the log; crash points %v",
		l.life, l.early, l.acks, l.unsure, l.lost, l.compacted, l.removed, l.rebuilt, l.hits)
	if l.acks < 20*l.life || l.compacted < l.life/4 || l.unsure == 0 || len(end) < writers {
		t.Errorf("that is too little to prove anything")
	}
}

// points are the places at which a life may kill itself, and about how often it passes them in a second.
var points = []struct {
	name string
	most int
}{
	{"zdb.compact.copied", 6}, {"zdb.compact.applied", 6}, {"zdb.compact.recorded", 6}, {"zdb.compact.unlinked", 6},
	{"zdb.commit.written", 400}, {"zdb.sync.before", 100}, {"zdb.sync.after", 100}, {"zdb.seal.synced", 10}, {"zdb.seal.renamed", 10},
	{"zdb.seal.dirsynced", 10}, {"zdb.apply.before", 6}, {"zdb.apply.after", 6},
}

// TestKillLoop kills the process, at any moment or at a named point. 20 times, or 500 times in the long form.
func TestKillLoop(t *testing.T) {
	l := newLoop(t, harness.TempDir(t))
	for round := range rounds(20, 500) {
		if round%7 == 6 {
			l.dropIndex()
		}
		switch {
		case round%10 == 9: // while it opens
			l.begin()
			time.Sleep(time.Duration(l.rng.IntN(80)) * time.Millisecond)
			l.p.Kill9()
		case round%2 == 1:
			// In the short form the four of compaction first; all of them in turn.
			l.dieAt(points[round/2%len(points)].name, 1+l.rng.IntN(points[round/2%len(points)].most))
		default:
			l.begin()
			l.waitAcks(50 + l.rng.IntN(500))
			time.Sleep(time.Duration(l.rng.IntN(600)) * time.Millisecond)
			l.alive()
			l.p.Kill9()
		}
		l.after()
	}
	l.finish()
	compacting := 0
	for name, n := range l.hits {
		if strings.HasPrefix(name, "zdb.compact.") {
			compacting += n
		}
	}
	if compacting < 3 {
		t.Errorf("only %d deaths inside of a compaction: %v", compacting, l.hits)
	}
}

// dieAt starts a life that dies at the n-th pass of a point.
func (l *loop) dieAt(point string, n int) {
	l.t.Helper()
	hit := filepath.Join(l.notes, "hit")
	l.begin(fmt.Sprintf("QSFS_CRASH=%s@%d", point, n), "QSFS_CRASH_LOG="+hit)
	if !l.p.WaitExit(time.Minute) {
		l.t.Fatalf("life %d did not pass %s %d times in a minute", l.life, point, n)
	}
	text, err := os.ReadFile(hit)
	if err != nil || strings.TrimSpace(string(text)) != point {
		l.t.Fatalf("life %d did not die at %s: %q, %v", l.life, point, text, err)
	}
	if err := os.Remove(hit); err != nil {
		l.t.Fatal(err)
	}
	l.hits[point]++
}

// alive fails when a life has ended by itself: something went wrong in it.
func (l *loop) alive() {
	l.t.Helper()
	if !l.p.Alive() {
		l.t.Fatalf("life %d ended by itself with %d", l.life, l.p.ExitCode())
	}
}

// TestPowerLoop cuts the power of the disk. 5 times, or 50 times in the long form.
//
// What is acknowledged while the cut is under way proves nothing: there XFS answers success to an fdatasync of a file that grows,
// although it is lost (it asks whether anything of the inode is still to be logged, and the shutdown has just thrown that away). A
// plain program that appends and syncs is told so in 15 of 200 cuts. A sync that begins when the cut is over must fail.
func TestPowerLoop(t *testing.T) {
	disk := harness.NewDisk(t, 1<<30)
	l := newLoop(t, disk.Dir)
	for round := range rounds(5, 50) {
		l.begin()
		if round%5 == 3 { // while it opens
			time.Sleep(time.Duration(l.rng.IntN(80)) * time.Millisecond)
		} else {
			l.waitAcks(150 + l.rng.IntN(800))
			time.Sleep(time.Duration(l.rng.IntN(600)) * time.Millisecond)
			l.alive()
		}
		l.cut = time.Now().UnixNano()
		disk.PowerCut()
		l.off = time.Now().UnixNano()
		// What is acknowledged from now on would be a lie; give it the time to tell one.
		l.p.WaitExit(time.Duration(l.rng.IntN(200)) * time.Millisecond)
		l.p.Kill9()
		disk.PowerOn()
		l.after()
		if round%5 == 4 {
			l.dropIndex()
		}
	}
	l.cut, l.off = 0, 0
	l.finish()
	t.Logf("%d acknowledgements fell into a cut", l.doubtful)
}
