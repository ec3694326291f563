package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
)

func pattern(seed byte, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

func writeSynced(t *testing.T, path string, data []byte) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	_, err = f.Write(data)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func wantFile(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, want %d; %v", path, len(got), len(want), err)
	}
}

func dropKernelCaches(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200))
}

// TestLife goes through a first mount, a stop, a kill and an unmount from outside.
func TestLife(t *testing.T) {
	m := newMachine(t)
	m.mount()
	data := pattern(1, 300000)
	writeSynced(t, m.path("a"), data)
	m.ship()
	m.eventually("safe", func() error {
		if st := m.status(); st.Word != client.Safe || !st.Safe || st.AtRisk.Bytes != 0 {
			return fmt.Errorf("%s: %s, %+v", st.Word, st.Answer, st.AtRisk)
		}
		return nil
	})
	st := m.status()
	if !st.Mount.Running || st.Mount.Epoch != 1 || st.Mount.Verdict != client.Verified || st.Mount.Dir != m.dir {
		t.Errorf("mount: %+v", st.Mount)
	}
	writeSynced(t, m.path("b"), data)
	m.stop()
	m.z.with(func() {
		if m.z.cut.Number == 0 || m.z.cut.Meta.Seq == 0 {
			t.Error("a stop ships what is left; no cut was taken")
		}
	})
	m.mount()
	wantFile(t, m.path("a"), data)
	wantFile(t, m.path("b"), data)
	writeSynced(t, m.path("c"), data)
	m.kill()
	m.mount() // over the dead mount
	wantFile(t, m.path("c"), data)
	must(t, unix.Unmount(m.dir, 0))
	if code := m.wait(30 * time.Second); code != exit.OK {
		t.Errorf("after umount: code %d", code)
	}
	m.mount()
	wantFile(t, m.path("c"), data)
	must(t, m.control().Stop(context.Background()))
	if code := m.wait(30 * time.Second); code != exit.OK {
		t.Errorf("after zdbfs umount: code %d", code)
	}
}

// TestBadStarts: each ends with one line and its code, and leaves everything as it was.
func TestBadStarts(t *testing.T) {
	m := newMachine(t)
	key := filepath.Join(m.base, "key")

	must(t, os.Chmod(key, 0o640))
	m.refused(exit.Key, "key")
	must(t, os.Chmod(key, 0o600))
	must(t, os.Rename(key, key+".away"))
	m.refused(exit.Key, "key")
	must(t, os.Rename(key+".away", key))

	must(t, os.MkdirAll(filepath.Join(m.dir, "somebody's"), 0o755))
	m.refused(exit.MountPoint, "not empty")
	must(t, os.RemoveAll(m.dir))

	m.z.down()
	m.refused(exit.Unreachable, "first mount needs the nodes")
	m.z.up()
	m.z.with(func() { m.z.password = true })
	m.refused(exit.Password, "password")
	m.z.with(func() { m.z.password, m.z.formatted = false, true })
	m.refused(exit.Stale, "zdbfs recover")
	m.z.with(func() { m.z.formatted = false })

	m.mount()
	writeSynced(t, m.path("f"), []byte("kept"))
	m.stop()

	owner := filepath.Join(m.state, client.OwnerFile)
	must(t, os.Rename(owner, owner+".away"))
	m.refused(exit.Damaged, "zdbfs recover")
	must(t, os.WriteFile(owner, []byte("{half"), 0o600))
	m.refused(exit.Damaged, "zdbfs recover")
	must(t, os.WriteFile(owner, []byte(`{"epoch":1,"id":"one","recovering":true}`), 0o600))
	m.refused(exit.Stale, "run zdbfs recover again")
	must(t, os.Rename(owner+".away", owner))

	m.z.with(func() { m.z.verdict = client.Stale })
	m.refused(exit.Stale, "zdbfs recover")
	m.z.with(func() { m.z.verdict, m.z.fencedBy = client.Verified, "epoch 2 by somebody" })
	m.refused(exit.Stale, "--take-over")
	m.mount(envTakeOver + "=yes")
	wantFile(t, m.path("f"), []byte("kept"))
	if st := m.status(); st.Mount.Epoch != 2 {
		t.Errorf("epoch %d after taking over", st.Mount.Epoch)
	}
	m.stop()
	m.z.with(func() { m.z.verdict = client.Stale })
	m.refused(exit.Stale, "zdbfs recover", envTakeOver+"=yes")
}

// TestTwoMountsOfOneState: the lock holds, also when the mount points differ.
func TestTwoMountsOfOneState(t *testing.T) {
	m := newMachine(t)
	m.mount()
	first, done := m.cmd, m.done
	m.start()
	if code := m.wait(20 * time.Second); code != exit.InUse {
		t.Errorf("the same again: code %d", code)
	}
	dir := m.dir
	m.dir = filepath.Join(m.base, "other")
	m.configure()
	m.refused(exit.InUse, "in use")
	m.cmd, m.done, m.dir = first, done, dir
	m.stop()
}

