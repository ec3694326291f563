package bazil

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func readNames(t *testing.T, dir string) []string {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	must(t, err)
	slices.Sort(names)
	return names
}

// TestLargeFile writes, reads in pieces, overwrites, and does it again after a remount.
func TestLargeFile(t *testing.T) {
	f := mountFS(t)
	const size = 96 << 20
	data := pattern(11, size)
	p := f.path("large")
	writeFile(t, p, data)
	wantFile(t, p, data)
	fd, err := os.OpenFile(p, os.O_RDWR, 0)
	must(t, err)
	for i := range 200 {
		off := (i * 7919 * 4096) % (size - 9000)
		patch := pattern(uint64(i), 1+i*41%9000)
		copy(data[off:], patch)
		_, err := fd.WriteAt(patch, int64(off))
		must(t, err)
	}
	must(t, fd.Sync())
	must(t, fd.Close())
	wantFile(t, p, data)
	f.restart()
	wantFile(t, p, data)
	if st := stat(t, p); st.Size != size || st.Blocks*512 < size {
		t.Errorf("size %d, blocks %d", st.Size, st.Blocks)
	}
	f.check()
}

// TestReaddirWhileDeleting lists a directory of 10 000 names while they are removed: nothing that
// stays is missed, nothing is listed twice, and rm -r leaves nothing.
func TestReaddirWhileDeleting(t *testing.T) {
	f := mountFS(t)
	dir := f.path("many")
	must(t, os.Mkdir(dir, 0o755))
	const n = 10000
	for i := range n {
		fd, err := unix.Open(fmt.Sprintf("%s/f%05d", dir, i), unix.O_CREAT|unix.O_WRONLY, 0o644)
		must(t, err)
		must(t, unix.Close(fd))
	}
	if got := len(readNames(t, dir)); got != n {
		t.Fatalf("%d names listed, want %d", got, n)
	}
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	seen := map[string]int{}
	removed := 0
	for {
		names, err := d.Readdirnames(100)
		for _, name := range names {
			seen[name]++
			var i int
			if _, err := fmt.Sscanf(name, "f%d", &i); err != nil {
				t.Fatalf("name %q", name)
			}
			if i%2 == 0 {
				must(t, os.Remove(dir+"/"+name))
				removed++
			}
		}
		if err == io.EOF {
			break
		}
		must(t, err)
	}
	if len(seen) != n || removed != n/2 {
		t.Errorf("%d names seen, %d removed", len(seen), removed)
	}
	for name, times := range seen {
		if times != 1 {
			t.Errorf("%s seen %d times", name, times)
		}
	}
	if got := len(readNames(t, dir)); got != n/2 {
		t.Errorf("%d names left, want %d", got, n/2)
	}
	must(t, os.RemoveAll(dir))
	f.check()
}

