package test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/test/harness"
)

// smallCache holds sixteen segments.
var smallCache = map[string]string{"cache_size": `"64MiB"`, "segment_size_data": `"4MiB"`}

// pieceBytes is how much is written between two fsyncs.
const pieceBytes = 8 << 20

// putPiece writes the i-th file of a test, from its number.
func putPiece(f *harness.Front, buf []byte, i int) error {
	fillRandom(buf, uint64(i))
	return trySynced(f.Path("piece", fmt.Sprint(i)), buf)
}

// wantPieces compares the first n files with what was written.
func wantPieces(t *testing.T, f *harness.Front, buf []byte, n int) {
	t.Helper()
	for i := range n {
		fillRandom(buf, uint64(i))
		got, err := os.ReadFile(f.Path("piece", fmt.Sprint(i)))
		if err != nil || sha256.Sum256(got) != sha256.Sum256(buf) {
			t.Fatalf("piece %d: %d bytes, %v", i, len(got), err)
		}
	}
}

// TestEmergencyEviction: a node is away for long, so nothing new is ever at full strength, and three times what the cache
// takes is written. Segments with a shard to spare go, the writer goes on, everything reads back; and what went becomes whole
// when the node is there again.
func TestEmergencyEviction(t *testing.T) {
	c := harness.Start(t, harness.Options{Settings: smallCache})
	f := c.Front
	away := c.Nodes[5]
	away.Kill9()
	buf := make([]byte, pieceBytes)
	const pieces = 24
	for i := range pieces {
		if err := putPiece(f, buf, i); err != nil {
			t.Fatalf("the writer does not go on: piece %d: %v; %+v", i, err, f.MountStatus().Cache)
		}
	}
	harness.Eventually(t, shipLimit, "the budget", func() (bool, string) {
		s := f.MountStatus()
		return s.Cache.Used <= s.Cache.Budget*9/10, fmt.Sprintf("%+v", s.Cache)
	})
	s := f.MountStatus()
	if s.Cache.EvictedWeak == 0 || s.Cache.EvictedWeak < s.Cache.Evicted {
		t.Errorf("%d segments evicted, %d of them in an emergency: %+v", s.Cache.Evicted, s.Cache.EvictedWeak, s.Cache)
	}
	if s.Word != "degraded" {
		t.Errorf("status with a node away: %s: %s", s.Word, s.Answer)
	}
	harness.DropCaches(t)
	before := c.Traffic()
	wantPieces(t, f, buf, pieces)
	if moved := c.Traffic().Sub(before).GetBytes; moved < pieces*pieceBytes/3 {
		t.Errorf("the nodes served %d bytes: the reads did not come from them", moved)
	}
	away.Up()
	f.WaitSafe(shipLimit)
	harness.DropCaches(t)
	wantPieces(t, f, buf, pieces)
}

// TestEvictFullRefuses: the same with evict = "full". Nothing goes that is not at full strength; writers are slowed, then
// refused, deletes work, and nothing is lost. When the node is back so are the writers.
func TestEvictFullRefuses(t *testing.T) {
	settings := map[string]string{"evict": `"full"`}
	for k, v := range smallCache {
		settings[k] = v
	}
	c := harness.Start(t, harness.Options{Settings: settings})
	f := c.Front
	away := c.Nodes[5]
	away.Kill9()
	buf := make([]byte, pieceBytes)
	n := 0
	var err error
	// The budget, what the kernel may have accepted beyond it, and some.
	for deadline := time.Now().Add(2 * time.Minute); err == nil && n < 40 && time.Now().Before(deadline); n++ {
		err = putPiece(f, buf, n)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d pieces: %v, want no space; %+v", n, err, f.MountStatus().Cache)
	}
	n-- // the last was refused
	s := f.MountStatus()
	t.Logf("refused after %d MiB of %d; %s", n*pieceBytes>>20, s.Cache.Budget>>20, s.Cache.Problem)
	if s.Cache.Evicted != 0 || s.Cache.Undispersed < s.Cache.Budget/2 || s.Cache.Problem == "" {
		t.Errorf("status: %+v", s.Cache)
	}
	if n < 3 {
		t.Errorf("only %d pieces were taken", n)
	}
	if err := os.Remove(f.Path("piece", fmt.Sprint(n))); err != nil {
		t.Errorf("a delete in a full cache: %v", err)
	}
	harness.DropCaches(t)
	wantPieces(t, f, buf, n)
	if s := f.MountStatus(); s.Cache.Evicted != 0 {
		t.Errorf("%d segments were evicted", s.Cache.Evicted)
	}
	away.Up()
	harness.Eventually(t, shipLimit, "writing with all nodes back", func() (bool, string) {
		err := putPiece(f, buf, n)
		return err == nil, fmt.Sprint(err)
	})
	f.WaitSafe(shipLimit)
	wantPieces(t, f, buf, n+1)
}

// TestReadsGoOnInAFullCache: while the kernel's writes wait for room, a read of another file that is not in the kernel's cache
// does not wait with them.
func TestReadsGoOnInAFullCache(t *testing.T) {
	settings := map[string]string{"evict": `"full"`}
	for k, v := range smallCache {
		settings[k] = v
	}
	c := harness.Start(t, harness.Options{Settings: settings})
	f := c.Front
	content := make([]byte, 1<<20)
	fillRandom(content, 61)
	writeSynced(t, f.Path("warm"), content)
	c.Nodes[5].Kill9()
	held := make(chan time.Duration, 1)
	go func() { // through the kernel's cache, with no fsync before the end
		var longest time.Duration
		defer func() { held <- longest }()
		file, err := os.Create(f.Path("big"))
		if err != nil {
			t.Error(err)
			return
		}
		defer file.Close()
		buf := make([]byte, 1<<20)
		for i := 0; i < 300 && err == nil; i++ {
			fillRandom(buf, uint64(i))
			start := time.Now()
			_, err = file.Write(buf)
			longest = max(longest, time.Since(start))
		}
		start := time.Now()
		if e := file.Sync(); err == nil && e == nil {
			t.Error("300 MiB went into a cache of 64 that cannot shrink")
		}
		longest = max(longest, time.Since(start))
	}()
	var worst time.Duration
	for reads := 0; ; reads++ {
		select {
		case longest := <-held:
			t.Logf("%d reads, the longest took %v; the writer was held for %v", reads, worst, longest)
			if longest < 2*time.Second {
				t.Error("the writer was not held up: nothing was tested")
			}
			if worst > longest/2 {
				t.Error("reads waited with the writes")
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
		start := time.Now()
		if err := readUncached(f.Path("warm"), content); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(start))
	}
}

// readUncached reads a file after the kernel has dropped its pages.
func readUncached(path string, want []byte) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := file.ReadAt(got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: wrong content", path)
	}
	return nil
}