// TestWithoutZstor: local data is served and written; when zstor comes, it is compared and shipped.
func TestWithoutZstor(t *testing.T) {
	m := newMachine(t)
	m.mount()
	writeSynced(t, m.path("f"), []byte("one"))
	m.stop()
	m.z.down()
	m.mount()
	wantFile(t, m.path("f"), []byte("one"))
	writeSynced(t, m.path("f"), []byte("two"))
	st := m.status()
	if st.Safe || st.Mount.Verdict != client.Unverified || st.ZstorError == "" || len(st.Advice) == 0 {
		t.Errorf("without zstor: %+v", st)
	}
	m.z.up()
	m.eventually("verified and safe", func() error {
		if st := m.status(); st.Word != client.Safe {
			return fmt.Errorf("%s: %s", st.Word, st.Answer)
		}
		return nil
	})
	m.stop()
	m.z.down()
	m.configure(`offline_mount = "no"`)
	m.refused(exit.Unreachable, "offline_mount")
	m.z.up()
	m.z.with(func() { m.z.verdict = client.Unverified })
	m.refused(exit.Unreachable, "offline_mount")
}

// TestRestartedZstorIsAttachedAgain: it does not know us any more, and nothing else happens.
func TestRestartedZstorIsAttachedAgain(t *testing.T) {
	m := newMachine(t)
	m.mount()
	m.ship()
	m.z.down()
	time.Sleep(time.Second)
	m.z.with(func() { m.z.attached = 0 })
	m.z.up()
	writeSynced(t, m.path("f"), []byte("x"))
	m.ship()
	m.z.with(func() {
		if m.z.attached == 0 {
			t.Error("not attached again")
		}
	})
	m.stop()
}