// TestReadThatWaitsHoldsUpNobody blocks every fetch and looks how everything else answers.
func TestReadThatWaitsHoldsUpNobody(t *testing.T) {
	f := mountFS(t)
	data := pattern(21, 4<<20)
	writeFile(t, f.path("cold"), data)
	must(t, os.Mkdir(f.path("d"), 0o755))
	if f.ask("evict") == "0" {
		t.Fatal("nothing was evicted")
	}
	dropKernelCaches(t)
	f.flag("blocked", true)
	const readers = 40
	var wg sync.WaitGroup
	var finished atomic.Int32
	for i := range readers {
		wg.Go(func() {
			fd, err := os.Open(f.path("cold"))
			if err != nil {
				t.Error(err)
				return
			}
			defer fd.Close()
			p := make([]byte, 4096)
			off := int64(i) * 100 << 10
			_, err = fd.ReadAt(p, off)
			finished.Add(1)
			if err != nil || !bytes.Equal(p, data[off:off+4096]) {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	var worst time.Duration
	timed := func(what string, do func() error) {
		start := time.Now()
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		worst = max(worst, time.Since(start))
	}
	for i := range 20 {
		timed("df", func() error { var st unix.Statfs_t; return unix.Statfs(f.dir, &st) })
		timed("stat", func() error { _, err := os.Stat(f.path("cold")); return err })
		timed("ls", func() error { _, err := os.ReadDir(f.dir); return err })
		timed("write and fsync", func() error {
			fd, err := os.Create(f.path("d", fmt.Sprint(i)))
			if err != nil {
				return err
			}
			_, err = fd.Write(data[:10000])
			return errors.Join(err, fd.Sync(), fd.Close())
		})
		timed("rename", func() error { return os.Rename(f.path("d", fmt.Sprint(i)), f.path("d", fmt.Sprintf("r%d", i))) })
	}
	if n := finished.Load(); n != 0 {
		t.Errorf("%d reads finished though fetching is blocked", n)
	}
	if worst > 3*time.Second {
		t.Errorf("something else took %v", worst)
	}
	t.Logf("slowest other operation: %v", worst)
	f.flag("blocked", false)
	wg.Wait()
	if f.ask("fetches") == "0 0" {
		t.Error("nothing was fetched")
	}
}

// TestColdDirectReadFetchesItsBytes: a small O_DIRECT read asks for no more than it needs.
func TestColdDirectReadFetchesItsBytes(t *testing.T) {
	f := mountFS(t)
	data := pattern(22, 8<<20)
	writeFile(t, f.path("cold"), data)
	f.ask("evict")
	dropKernelCaches(t)
	fd, err := unix.Open(f.path("cold"), unix.O_RDONLY|unix.O_DIRECT, 0)
	must(t, err)
	defer unix.Close(fd)
	f.ask("fetches")
	mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	for i := range 50 {
		off := int64(i*37%2000) * 4096
		_, err := unix.Pread(fd, mem, off)
		must(t, err)
		if !bytes.Equal(mem, data[off:off+4096]) {
			t.Fatalf("content at %d differs", off)
		}
		var calls, n int
		if _, err := fmt.Sscan(f.ask("fetches"), &calls, &n); err != nil {
			t.Fatal(err)
		}
		if calls > 2 || n > 64<<10 {
			t.Fatalf("a read of 4 KiB at %d fetched %d bytes in %d calls", off, n, calls)
		}
	}
}

// TestUnreachableDataIsEIO: never zeros, never a short read.
func TestUnreachableDataIsEIO(t *testing.T) {
	f := mountFS(t)
	data := pattern(23, 1<<20)
	writeFile(t, f.path("cold"), data)
	f.ask("evict")
	dropKernelCaches(t)
	f.flag("away", true)
	_, err := os.ReadFile(f.path("cold"))
	wantErrno(t, "read while the nodes are away", err, syscall.EIO)
	f.flag("away", false)
	wantFile(t, f.path("cold"), data)
}

// TestKilledReaderGoesAway: a process that waits for a fetch can be killed.
func TestKilledReaderGoesAway(t *testing.T) {
	f := mountFS(t)
	writeFile(t, f.path("cold"), pattern(24, 1<<20))
	f.ask("evict")
	dropKernelCaches(t)
	f.flag("blocked", true)
	defer f.flag("blocked", false)
	cmd := exec.Command("cat", f.path("cold"))
	must(t, cmd.Start())
	time.Sleep(200 * time.Millisecond)
	must(t, cmd.Process.Kill())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("a killed reader still waits")
		f.flag("blocked", false)
		<-done
	}
}

// TestParallelTree works in many directories at once and compares.
func TestParallelTree(t *testing.T) {
	f := mountFS(t)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			dir := f.path(fmt.Sprintf("w%d", w))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Error(err)
				return
			}
			for i := range 100 {
				p := fmt.Sprintf("%s/%d", dir, i)
				data := pattern(uint64(w*1000+i), 1+i*311)
				if err := os.WriteFile(p, data, 0o644); err != nil {
					t.Error(err)
					return
				}
				if i%3 == 0 {
					if err := os.Rename(p, p+"r"); err != nil {
						t.Error(err)
					}
					p += "r"
				}
				if i%7 == 0 {
					if err := os.Remove(p); err != nil {
						t.Error(err)
					}
					continue
				}
				wantFile(t, p, data)
			}
		})
	}
	wg.Wait()
	f.check()
}
