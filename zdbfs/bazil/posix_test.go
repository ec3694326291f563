package bazil

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPOSIX walks through the operations once, in one mount.
func TestPOSIX(t *testing.T) {
	f := mountFS(t)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, f *fixture, dir string)
	}{
		{"files", posixFiles}, {"modes", posixModes}, {"owners", posixOwners}, {"times", posixTimes},
		{"links", posixLinks}, {"symlinks", posixSymlinks}, {"nodes", posixNodes}, {"rename", posixRename},
		{"rmdir", posixRmdir}, {"unlinked", posixUnlinked}, {"xattrs", posixXattrs}, {"names", posixNames},
		{"truncate", posixTruncate}, {"fallocate", posixFallocate}, {"permissions", posixPermissions},
		{"killpriv", posixKillPriv}, {"statfs", posixStatfs}, {"negative", posixNegative}, {"append", posixAppend},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := f.path(c.name)
			must(t, os.Mkdir(dir, 0o755))
			c.run(t, f, dir)
		})
	}
	f.check()
}

func posixFiles(t *testing.T, f *fixture, dir string) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 131072, 1<<20 + 7} {
		p := fmt.Sprintf("%s/f%d", dir, n)
		data := pattern(uint64(n), n)
		writeFile(t, p, data)
		wantFile(t, p, data)
		if st := stat(t, p); st.Size != int64(n) || st.Nlink != 1 || st.Mode != syscall.S_IFREG|0o644 {
			t.Errorf("%d bytes: size %d, links %d, mode %o", n, st.Size, st.Nlink, st.Mode)
		}
	}
	fd, err := os.OpenFile(dir+"/excl", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	must(t, err)
	must(t, fd.Close())
	_, err = os.OpenFile(dir+"/excl", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	wantErrno(t, "create again", err, syscall.EEXIST)
	_, err = os.Open(dir + "/none")
	wantErrno(t, "open what is not there", err, syscall.ENOENT)
	_, err = os.Open(dir + "/excl/below")
	wantErrno(t, "path through a file", err, syscall.ENOTDIR)
}

func posixModes(t *testing.T, f *fixture, dir string) {
	p := dir + "/f"
	writeFile(t, p, nil)
	for _, mode := range []uint32{0, 0o777, 0o4755, 0o2755, 0o1644, 0o7777} {
		must(t, unix.Chmod(p, mode))
		if st := stat(t, p); st.Mode&0o7777 != mode {
			t.Errorf("chmod %o gave %o", mode, st.Mode&0o7777)
		}
	}
	// The sticky bit of a directory must reach the kernel: it is who enforces it.
	must(t, os.Mkdir(dir+"/tmp", 0o755))
	must(t, unix.Chmod(dir+"/tmp", 0o1777))
	if st := stat(t, dir+"/tmp"); st.Mode != syscall.S_IFDIR|0o1777 {
		t.Errorf("sticky directory has mode %o", st.Mode)
	}
	old := unix.Umask(0o027)
	err := os.Mkdir(dir+"/masked", 0o777)
	unix.Umask(old)
	must(t, err)
	if st := stat(t, dir+"/masked"); st.Mode&0o777 != 0o750 {
		t.Errorf("umask 027 gave %o", st.Mode&0o777)
	}
	// A directory with setgid hands its group on.
	must(t, os.Mkdir(dir+"/sg", 0o755))
	must(t, os.Chown(dir+"/sg", 0, 4242))
	must(t, unix.Chmod(dir+"/sg", 0o2775))
	must(t, os.Mkdir(dir+"/sg/sub", 0o755))
	writeFile(t, dir+"/sg/file", nil)
	if st := stat(t, dir+"/sg/sub"); st.Gid != 4242 || st.Mode&syscall.S_ISGID == 0 {
		t.Errorf("subdirectory: group %d, mode %o", st.Gid, st.Mode)
	}
	if st := stat(t, dir+"/sg/file"); st.Gid != 4242 {
		t.Errorf("file: group %d", st.Gid)
	}
}

func posixOwners(t *testing.T, f *fixture, dir string) {
	p := dir + "/f"
	writeFile(t, p, nil)
	must(t, os.Chown(p, 70000, 80000))
	if st := stat(t, p); st.Uid != 70000 || st.Gid != 80000 {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
	must(t, os.Chown(p, -1, 5))
	if st := stat(t, p); st.Uid != 70000 || st.Gid != 5 {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
}

func posixTimes(t *testing.T, f *fixture, dir string) {
	p := dir + "/f"
	writeFile(t, p, []byte("x"))
	for _, want := range []unix.Timespec{
		{Sec: 1, Nsec: 123456789}, {Sec: -5, Nsec: 0}, {Sec: -5, Nsec: 250000000}, {Sec: 1 << 33, Nsec: 7}, {Sec: 10413792000, Nsec: 999999999},
	} {
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Sec: 1000}, want}, 0))
		st := stat(t, p)
		if st.Mtim != want {
			t.Errorf("set mtime %+v, got %+v", want, st.Mtim)
		}
	}
	// The same after the kernel has forgotten: it is what we say, not what it remembers.
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Sec: 77, Nsec: 5}, {Sec: -5, Nsec: 250000000}}, 0))
	dropKernelCaches(t)
	if st := stat(t, p); st.Mtim != (unix.Timespec{Sec: -5, Nsec: 250000000}) || st.Atim != (unix.Timespec{Sec: 77, Nsec: 5}) {
		t.Errorf("after the caches were dropped: mtime %+v, atime %+v", st.Mtim, st.Atim)
	}
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{omit, {Sec: 9, Nsec: 9}}, 0))
	if st := stat(t, p); st.Atim.Sec != 77 || st.Mtim.Sec != 9 {
		t.Errorf("omit: atime %+v, mtime %+v", st.Atim, st.Mtim)
	}
	before := stat(t, dir)
	time.Sleep(20 * time.Millisecond)
	writeFile(t, dir+"/g", nil)
	after := stat(t, dir)
	if after.Mtim == before.Mtim || after.Ctim == before.Ctim {
		t.Error("making a file did not change the directory's times")
	}
	c := stat(t, p).Ctim
	time.Sleep(20 * time.Millisecond)
	must(t, os.Rename(p, p+"2"))
	if stat(t, p+"2").Ctim == c {
		t.Error("rename did not change ctime")
	}
}