// TestFenced: the mount turns read-only, says who took over, keeps serving what is there.
func TestFenced(t *testing.T) {
	m := newMachine(t)
	m.mount()
	writeSynced(t, m.path("f"), []byte("mine"))
	m.ship()
	m.z.with(func() { m.z.fencedBy = "epoch 7 by another machine" })
	m.eventually("read-only", func() error {
		if st := m.status(); !st.Mount.ReadOnly || st.Word != client.Stopped || st.Safe || !strings.Contains(st.Answer, "epoch 7 by another machine") {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	wantFile(t, m.path("f"), []byte("mine"))
	if err := os.WriteFile(m.path("g"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("create on a fenced mount: %v", err)
	}
	if _, err := m.control().Sync(context.Background(), control.SyncRequest{Remote: true}); exit.Of(err) != exit.Stale {
		t.Errorf("sync on a fenced mount: %v", err)
	}
	m.stop()
}

// TestEvictAndMiss evicts everything and reads it back, stripe by stripe.
func TestEvictAndMiss(t *testing.T) {
	m := newMachine(t, `segment_size_data = "4MiB"`)
	m.mount()
	data := pattern(3, 20<<20)
	writeSynced(t, m.path("big"), data)
	for _, state := range []string{"first", "a second time, with nothing new"} {
		if _, err := m.control().Sync(context.Background(), control.SyncRequest{Remote: true, Seal: true}); err != nil {
			t.Fatalf("seal %s: %v", state, err)
		}
	}
	m.z.with(func() { m.z.consent = "a node is down" })
	r, err := m.control().Evict(context.Background(), control.EvictRequest{All: true})
	if err != nil || r.Evicted != 0 || len(r.Kept) == 0 {
		t.Errorf("without consent: %+v, %v", r, err)
	}
	for name, why := range r.Kept {
		if why != "a node is down" {
			t.Errorf("%s kept: %s", name, why)
		}
	}
	m.z.with(func() { m.z.consent = "" })
	m.eventually("eviction of all", func() error {
		r, err := m.control().Evict(context.Background(), control.EvictRequest{All: true})
		if err == nil && len(r.Kept) > 0 {
			err = fmt.Errorf("kept: %v", r.Kept)
		}
		return err
	})
	left, err := filepath.Glob(filepath.Join(m.state, "data", client.NamespaceData, "d*"))
	must(t, err)
	for _, d := range left {
		n := strings.TrimPrefix(filepath.Base(d), "d")
		if _, err := os.Stat(filepath.Join(m.state, "index", client.NamespaceData, "i"+n)); err == nil {
			t.Errorf("sealed segment %s is still local", d)
		}
	}
	if st := m.status(); st.Cache.Evicted < 4 || st.Cache.LocalSealed != 0 {
		t.Errorf("cache %+v", st.Cache)
	}

	dropKernelCaches(t)
	m.z.with(func() { m.z.stripes = 0 })
	readDirect(t, m.path("big"), 5<<20, data)
	m.z.with(func() {
		if m.z.stripes < 1 || m.z.stripes > 2 {
			t.Errorf("a read of 4 KiB fetched %d stripes", m.z.stripes)
		}
		m.z.stripes = 0
	})
	readDirect(t, m.path("big"), 5<<20, data)
	m.z.with(func() {
		if m.z.stripes != 0 {
			t.Errorf("a second read fetched %d stripes", m.z.stripes)
		}
	})
	wantFile(t, m.path("big"), data)
	m.z.with(func() {
		if m.z.stripes > 30 {
			t.Errorf("reading 20 MiB fetched %d stripes of 1 MiB", m.z.stripes)
		}
	})

	// Across a restart the stripes are still there; without them and without zstor it is EIO.
	m.stop()
	m.z.down()
	m.mount()
	dropKernelCaches(t)
	wantFile(t, m.path("big"), data)
	if _, err := m.control().Evict(context.Background(), control.EvictRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	dropKernelCaches(t)
	start := time.Now()
	if _, err := os.ReadFile(m.path("big")); !errors.Is(err, syscall.EIO) {
		t.Errorf("nobody to fetch from: %v", err)
	}
	if d := time.Since(start); d > 15*time.Second {
		t.Errorf("it took %v to say so", d)
	}
	m.z.up()
	wantFile(t, m.path("big"), data)
	m.stop()
}

// readDirect reads 4 KiB past the kernel's cache.
func readDirect(t *testing.T, path string, off int64, data []byte) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
	must(t, err)
	defer unix.Close(fd)
	mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	defer func() { _ = unix.Munmap(mem) }()
	if n, err := unix.Pread(fd, mem, off); err != nil || !bytes.Equal(mem[:n], data[off:off+4096]) {
		t.Errorf("read at %d: %d bytes, %v", off, n, err)
	}
}

// TestBudget: local segments and stripes stay within it by themselves.
func TestBudget(t *testing.T) {
	m := newMachine(t, `segment_size_data = "1MiB"`, `cache_size = "16MiB"`)
	m.mount()
	data := pattern(4, 60<<20)
	for i := range 12 {
		writeSynced(t, m.path(fmt.Sprint(i)), data[i*5<<20:(i+1)*5<<20])
	}
	m.eventually("the budget", func() error {
		if c := m.status().Cache; c.Used > 16<<20 || c.Evicted == 0 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	dropKernelCaches(t)
	for i := range 12 {
		wantFile(t, m.path(fmt.Sprint(i)), data[i*5<<20:(i+1)*5<<20])
	}
	m.eventually("the budget after reading", func() error {
		if c := m.status().Cache; c.Used > 16<<20 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	m.stop()
}

// TestBackPressure: nothing is dispersed, so writers are slowed and then refused; deletes work, and
// when the nodes are back so are the writers. Nobody hangs.
func TestBackPressure(t *testing.T) {
	m := newMachine(t, `segment_size_data = "1MiB"`, `cache_size = "16MiB"`)
	m.mount()
	m.z.with(func() { m.z.problem = "the nodes are away" })
	data := pattern(5, 1<<20)
	var err error
	start := time.Now()
	n := 0
	for ; n < 1000 && err == nil; n++ {
		err = func() error {
			f, err := os.OpenFile(m.path(fmt.Sprint(n)), os.O_CREATE|os.O_WRONLY|unix.O_DIRECT, 0o644)
			if err != nil {
				return err
			}
			_, err = unix.Write(int(f.Fd()), data)
			return errors.Join(err, f.Close())
		}()
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d MiB: %v", n, err)
	}
	if n < 8 || n > 40 {
		t.Errorf("refused after %d MiB of a budget of 16", n)
	}
	t.Logf("refused after %d MiB and %v", n, time.Since(start))
	st := m.status()
	if !st.Cache.Full && !st.Cache.Throttled {
		t.Errorf("status does not say so: %+v", st.Cache)
	}
	must(t, os.Remove(m.path("0")))
	m.z.with(func() { m.z.problem = "" })
	m.eventually("room", func() error { return os.WriteFile(m.path("later"), data, 0o644) })
	m.eventually("a synced write", func() error {
		f, err := os.Create(m.path("synced"))
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Sync(), f.Close())
	})
	wantFile(t, m.path("1"), data)
	m.stop()
}

// TestRemoteSync: an fsync of a filesystem with sync = "remote" waits for a cut, and fails with one
// that does not come.
func TestRemoteSync(t *testing.T) {
	m := newMachine(t, `sync = "remote"`, `max_unshipped_age = "2s"`)
	m.mount()
	writeSynced(t, m.path("f"), []byte("x"))
	var before uint64
	m.z.with(func() { before = m.z.cut.Meta.Seq })
	if before == 0 {
		t.Error("fsync returned before a cut was taken")
	}
	m.z.with(func() { m.z.problem = "the nodes are away" })
	f, err := os.Create(m.path("g"))
	must(t, err)
	_, err = f.Write([]byte("y"))
	must(t, err)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync without nodes: %v", err)
	}
	must(t, f.Close())
	m.z.with(func() { m.z.problem = "" })
	writeSynced(t, m.path("h"), []byte("z"))
	m.stop()
}

// TestStopWithOpenFiles: a program that keeps files open does not keep the stop from ending, and
// what it wrote is there.
func TestStopWithOpenFiles(t *testing.T) {
	for _, closes := range []bool{true, false} {
		m := newMachine(t)
		m.mount()
		f, err := os.Create(m.path("held"))
		must(t, err)
		_, err = f.Write([]byte("dirty"))
		must(t, err)
		if closes {
			time.AfterFunc(2*time.Second, func() { _ = f.Close() })
		}
		m.stop()
		if !closes {
			// The kernel may still take the bytes, but it must not promise them.
			if _, err := f.Write([]byte("x")); err == nil && f.Sync() == nil {
				t.Error("a write after the end was promised")
			}
		}
		_ = f.Close()
		m.mount()
		wantFile(t, m.path("held"), []byte("dirty"))
		m.stop()
	}
}

// TestStopWithTheMountInAnotherNamespace: a container has a copy of the mount, which no unmount of
// ours takes away.
func TestStopWithTheMountInAnotherNamespace(t *testing.T) {
	m := newMachine(t)
	m.mount()
	writeSynced(t, m.path("f"), []byte("kept"))
	other := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo up; exec sleep 1000")
	out, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	_, err = out.Read(make([]byte, 3))
	must(t, err)
	start := time.Now()
	m.stop()
	t.Logf("stopped after %v", time.Since(start))
	m.mount()
	wantFile(t, m.path("f"), []byte("kept"))
	m.stop()
}

// TestStatusCountsWhatIsNotAnnounced: what the daemon has taken is at risk from then on, in memory and in the log, though
// zstor, which hears of it at the next announcement, says that all is well.
func TestStatusCountsWhatIsNotAnnounced(t *testing.T) {
	m := newMachine(t)
	b, err := os.ReadFile(m.config)
	must(t, err)
	slow := strings.Replace(string(b), `sync_interval = "400ms"`, `sync_interval = "50s"`, 1)
	slow = strings.Replace(slow, `flush_interval = "100ms"`, `flush_interval = "50s"`, 1)
	must(t, os.WriteFile(m.config, []byte(slow), 0o600))
	m.mount()
	safe := func() {
		t.Helper()
		m.ship()
		m.eventually("safe", func() error {
			if st := m.status(); st.Word != client.Safe || st.AtRisk != (control.AtRisk{}) {
				return fmt.Errorf("%s: %s, %+v", st.Word, st.Answer, st.AtRisk)
			}
			return nil
		})
	}
	atRisk := func(what string, since time.Time, least, unsynced int64) {
		t.Helper()
		st := m.status()
		r := st.AtRisk
		if st.Word != client.Shipping || !strings.Contains(st.Answer, "only on this machine") {
			t.Errorf("%s: %s: %s", what, st.Word, st.Answer)
		}
		if r.Bytes < least || r.Bytes > 3*least+8<<10 || r.Unsynced < unsynced {
			t.Errorf("%s: %d bytes at risk, %d unsynced, want at least %d and %d", what, r.Bytes, r.Unsynced, least, unsynced)
		}
		// The last look at the logs was in the last seconds.
		if d := since.Sub(r.Since); d < -time.Minute || d > 5*time.Second || r.Since.IsZero() {
			t.Errorf("%s: since %v, written after %v", what, r.Since, since)
		}
	}
	safe()
	data := pattern(8, 2<<20)
	now := time.Now()
	must(t, writeDirect(m.path("memory"), data))
	atRisk("in memory", now, int64(len(data)), int64(len(data)))
	safe()
	now = time.Now()
	writeSynced(t, m.path("log"), data)
	atRisk("in the log", now, int64(len(data)), 0)
	safe()
	now = time.Now()
	must(t, os.Mkdir(m.path("dir"), 0o700))
	atRisk("a name", now, 1, 0)
	safe()
	m.z.with(func() { m.z.problem = "the nodes are away" })
	must(t, os.Chmod(m.path("log"), 0o600))
	atRisk("a mode", time.Now(), 1, 0)
	m.z.with(func() { m.z.problem = "" })
	m.stop()
}
