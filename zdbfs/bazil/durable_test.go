package bazil

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// envMmap makes this binary write through a mapping: "path size".
const envMmap = "QSFS_TEST_MMAP"

// TestSyncedSurvivesKill kills the server: what fsync had promised is there, and the mount that was
// left behind is taken away by the next start.
func TestSyncedSurvivesKill(t *testing.T) {
	f := mountFS(t)
	promised := map[string][]byte{}
	for round := range 3 {
		for i := range 30 {
			name := fmt.Sprintf("r%d-%d", round, i)
			data := pattern(uint64(round*100+i), 1+i*1999)
			fd, err := os.Create(f.path(name))
			must(t, err)
			_, err = fd.Write(data)
			must(t, err)
			must(t, fd.Sync())
			must(t, fd.Close())
			promised[name] = data
			writeFile(t, f.path("unsynced"), data)
		}
		d, err := os.Open(f.dir)
		must(t, err)
		must(t, d.Sync())
		must(t, d.Close())
		f.kill()
		if err := unix.Statfs(f.dir, new(unix.Statfs_t)); err != syscall.ENOTCONN {
			t.Errorf("the dead mount answers %v", err)
		}
		f.start()
		for name, data := range promised {
			wantFile(t, f.path(name), data)
		}
	}
	f.check()
}

// TestTimesOfWritebackAreTheKernels: written pages do not move mtime and ctime behind its back.
func TestTimesOfWritebackAreTheKernels(t *testing.T) {
	f := mountFS(t, "nocache")
	p := f.path("f")
	writeFile(t, p, pattern(1, 100000))
	want := unix.Timespec{Sec: 1234567, Nsec: 89}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{want, want}, 0))
	c := stat(t, p).Ctim
	time.Sleep(1500 * time.Millisecond) // until everything is flushed
	f.ask("sync")
	st := stat(t, p)
	if st.Mtim != want || st.Ctim != c {
		t.Errorf("mtime %+v, ctime %+v, want %+v and %+v", st.Mtim, st.Ctim, want, c)
	}
	f.restart()
	st = stat(t, p)
	if st.Mtim != want || st.Ctim != c {
		t.Errorf("after a remount: mtime %+v, ctime %+v, want %+v and %+v", st.Mtim, st.Ctim, want, c)
	}
}

// TestMmap writes through a shared mapping in another process, and reads what it wrote.
func TestMmap(t *testing.T) {
	f := mountFS(t)
	p := f.path("mapped")
	const size = 3<<20 + 1000
	writeFile(t, p, pattern(5, size))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", envMmap, p, size))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := pattern(5, size)
	for i := 0; i < size; i += 5000 {
		want[i] = byte(i / 5000)
	}
	wantFile(t, p, want)
	f.restart()
	wantFile(t, p, want)
}

func mmapChild(arg string) int {
	path, n, _ := strings.Cut(arg, " ")
	size, err := strconv.Atoi(n)
	if err != nil {
		return 1
	}
	fail := func(err error) int { fmt.Println(err); return 1 }
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fail(err)
	}
	if !bytes.Equal(mem, pattern(5, size)) {
		return fail(fmt.Errorf("the mapping shows other bytes"))
	}
	for i := 0; i < size; i += 5000 {
		mem[i] = byte(i / 5000)
	}
	if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
		return fail(err)
	}
	if err := unix.Munmap(mem); err != nil {
		return fail(err)
	}
	if err := unix.Close(fd); err != nil {
		return fail(err)
	}
	return 0
}

// TestFullIsHeardAtOnce: while room is short, a file that is only written bypasses the cache, so that
// write(2) itself fails.
func TestFullIsHeardAtOnce(t *testing.T) {
	f := mountFS(t)
	f.ask("full on")
	fd, err := os.OpenFile(f.path("f"), os.O_CREATE|os.O_WRONLY, 0o644)
	must(t, err)
	_, err = fd.Write(pattern(1, 100000))
	wantErrno(t, "write", err, syscall.ENOSPC)
	must(t, fd.Close())
	must(t, os.Remove(f.path("f"))) // deletes always work
	f.ask("full off")
	writeFile(t, f.path("f"), pattern(1, 100000))
	wantFile(t, f.path("f"), pattern(1, 100000))
}