func posixLinks(t *testing.T, f *fixture, dir string) {
	a, b := dir+"/a", dir+"/b"
	writeFile(t, a, []byte("one"))
	must(t, os.Link(a, b))
	sa, sb := stat(t, a), stat(t, b)
	if sa.Ino != sb.Ino || sa.Nlink != 2 || sb.Nlink != 2 {
		t.Errorf("inodes %d and %d, links %d and %d", sa.Ino, sb.Ino, sa.Nlink, sb.Nlink)
	}
	writeFile(t, b, []byte("two"))
	wantFile(t, a, []byte("two"))
	must(t, os.Remove(a))
	wantFile(t, b, []byte("two"))
	if n := stat(t, b).Nlink; n != 1 {
		t.Errorf("%d links left", n)
	}
	wantErrno(t, "link over a name", os.Link(b, b), syscall.EEXIST)
	must(t, os.Mkdir(dir+"/d", 0o755))
	wantErrno(t, "link of a directory", os.Link(dir+"/d", dir+"/e"), syscall.EPERM)
	if n := stat(t, dir).Nlink; n != 3 {
		t.Errorf("directory with one subdirectory has %d links", n)
	}
}

func posixSymlinks(t *testing.T, f *fixture, dir string) {
	for i, target := range []string{"x", "../symlinks/file", "/" + strings.Repeat("long/", 800)} {
		p := fmt.Sprintf("%s/l%d", dir, i)
		must(t, os.Symlink(target, p))
		got, err := os.Readlink(p)
		if err != nil || got != target {
			t.Errorf("read %q, %v", got, err)
		}
		if st := stat(t, p); st.Size != int64(len(target)) || st.Mode != syscall.S_IFLNK|0o777 {
			t.Errorf("size %d, mode %o", st.Size, st.Mode)
		}
	}
	writeFile(t, dir+"/file", []byte("through"))
	wantFile(t, dir+"/l1", []byte("through"))
}

