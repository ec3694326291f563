package test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"qsfs/test/harness"
)

const (
	page = 4096
	// shardBytes is a slice of 256 KiB with at most 1 KiB of packing, and less than 1 KiB of header and MAC.
	shardBytes = 256<<10 + 2<<10
	// recordBytes leaves room for what a cut may read beside: records and epoch keys.
	recordBytes = 32 << 10
)

// TestEvictedReadMovesOneStripe reads 4 KiB at random places of an evicted file, past the kernel's cache, and asks the nodes
// what that moved: k shards of one stripe, or of two where the piece lies across their border.
func TestEvictedReadMovesOneStripe(t *testing.T) {
	c := harness.Start(t, harness.Options{Settings: map[string]string{
		"hedge": "false", "segment_size_data": `"16MiB"`, "sync_interval": `"5s"`,
	}})
	f := c.Front
	content := make([]byte, 32<<20)
	fillRandom(content, 31)
	writeSynced(t, f.Path("big"), content)
	f.Seal(shipLimit)

	file, err := os.OpenFile(f.Path("big"), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	buf := alignedPage()
	r := rand.New(rand.NewPCG(31, 2))
	k := int64(c.Policy().MinimalShards)
	straddles, local := 0, 0
	for range 100 {
		f.MustCommand(shipLimit, "zdbfs", "evict", "--all") // what the last read fetched goes too
		at := int64(r.IntN(len(content)/page)) * page
		before := c.Traffic()
		if _, err := file.ReadAt(buf, at); err != nil {
			t.Fatalf("read at %d: %v", at, err)
		}
		moved := c.Traffic().Sub(before).GetBytes
		if !bytes.Equal(buf, content[at:at+page]) {
			t.Fatalf("wrong bytes at %d", at)
		}
		switch {
		case moved < 200<<10:
			local++ // a page or two that an fsync put into the metadata log, which never leaves
		case moved <= k*shardBytes+recordBytes:
		case moved <= 2*k*shardBytes+recordBytes:
			straddles++
		default:
			t.Fatalf("read at %d moved %d bytes, %d shards of %d", at, moved, moved/shardBytes, shardBytes)
		}
	}
	if local > 3 {
		t.Errorf("%d of 100 reads did not come from the nodes", local)
	}
	// A stripe holds 256 pages: more than a few borders in a hundred would mean that two stripes are the rule.
	if straddles > 5 {
		t.Errorf("%d of 100 reads moved two stripes", straddles)
	}
}

// TestCacheBudgetEvicts: over its budget the mount evicts by itself, and what went comes back right.
func TestCacheBudgetEvicts(t *testing.T) {
	c := harness.Start(t, harness.Options{Settings: map[string]string{
		"cache_size": `"256MiB"`, "segment_size_data": `"8MiB"`,
	}})
	f := c.Front
	const files = 24
	content := make([]byte, 16<<20)
	for i := range files {
		fillRandom(content, uint64(i))
		writeSynced(t, f.Path("file", fmt.Sprint(i)), content)
	}
	harness.Eventually(t, shipLimit, "segments to be evicted", func() (bool, string) {
		s := f.MountStatus()
		return s.Cache.Evicted > 0 && s.Cache.Used <= s.Cache.Budget, s.Answer + " " + s.Cache.Problem
	})
	harness.DropCaches(t)
	before := c.Traffic()
	for i := range files {
		fillRandom(content, uint64(i))
		got, err := os.ReadFile(f.Path("file", fmt.Sprint(i)))
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("file %d: %d bytes, %v", i, len(got), err)
		}
	}
	if moved := c.Traffic().Sub(before).GetBytes; moved < 100<<20 {
		t.Errorf("the nodes served %d bytes: the reads did not come from them", moved)
	}
}

// TestMissWaitsAlone: while one read waits for nodes that are silent, everything else works; then the read fails with EIO
// within its time, and works again when the nodes are back.
func TestMissWaitsAlone(t *testing.T) {
	const timeout = 5 * time.Second
	c := harness.Start(t, harness.Options{Proxies: true, Settings: map[string]string{"fetch_timeout": fmt.Sprintf("%q", timeout)}})
	f := c.Front
	content := make([]byte, 4<<20)
	fillRandom(content, 41)
	writeSynced(t, f.Path("cold"), content)
	f.Seal(shipLimit)
	f.EvictAll(shipLimit)
	for _, n := range c.Nodes {
		n.Proxy.Set(harness.Fault{Silent: true})
	}
	start := time.Now()
	failed := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(f.Path("cold"))
		failed <- err
	}()
	time.Sleep(200 * time.Millisecond)
	for _, op := range []struct {
		name string
		do   func() error
	}{
		{"df", func() error { return unix.Statfs(f.Mountpoint, new(unix.Statfs_t)) }},
		{"ls", func() error { _, err := os.ReadDir(f.Mountpoint); return err }},
		{"stat of the cold file", func() error { _, err := os.Stat(f.Path("cold")); return err }},
		{"write and fsync elsewhere", func() error { return trySynced(f.Path("warm"), []byte("warm")) }},
	} {
		began := time.Now()
		if err := op.do(); err != nil || time.Since(began) > time.Second {
			t.Errorf("%s took %v while a read waited: %v", op.name, time.Since(began), err)
		}
	}
	select {
	case err := <-failed:
		if !isEIO(err) {
			t.Errorf("cold read with silent nodes: %v, want EIO", err)
		}
		// Not twice: the kernel asks for the first page again after its readahead has failed.
		if d := time.Since(start); d < timeout || d > 2*timeout-500*time.Millisecond {
			t.Errorf("EIO after %v, fetch_timeout is %v", d, timeout)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the read has no deadline")
	}
	for _, n := range c.Nodes {
		n.Proxy.Set(harness.Fault{})
		n.Proxy.Cut()
	}
	harness.Eventually(t, time.Minute, "the read to work again", func() (bool, string) {
		got, err := os.ReadFile(f.Path("cold"))
		return err == nil && bytes.Equal(got, content), errString(err)
	})
}

// alignedPage is a buffer that O_DIRECT accepts.
func alignedPage() []byte {
	b := make([]byte, 2*page)
	skip := page - int(uintptr(unsafe.Pointer(&b[0]))%page)
	return b[skip : skip+page]
}