// TestReadOnly: what a fenced machine still does.
func TestReadOnly(t *testing.T) {
	f := mountFS(t)
	data := pattern(2, 50000)
	writeFile(t, f.path("f"), data)
	fd, err := os.OpenFile(f.path("open"), os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	f.ask("readonly")
	wantFile(t, f.path("f"), data)
	_, err = os.Create(f.path("new"))
	wantErrno(t, "create", err, syscall.EROFS)
	_, err = os.OpenFile(f.path("f"), os.O_WRONLY, 0)
	wantErrno(t, "open for writing", err, syscall.EROFS)
	wantErrno(t, "unlink", unix.Unlink(f.path("f")), syscall.EROFS)
	wantErrno(t, "rename", unix.Rename(f.path("f"), f.path("g")), syscall.EROFS)
	wantErrno(t, "mkdir", unix.Mkdir(f.path("d"), 0o755), syscall.EROFS)
	wantErrno(t, "chmod", unix.Chmod(f.path("f"), 0), syscall.EROFS)
	if _, err = fd.Write([]byte("lost?")); err == nil {
		err = fd.Sync() // the kernel took the write: it must not be lost in silence
	}
	if err == nil {
		t.Error("a write to an open file was acknowledged")
	}
	_ = fd.Close()
}

// TestKernelSettings: the limits reach the kernel.
func TestKernelSettings(t *testing.T) {
	f := mountFS(t)
	bdi := "/sys/class/bdi/" + f.ask("device") + "/"
	read := func(name string) int {
		b, err := os.ReadFile(bdi + name)
		must(t, err)
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		must(t, err)
		return n
	}
	if kb := read("read_ahead_kb"); kb != 1024 {
		t.Errorf("read_ahead_kb %d", kb)
	}
	// The kernel keeps it as a share of memory, in steps.
	if n := read("max_bytes"); n < 32<<20 || n > 80<<20 {
		t.Errorf("max_bytes %d", n)
	}
	m, err := findMount(f.dir)
	must(t, err)
	if m == nil || m.fstype != "fuse.qsfs" || m.source != "qsfs" {
		t.Errorf("mount shows as %+v", m)
	}
}

// TestMountPoints: each that cannot be used is refused with its reason, and nothing is changed.
func TestMountPoints(t *testing.T) {
	f := mountFS(t)
	base := t.TempDir()
	writeFile(t, base+"/file", nil)
	must(t, os.MkdirAll(base+"/full/x", 0o755))
	for _, c := range []struct{ dir, want string }{
		{f.dir, "already"}, {base + "/file", "not a directory"}, {base + "/full", "not empty"}, {"/proc", "mounted there"}, {"/", "root directory"},
		{base + "/file/x", "cannot make"},
	} {
		_, err := PrepareMountPoint(c.dir)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q in it", c.dir, err, c.want)
		}
	}
	if got, err := PrepareMountPoint(base + "/new/dir"); err != nil || got != base+"/new/dir" {
		t.Errorf("a directory to be made: %q, %v", got, err)
	}
	must(t, os.Symlink(base+"/new/dir", base+"/link"))
	if got, err := PrepareMountPoint(base + "/link"); err != nil || got != base+"/new/dir" {
		t.Errorf("through a symbolic link: %q, %v", got, err)
	}
}

func TestParseMountInfo(t *testing.T) {
	info := "22 1 0:20 / /a\\040b rw - fuse.qsfs qsfs rw\n23 1 0:21 / /a\\040b rw shared:1 - tmpfs none rw\nbroken\n"
	m, err := parseMountInfo([]byte(info), "/a b")
	if err != nil || m == nil || m.device != "0:21" || m.fstype != "tmpfs" {
		t.Errorf("got %+v, %v", m, err)
	}
	if m, _ := parseMountInfo([]byte(info), "/a"); m != nil {
		t.Errorf("got %+v", m)
	}
}

// TestOrphansAreFreed: a file that was unlinked while open is gone after it was closed, and after a
// crash with it open.
func TestOrphansAreFreed(t *testing.T) {
	f := mountFS(t)
	fd, err := os.Create(f.path("closed"))
	must(t, err)
	_, err = io.Copy(fd, bytes.NewReader(pattern(1, 3<<20)))
	must(t, err)
	must(t, os.Remove(f.path("closed")))
	must(t, fd.Close())
	held, err := os.Create(f.path("held"))
	must(t, err)
	_, err = held.Write(pattern(2, 1<<20))
	must(t, err)
	must(t, held.Sync())
	must(t, os.Remove(f.path("held")))
	d, err := os.Open(f.dir)
	must(t, err)
	must(t, d.Sync())
	must(t, d.Close())
	f.kill()
	_ = held.Close()
	f.start()
	deadline := time.Now().Add(10 * time.Second)
	for {
		got := f.ask("check")
		if got == "1 0" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("inodes and orphans left: %s, want 1 0", got)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