func posixNodes(t *testing.T, f *fixture, dir string) {
	dev := unix.Mkdev(300, 70000)
	for _, c := range []struct {
		name string
		mode uint32
		dev  uint64
	}{{"fifo", unix.S_IFIFO | 0o640, 0}, {"sock", unix.S_IFSOCK | 0o600, 0}, {"chr", unix.S_IFCHR | 0o600, dev}, {"blk", unix.S_IFBLK | 0o600, dev}, {"reg", unix.S_IFREG | 0o600, 0}} {
		p := dir + "/" + c.name
		must(t, unix.Mknod(p, c.mode, int(c.dev)))
		if st := stat(t, p); st.Mode != c.mode || st.Rdev != c.dev {
			t.Errorf("%s: mode %o, device %#x", c.name, st.Mode, st.Rdev)
		}
	}
	// Devices work: the mount allows them.
	must(t, unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	if b, err := os.ReadFile(dir + "/null"); err != nil || len(b) != 0 {
		t.Errorf("read of a null device: %d bytes, %v", len(b), err)
	}
}

func posixRename(t *testing.T, f *fixture, dir string) {
	a, b := dir+"/a", dir+"/b"
	writeFile(t, a, []byte("a"))
	writeFile(t, b, []byte("b"))
	must(t, os.Rename(a, b))
	wantFile(t, b, []byte("a"))
	must(t, os.MkdirAll(dir+"/d1/sub", 0o755))
	must(t, os.Mkdir(dir+"/d2", 0o755))
	must(t, unix.Rename(dir+"/d1", dir+"/d2")) // over an empty directory
	if _, err := os.Stat(dir + "/d2/sub"); err != nil {
		t.Error(err)
	}
	must(t, os.Mkdir(dir+"/d3", 0o755))
	wantErrno(t, "over a full directory", unix.Rename(dir+"/d3", dir+"/d2"), syscall.ENOTEMPTY)
	wantErrno(t, "file over directory", unix.Rename(b, dir+"/d3"), syscall.EISDIR)
	wantErrno(t, "directory over file", unix.Rename(dir+"/d3", b), syscall.ENOTDIR)
	wantErrno(t, "into itself", unix.Rename(dir+"/d2", dir+"/d2/sub/x"), syscall.EINVAL)
	must(t, os.Rename(b, dir+"/d2/sub/moved"))
	wantFile(t, dir+"/d2/sub/moved", []byte("a"))
	// An open file follows its name.
	fd, err := os.Open(dir + "/d2/sub/moved")
	must(t, err)
	defer fd.Close()
	must(t, os.Rename(dir+"/d2/sub/moved", dir+"/c"))
	if got, _ := io.ReadAll(fd); string(got) != "a" {
		t.Errorf("read %q", got)
	}
	err = unix.Renameat2(unix.AT_FDCWD, dir+"/c", unix.AT_FDCWD, dir+"/d3", unix.RENAME_EXCHANGE)
	wantErrno(t, "exchange, which the library cannot carry", err, syscall.EINVAL)
}

func posixRmdir(t *testing.T, f *fixture, dir string) {
	must(t, os.MkdirAll(dir+"/d/e", 0o755))
	wantErrno(t, "rmdir of a full directory", unix.Rmdir(dir+"/d"), syscall.ENOTEMPTY)
	wantErrno(t, "unlink of a directory", unix.Unlink(dir+"/d"), syscall.EISDIR)
	writeFile(t, dir+"/f", nil)
	wantErrno(t, "rmdir of a file", unix.Rmdir(dir+"/f"), syscall.ENOTDIR)
	must(t, unix.Rmdir(dir+"/d/e"))
	must(t, unix.Rmdir(dir+"/d"))
	if n := stat(t, dir).Nlink; n != 2 {
		t.Errorf("%d links of an empty directory", n)
	}
}

func posixUnlinked(t *testing.T, f *fixture, dir string) {
	p := dir + "/f"
	fd, err := os.OpenFile(p, os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	defer fd.Close()
	data := pattern(9, 300000)
	_, err = fd.Write(data[:200000])
	must(t, err)
	must(t, os.Remove(p))
	_, err = os.Stat(p)
	wantErrno(t, "stat of the name", err, syscall.ENOENT)
	_, err = fd.Write(data[200000:])
	must(t, err)
	must(t, fd.Sync())
	var st unix.Stat_t
	must(t, unix.Fstat(int(fd.Fd()), &st))
	if st.Nlink != 0 || st.Size != int64(len(data)) {
		t.Errorf("links %d, size %d", st.Nlink, st.Size)
	}
	got := make([]byte, len(data))
	_, err = fd.ReadAt(got, 0)
	must(t, err)
	if !slices.Equal(got, data) {
		t.Error("content of the open file differs")
	}
}

func posixXattrs(t *testing.T, f *fixture, dir string) {
	p := dir + "/f"
	writeFile(t, p, nil)
	big := pattern(1, 60000)
	must(t, unix.Setxattr(p, "user.small", []byte("v"), 0))
	must(t, unix.Setxattr(p, "user.big", big, 0))
	must(t, unix.Setxattr(p, "trusted.empty", nil, 0))
	must(t, unix.Setxattr(p, "security.mine", []byte("x"), unix.XATTR_CREATE))
	wantErrno(t, "create again", unix.Setxattr(p, "user.small", nil, unix.XATTR_CREATE), syscall.EEXIST)
	wantErrno(t, "replace nothing", unix.Setxattr(p, "user.none", nil, unix.XATTR_REPLACE), syscall.ENODATA)
	buf := make([]byte, 65536)
	n, err := unix.Getxattr(p, "user.big", buf)
	if err != nil || !slices.Equal(buf[:n], big) {
		t.Errorf("%d bytes, %v", n, err)
	}
	n, err = unix.Getxattr(p, "user.big", nil)
	if err != nil || n != len(big) {
		t.Errorf("size %d, %v", n, err)
	}
	_, err = unix.Getxattr(p, "user.big", buf[:10])
	wantErrno(t, "small buffer", err, syscall.ERANGE)
	n, err = unix.Listxattr(p, buf)
	must(t, err)
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	if want := []string{"security.mine", "trusted.empty", "user.big", "user.small"}; !slices.Equal(names, want) {
		t.Errorf("names %q", names)
	}
	must(t, unix.Removexattr(p, "user.small"))
	wantErrno(t, "remove again", unix.Removexattr(p, "user.small"), syscall.ENODATA)
	_, err = unix.Getxattr(p, "user.small", buf)
	wantErrno(t, "read removed", err, syscall.ENODATA)
	acl := []byte{2, 0, 0, 0}
	if err := unix.Setxattr(p, "system.posix_acl_access", acl, 0); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("an access control list that would not be enforced: %v", err)
	}
	dropKernelCaches(t)
	if n, err := unix.Getxattr(p, "trusted.empty", buf); err != nil || n != 0 {
		t.Errorf("empty value: %d, %v", n, err)
	}
}

func posixNames(t *testing.T, f *fixture, dir string) {
	long := strings.Repeat("n", 255)
	writeFile(t, dir+"/"+long, []byte("long"))
	wantFile(t, dir+"/"+long, []byte("long"))
	_, err := os.Create(dir + "/" + long + "n")
	wantErrno(t, "256 bytes", err, syscall.ENAMETOOLONG)
	_, err = os.Stat(dir + "/" + long + "n")
	wantErrno(t, "lookup of 256 bytes", err, syscall.ENAMETOOLONG)
	for _, n := range []string{"ü", "\xff\xfe", "a b", "\n", "-rf", "日本語"} {
		writeFile(t, dir+"/"+n, []byte(n))
		wantFile(t, dir+"/"+n, []byte(n))
	}
	got := readNames(t, dir)
	if len(got) != 7 {
		t.Errorf("%d names: %q", len(got), got)
	}
}

func posixTruncate(t *testing.T, f *fixture, dir string) {
	p := dir + "/f"
	data := pattern(3, 500000)
	writeFile(t, p, data)
	must(t, os.Truncate(p, 123456))
	wantFile(t, p, data[:123456])
	must(t, os.Truncate(p, 200000))
	wantFile(t, p, append(slices.Clone(data[:123456]), make([]byte, 200000-123456)...))
	must(t, os.Truncate(p, 0))
	wantFile(t, p, nil)
	fd, err := os.OpenFile(p, os.O_RDWR, 0)
	must(t, err)
	defer fd.Close()
	_, err = fd.WriteAt([]byte("end"), 1<<30)
	must(t, err)
	must(t, fd.Sync())
	st := stat(t, p)
	if st.Size != 1<<30+3 || st.Blocks*512 > 1<<20 {
		t.Errorf("sparse file: size %d, blocks %d", st.Size, st.Blocks)
	}
	buf := make([]byte, 4096)
	_, err = fd.ReadAt(buf, 1<<29)
	must(t, err)
	if !slices.Equal(buf, make([]byte, 4096)) {
		t.Error("a hole is not zero")
	}
	writeFile(t, dir+"/g", data)
	writeFile(t, dir+"/g", []byte("short")) // O_TRUNC
	wantFile(t, dir+"/g", []byte("short"))
}

func posixFallocate(t *testing.T, f *fixture, dir string) {
	p := dir + "/f"
	data := pattern(4, 300000)
	writeFile(t, p, data)
	fd, err := os.OpenFile(p, os.O_RDWR, 0)
	must(t, err)
	defer fd.Close()
	must(t, unix.Fallocate(int(fd.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 100000, 50000))
	want := slices.Clone(data)
	clear(want[100000:150000])
	wantFile(t, p, want)
	must(t, unix.Fallocate(int(fd.Fd()), unix.FALLOC_FL_ZERO_RANGE, 0, 5000))
	clear(want[:5000])
	wantFile(t, p, want)
	must(t, unix.Fallocate(int(fd.Fd()), 0, 0, 400000))
	if st := stat(t, p); st.Size != 400000 {
		t.Errorf("size %d", st.Size)
	}
}

// posixPermissions acts as another user, in a thread of its own.
func posixPermissions(t *testing.T, f *fixture, dir string) {
	writeFile(t, dir+"/secret", []byte("s"))
	must(t, unix.Chmod(dir+"/secret", 0o600))
	must(t, os.Mkdir(dir+"/tmp", 0o777))
	must(t, unix.Chmod(dir+"/tmp", 0o1777))
	writeFile(t, dir+"/tmp/roots", nil)
	must(t, unix.Chmod(dir+"/tmp/roots", 0o666))
	asUser(t, 12345, func() {
		_, err := os.ReadFile(dir + "/secret")
		wantErrno(t, "read another's file", err, syscall.EACCES)
		wantErrno(t, "make a name in another's directory", os.Mkdir(dir+"/x", 0o755), syscall.EACCES)
		wantErrno(t, "remove another's file from a sticky directory", unix.Unlink(dir+"/tmp/roots"), syscall.EPERM)
		wantErrno(t, "chown", os.Chown(dir+"/tmp/roots", 12345, 12345), syscall.EPERM)
		writeFile(t, dir+"/tmp/mine", []byte("m"))
		if st := stat(t, dir+"/tmp/mine"); st.Uid != 12345 || st.Gid != 12345 {
			t.Errorf("owner %d:%d", st.Uid, st.Gid)
		}
	})
}

// posixKillPriv: a write by a user without rights takes setuid and setgid away.
func posixKillPriv(t *testing.T, f *fixture, dir string) {
	must(t, unix.Chmod(dir, 0o777))
	for _, how := range []string{"write", "truncate"} {
		p := dir + "/" + how
		writeFile(t, p, []byte("program"))
		must(t, unix.Chmod(p, 0o6777))
		asUser(t, 12345, func() {
			if how == "truncate" {
				must(t, os.Truncate(p, 3))
				return
			}
			fd, err := os.OpenFile(p, os.O_WRONLY, 0)
			must(t, err)
			_, err = fd.Write([]byte("X"))
			must(t, err)
			must(t, fd.Close())
		})
		dropKernelCaches(t)
		if st := stat(t, p); st.Mode&0o6000 != 0 {
			t.Errorf("%s left mode %o", how, st.Mode)
		}
	}
	p := dir + "/chown"
	writeFile(t, p, nil)
	must(t, unix.Chmod(p, 0o6755))
	must(t, os.Chown(p, 1, 1))
	dropKernelCaches(t)
	if st := stat(t, p); st.Mode&0o6000 != 0 {
		t.Errorf("chown left mode %o", st.Mode)
	}
}

func posixStatfs(t *testing.T, f *fixture, dir string) {
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	if st.Namelen != 255 || st.Bsize == 0 || st.Blocks == 0 || st.Bavail == 0 {
		t.Errorf("%+v", st)
	}
}

// posixNegative: the kernel remembers that a name is not there, and forgets it when it is made.
func posixNegative(t *testing.T, f *fixture, dir string) {
	for range 3 {
		_, err := os.Stat(dir + "/later")
		wantErrno(t, "stat", err, syscall.ENOENT)
	}
	writeFile(t, dir+"/later", []byte("here"))
	wantFile(t, dir+"/later", []byte("here"))
}

func posixAppend(t *testing.T, f *fixture, dir string) {
	p := dir + "/log"
	a, err := os.OpenFile(p, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	must(t, err)
	b, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0o644)
	must(t, err)
	var want []byte
	for i := range 200 {
		line := fmt.Appendf(nil, "line %d\n", i)
		fd := a
		if i%2 == 1 {
			fd = b
		}
		_, err := fd.Write(line)
		must(t, err)
		want = append(want, line...)
	}
	must(t, a.Close())
	must(t, b.Close())
	wantFile(t, p, want)
}
