package zdbfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A model of the filesystem: a tree in plain memory, which does what POSIX says in the simplest way. Contents are
// strings, so that a copy of the tree shares them.
type model struct {
	nodes map[Ino]*mnode
}

type mnode struct {
	ino      Ino
	mode     uint32
	uid, gid uint32
	nlink    uint32
	parent   Ino
	content  string // or the link's target
	kids     map[string]Ino
	xattrs   map[string]string
	opens    int
}

func newModel() *model {
	return &model{nodes: map[Ino]*mnode{RootIno: {
		ino: RootIno, mode: syscall.S_IFDIR | 0o755, nlink: 2, parent: RootIno, kids: map[string]Ino{},
	}}}
}

func (m *model) clone() *model {
	out := &model{nodes: make(map[Ino]*mnode, len(m.nodes))}
	for ino, n := range m.nodes {
		c := *n
		c.kids, c.xattrs = maps.Clone(n.kids), maps.Clone(n.xattrs)
		out.nodes[ino] = &c
	}
	return out
}

func (n *mnode) isDir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }
func (n *mnode) isReg() bool { return n.mode&syscall.S_IFMT == syscall.S_IFREG }

// crashed is the model after a crash: what was open and without a name is gone.
func (m *model) crashed() *model {
	out := m.clone()
	for ino, n := range out.nodes {
		n.opens = 0
		if n.nlink == 0 {
			delete(out.nodes, ino)
		}
	}
	return out
}

func (m *model) release(n *mnode) {
	if n.nlink == 0 && n.opens == 0 {
		delete(m.nodes, n.ino)
	}
}

// dump writes the tree in one canonical form.
func (m *model) dump() string {
	var b strings.Builder
	var walk func(path string, n *mnode)
	walk = func(path string, n *mnode) {
		dumpNode(&b, path, n.ino, n.mode, n.uid, n.gid, n.nlink, n.content, n.xattrs)
		for _, name := range slices.Sorted(maps.Keys(n.kids)) {
			walk(path+"/"+name, m.nodes[n.kids[name]])
		}
	}
	walk("", m.nodes[RootIno])
	return b.String()
}

func dumpNode(b *strings.Builder, path string, ino Ino, mode, uid, gid, nlink uint32, content string, x map[string]string) {
	fmt.Fprintf(b, "%s %d %o %d:%d %d %d %08x", path, ino, mode, uid, gid, nlink, len(content), crc32.ChecksumIEEE([]byte(content)))
	for _, k := range slices.Sorted(maps.Keys(x)) {
		fmt.Fprintf(b, " %s=%q", k, x[k])
	}
	b.WriteByte('\n')
}

// dump is the same of a filesystem.
func (f *testFS) dump() string {
	var b strings.Builder
	var walk func(path string, ino Ino)
	walk = func(path string, ino Ino) {
		a, err := f.Getattr(ctx, ino)
		if err != nil {
			f.t.Fatalf("%s: %v", path, err)
		}
		content := ""
		switch a.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			content = f.read(ino)
		case syscall.S_IFLNK:
			if content, err = f.Readlink(ctx, ino); err != nil {
				f.t.Fatalf("%s: %v", path, err)
			}
		}
		names, err := f.Listxattr(ctx, ino)
		if err != nil {
			f.t.Fatalf("%s: %v", path, err)
		}
		x := map[string]string{}
		for _, n := range names {
			v, err := f.Getxattr(ctx, ino, n)
			if err != nil {
				f.t.Fatalf("%s: %s: %v", path, n, err)
			}
			x[n] = string(v)
		}
		dumpNode(&b, path, ino, a.Mode, a.Uid, a.Gid, a.Nlink, content, x)
		if a.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			kids := f.list(ino)
			for _, name := range slices.Sorted(maps.Keys(kids)) {
				walk(path+"/"+name, kids[name])
			}
		}
	}
	walk("", RootIno)
	return b.String()
}

// player does random operations on a filesystem and its model.
type player struct {
	t    *testing.T
	rnd  *rand.Rand
	f    *testFS
	m    *model
	past []*model // the states since the last sync, that one first
	// strict: what is written is committed at once, so that the log has the order of the operations and a crash leaves
	// exactly one of the past states.
	strict  bool
	crashes int
	ops     int
	last    []string
}

func (p *player) failf(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s\nlast operations:\n%s", fmt.Sprintf(format, args...), strings.Join(p.last, "\n"))
}

func (p *player) log(format string, args ...any) {
	p.last = append(p.last, fmt.Sprintf("%d: ", p.ops)+fmt.Sprintf(format, args...))
	if len(p.last) > 40 {
		p.last = p.last[1:]
	}
}

// agree compares an error with what the model wants.
func (p *player) agree(err error, want error) bool {
	p.t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		p.failf("got %v, want %v", err, want)
	}
	return err == nil
}

func (p *player) pick(ok func(*mnode) bool) *mnode {
	var all []Ino
	for ino, n := range p.m.nodes {
		if ok(n) {
			all = append(all, ino)
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	return p.m.nodes[all[p.rnd.Intn(len(all))]]
}

func (p *player) name() string { return string(rune('a' + p.rnd.Intn(6))) }

// dirNode picks a directory, seldom a removed one.
func (p *player) dirNode() *mnode {
	return p.pick(func(n *mnode) bool { return n.isDir() && (n.nlink > 0 || n.opens > 0) })
}

func (p *player) step() {
	p.ops++
	switch k := p.rnd.Intn(100); {
	case k < 14:
		p.create()
	case k < 18:
		p.mkdir()
	case k < 20:
		p.link()
	case k < 26:
		p.unlink()
	case k < 29:
		p.rmdir()
	case k < 41:
		p.rename()
	case k < 63:
		p.write()
	case k < 69:
		p.truncate()
	case k < 73:
		p.fallocate()
	case k < 76:
		p.copy()
	case k < 79:
		p.chattr()
	case k < 82:
		p.xattr()
	case k < 84:
		p.openClose()
	case k < 90:
		p.readBack()
	case k < 95:
		p.sync()
	case k < 97:
		p.background()
	case k < 98:
		p.reopen()
	default:
		p.crash()
		return
	}
	p.past = append(p.past, p.m.clone())
}

func (p *player) absentOr(dir *mnode, name string, err error) error {
	if dir.nlink == 0 {
		return syscall.ENOENT
	}
	if _, ok := dir.kids[name]; ok {
		return err
	}
	return nil
}

func (p *player) add(dir *mnode, name string, a Attr, content string) {
	n := &mnode{ino: a.Ino, mode: a.Mode, uid: alice.Uid, gid: alice.Gid, nlink: 1, parent: dir.ino, content: content}
	if dir.mode&syscall.S_ISGID != 0 {
		n.gid = dir.gid
		if n.isDir() != (n.mode&syscall.S_ISGID != 0) {
			p.failf("mode %o in a setgid directory", n.mode)
		}
	}
	if n.isDir() {
		n.nlink, n.kids = 2, map[string]Ino{}
		dir.nlink++
	}
	p.m.nodes[n.ino] = n
	dir.kids[name] = n.ino
	p.f.Forget(a.Ino, 1)
}

func (p *player) create() {
	dir, name := p.dirNode(), p.name()
	want := p.absentOr(dir, name, syscall.EEXIST)
	var a Attr
	var err error
	content := ""
	switch p.rnd.Intn(6) {
	case 0:
		content = "target-" + name
		p.log("symlink %d %s", dir.ino, name)
		a, err = p.f.Symlink(ctx, alice, dir.ino, name, content)
	case 1:
		p.log("mknod %d %s", dir.ino, name)
		a, err = p.f.Mknod(ctx, alice, dir.ino, name, syscall.S_IFIFO|0o600, 0, 0)
	default:
		p.log("create %d %s", dir.ino, name)
		var h Handle
		a, h, err = p.f.Create(ctx, alice, dir.ino, name, 0o640, 0, syscall.O_EXCL)
		if err == nil {
			p.f.Release(ctx, h)
		}
	}
	if p.agree(err, want) {
		p.add(dir, name, a, content)
	}
}

func (p *player) mkdir() {
	dir, name := p.dirNode(), p.name()
	p.log("mkdir %d %s", dir.ino, name)
	a, err := p.f.Mkdir(ctx, alice, dir.ino, name, 0o750, 0)
	if p.agree(err, p.absentOr(dir, name, syscall.EEXIST)) {
		p.add(dir, name, a, "")
	}
}

func (p *player) link() {
	n := p.pick(func(n *mnode) bool { return n.nlink > 0 })
	dir, name := p.dirNode(), p.name()
	p.log("link %d %d %s", n.ino, dir.ino, name)
	want := p.absentOr(dir, name, syscall.EEXIST)
	if n.isDir() {
		want = syscall.EPERM
	}
	_, err := p.f.Link(ctx, alice, n.ino, dir.ino, name)
	if p.agree(err, want) {
		n.nlink++
		dir.kids[name] = n.ino
		p.f.Forget(n.ino, 1)
	}
}

func (p *player) unlink() {
	dir, name := p.dirNode(), p.name()
	p.log("unlink %d %s", dir.ino, name)
	n := p.m.nodes[dir.kids[name]]
	var want error
	if n == nil {
		want = syscall.ENOENT
	} else if n.isDir() {
		want = syscall.EISDIR
	}
	if p.agree(p.f.Unlink(ctx, alice, dir.ino, name), want) {
		delete(dir.kids, name)
		n.nlink--
		p.m.release(n)
	}
}

func (p *player) rmdir() {
	dir, name := p.dirNode(), p.name()
	p.log("rmdir %d %s", dir.ino, name)
	n := p.m.nodes[dir.kids[name]]
	var want error
	switch {
	case n == nil:
		want = syscall.ENOENT
	case !n.isDir():
		want = syscall.ENOTDIR
	case len(n.kids) > 0:
		want = syscall.ENOTEMPTY
	}
	if p.agree(p.f.Rmdir(ctx, alice, dir.ino, name), want) {
		delete(dir.kids, name)
		dir.nlink--
		n.nlink = 0
		p.m.release(n)
	}
}

// inside says whether dir is n or below it.
func (m *model) inside(dir, n *mnode) bool {
	for ; ; dir = m.nodes[dir.parent] {
		if dir == n {
			return true
		}
		if dir.ino == RootIno {
			return false
		}
	}
}

func (p *player) rename() {
	od, nd, on, nn := p.dirNode(), p.dirNode(), p.name(), p.name()
	flags := []uint32{0, 0, 0, RenameNoReplace, RenameExchange, RenameWhiteout}[p.rnd.Intn(6)]
	p.log("rename %d %s to %d %s, flags %d", od.ino, on, nd.ino, nn, flags)
	src, dst := p.m.nodes[od.kids[on]], p.m.nodes[nd.kids[nn]]
	var want error
	switch {
	case src == nil:
		want = syscall.ENOENT
	case src == dst:
		if flags == RenameNoReplace {
			want = syscall.EEXIST
		}
	case nd.nlink == 0, flags == RenameExchange && dst == nil:
		want = syscall.ENOENT
	case flags == RenameNoReplace && dst != nil:
		want = syscall.EEXIST
	case flags == RenameExchange:
		if dst.isDir() && p.m.inside(od, dst) || src.isDir() && p.m.inside(nd, src) {
			want = syscall.EINVAL
		}
	case dst != nil && src.isDir() && !dst.isDir():
		want = syscall.ENOTDIR
	case dst != nil && !src.isDir() && dst.isDir():
		want = syscall.EISDIR
	case dst != nil && dst.isDir() && len(dst.kids) > 0:
		want = syscall.ENOTEMPTY
	case src.isDir() && p.m.inside(nd, src):
		want = syscall.EINVAL
	}
	if !p.agree(p.f.Rename(ctx, alice, od.ino, on, nd.ino, nn, flags), want) || src == dst {
		return
	}
	nd.kids[nn] = src.ino
	if src.isDir() {
		od.nlink--
		nd.nlink++
		src.parent = nd.ino
	}
	if flags == RenameExchange {
		od.kids[on] = dst.ino
		if dst.isDir() {
			nd.nlink--
			od.nlink++
			dst.parent = od.ino
		}
		return
	}
	delete(od.kids, on)
	if dst != nil {
		if dst.isDir() {
			nd.nlink--
			dst.nlink = 0
		} else {
			dst.nlink--
		}
		p.m.release(dst)
	}
	if flags == RenameWhiteout {
		a, err := p.f.Lookup(ctx, alice, od.ino, on)
		if err != nil || a.Mode != syscall.S_IFCHR {
			p.failf("whiteout: %+v, %v", a, err)
		}
		p.add(od, on, a, "")
	}
}

func (p *player) regular() *mnode { return p.pick((*mnode).isReg) }

// commit puts what is in memory of a file into the log, in one of the ways that do so.
func (p *player) commit(n *mnode) {
	if !p.strict {
		return
	}
	in, err := p.f.inode(ctx, n.ino)
	if err != nil {
		p.failf("%v", err)
	}
	defer p.f.table.unpin(in)
	if err := p.f.flush(ctx, in, []flushMode{flushBlobs, flushInline}[p.rnd.Intn(2)]); err != nil {
		p.failf("%v", err)
	}
}

func put(content string, off int, data string) string {
	b := []byte(content)
	if end := off + len(data); end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[off:], data)
	return string(b)
}

func (p *player) write() {
	n := p.regular()
	if n == nil {
		return
	}
	size := p.rnd.Intn(300)
	if p.rnd.Intn(5) == 0 {
		size = p.rnd.Intn(100_000)
	}
	off := p.rnd.Intn(len(n.content) + 200)
	if p.rnd.Intn(30) == 0 {
		off += 1<<20 - 50
	}
	if off > 3<<20 {
		return
	}
	data := strings.Repeat(string(rune('A'+p.ops%26)), size)
	p.log("write %d at %d, %d bytes", n.ino, off, size)
	got, err := p.f.Write(ctx, n.ino, 0, int64(off), []byte(data), WriteFlags{Cache: p.rnd.Intn(2) == 0})
	p.agree(err, nil)
	if got != size {
		p.failf("wrote %d", got)
	}
	if size > 0 {
		n.content = put(n.content, off, data)
	}
	p.commit(n)
}

func (p *player) truncate() {
	n := p.regular()
	if n == nil {
		return
	}
	size := p.rnd.Intn(len(n.content) + 300)
	if p.rnd.Intn(4) == 0 {
		size = 0
	}
	p.log("truncate %d to %d", n.ino, size)
	_, err := p.f.Setattr(ctx, alice, n.ino, SetattrIn{Valid: SetSize, Size: uint64(size)})
	if p.agree(err, nil) {
		if size <= len(n.content) {
			n.content = n.content[:size]
		} else {
			n.content = put(n.content, size, "")
		}
	}
}

func (p *player) fallocate() {
	n := p.regular()
	if n == nil {
		return
	}
	off, size := p.rnd.Intn(len(n.content)+200), 1+p.rnd.Intn(len(n.content)+100)
	mode := []uint32{0, FallocKeepSize, FallocPunchHole | FallocKeepSize, FallocZeroRange, FallocZeroRange | FallocKeepSize}[p.rnd.Intn(5)]
	p.log("fallocate %d mode %d, %d bytes at %d", n.ino, mode, size, off)
	if !p.agree(p.f.Fallocate(ctx, n.ino, 0, mode, int64(off), int64(size)), nil) {
		return
	}
	keep := len(n.content)
	if mode&(FallocPunchHole|FallocZeroRange) != 0 {
		n.content = put(n.content, off, strings.Repeat("\x00", size))
	} else {
		n.content = put(n.content, max(off+size, keep), "")
	}
	if mode&FallocKeepSize != 0 {
		n.content = n.content[:keep]
	}
}

func (p *player) copy() {
	src, dst := p.regular(), p.regular()
	if src == nil {
		return
	}
	so, do, size := p.rnd.Intn(len(src.content)+1), p.rnd.Intn(len(dst.content)+100), p.rnd.Intn(len(src.content)+100)
	if do > 3<<20 {
		return
	}
	p.log("copy %d at %d to %d at %d, %d bytes", src.ino, so, dst.ino, do, size)
	var want error
	if src == dst && so < do+size && do < so+size && size > 0 {
		want = syscall.EINVAL
	}
	got, err := p.f.CopyFileRange(ctx, src.ino, int64(so), dst.ino, int64(do), int64(size))
	if p.agree(err, want) {
		size = min(size, len(src.content)-so)
		if int(got) != size {
			p.failf("copied %d of %d", got, size)
		}
		if size > 0 {
			dst.content = put(dst.content, do, src.content[so:so+size])
		}
	}
}

func (p *player) chattr() {
	n := p.pick(func(n *mnode) bool { return true })
	mode := uint32(p.rnd.Intn(0o10000))
	p.log("chmod %d %o", n.ino, mode)
	_, err := p.f.Setattr(ctx, alice, n.ino, SetattrIn{Valid: SetMode | SetUid, Mode: mode, Uid: mode})
	if p.agree(err, nil) {
		n.mode, n.uid = n.mode&syscall.S_IFMT|mode, mode
	}
}

func (p *player) xattr() {
	n := p.pick(func(n *mnode) bool { return true })
	name := "user." + p.name()
	_, have := n.xattrs[name]
	if p.rnd.Intn(2) == 0 {
		p.log("removexattr %d %s", n.ino, name)
		var want error
		if !have {
			want = syscall.ENODATA
		}
		if p.agree(p.f.Removexattr(ctx, n.ino, name), want) {
			delete(n.xattrs, name)
		}
		return
	}
	value := fmt.Sprint("value", p.ops)
	p.log("setxattr %d %s", n.ino, name)
	if p.agree(p.f.Setxattr(ctx, n.ino, name, []byte(value), 0, false), nil) {
		if n.xattrs == nil {
			n.xattrs = map[string]string{}
		}
		n.xattrs[name] = value
	}
}

func (p *player) openClose() {
	if n := p.pick(func(n *mnode) bool { return n.opens > 0 }); n != nil && p.rnd.Intn(2) == 0 {
		p.log("close %d", n.ino)
		p.agree(p.f.Release(ctx, Handle(n.ino)), nil)
		n.opens--
		p.m.release(n)
		return
	}
	n := p.pick(func(n *mnode) bool { return n.nlink > 0 && (n.isReg() || n.isDir()) })
	p.log("open %d", n.ino)
	var err error
	if n.isDir() {
		_, err = p.f.Opendir(ctx, n.ino)
	} else {
		_, err = p.f.Open(ctx, alice, n.ino, 0)
	}
	p.agree(err, nil)
	n.opens++
}

func (p *player) readBack() {
	dir, name := p.dirNode(), p.name()
	a, err := p.f.lookup(dir.ino, name)
	want, have := dir.kids[name]
	if have && (err != nil || a.Ino != want) || !have && err != syscall.ENOENT {
		p.failf("lookup %d %s: %d, %v; want %d", dir.ino, name, a.Ino, err, want)
	}
	n := p.regular()
	if n == nil {
		return
	}
	off := p.rnd.Intn(len(n.content) + 1)
	buf := bytes.Repeat([]byte{'?'}, p.rnd.Intn(len(n.content)+10))
	got, err := p.f.Read(ctx, n.ino, 0, int64(off), buf)
	p.agree(err, nil)
	if exp := n.content[off:min(len(n.content), off+len(buf))]; string(buf[:got]) != exp {
		p.failf("read %d at %d: content differs", n.ino, off)
	}
	p.seek(n)
}

// seek compares every data and hole range with the content: a hole must be zeros.
func (p *player) seek(n *mnode) {
	for at := int64(0); at < int64(len(n.content)); {
		d, err := p.f.Seek(ctx, n.ino, 0, at, SeekData)
		if err == syscall.ENXIO {
			d = int64(len(n.content))
		} else if err != nil {
			p.failf("seek: %v", err)
		}
		if strings.Trim(n.content[at:d], "\x00") != "" {
			p.failf("inode %d: data between %d and %d, where there is a hole", n.ino, at, d)
		}
		if d == int64(len(n.content)) {
			return
		}
		if at, err = p.f.Seek(ctx, n.ino, 0, d, SeekHole); err != nil || at <= d {
			p.failf("seek hole from %d: %d, %v", d, at, err)
		}
	}
}

func (p *player) sync() {
	p.log("sync")
	if n := p.regular(); n != nil && p.rnd.Intn(3) > 0 && p.strict {
		p.agree(p.f.Fsync(ctx, n.ino, p.rnd.Intn(2) == 0), nil)
	} else {
		p.agree(p.f.Sync(ctx), nil)
	}
	p.past = []*model{p.m.clone()}
}

func (p *player) background() {
	p.log("background")
	if err := p.f.moveLodgers(ctx, p.f.FS.meta.Head().Seq); err != nil {
		p.failf("%v", err)
	}
	p.f.Covered(p.f.FS.meta.Durable().Seq)
	if err := p.f.collect(ctx); err != nil {
		p.failf("%v", err)
	}
}

func (p *player) compare() {
	p.t.Helper()
	p.f.check()
	if got, want := p.f.dump(), p.m.dump(); got != want {
		p.failf("tree differs\ngot\n%s\nwant\n%s", got, want)
	}
}

func (p *player) reopen() {
	p.log("reopen")
	p.compare()
	p.f = p.f.reopen()
	p.m = p.m.crashed()
	p.past = []*model{p.m.clone()}
	p.compare()
}

// crash continues with what a power cut leaves, which must be one of the past states.
func (p *player) crash() {
	p.log("crash")
	p.crashes++
	if !p.strict {
		p.agree(p.f.Sync(ctx), nil)
		p.past = []*model{p.m.clone()}
	}
	p.f = p.f.crash(p.rnd)
	p.f.check()
	got := p.f.dump()
	at := len(p.past) - 1
	for ; at >= 0; at-- {
		if c := p.past[at].crashed(); c.dump() == got {
			p.m = c
			break
		}
	}
	if at < 0 {
		p.failf("after the crash the tree is none of the %d states since the last sync\ngot\n%s\nlast\n%s\nfirst\n%s",
			len(p.past), got, p.past[len(p.past)-1].crashed().dump(), p.past[0].crashed().dump())
	}
	if err := p.f.Sync(ctx); err != nil {
		p.failf("%v", err)
	}
	p.past = []*model{p.m.clone()}
}

func modelTime() time.Duration {
	if os.Getenv("QSFS_LONG") != "" {
		return 10 * time.Minute
	}
	return 5 * time.Second
}

func TestModel(t *testing.T) {
	for _, strict := range []bool{true, false} {
		t.Run(fmt.Sprintf("strict=%v", strict), func(t *testing.T) {
			deadline := time.Now().Add(modelTime())
			ops, crashes, rounds := 0, 0, 0
			for seed := int64(1); time.Now().Before(deadline); seed++ {
				p := &player{t: t, rnd: rand.New(rand.NewSource(seed)), m: newModel(), strict: strict}
				o := Options{Inodes: 64}
				if seed%3 == 0 {
					o.hash = twoHashes
				}
				p.f = openTestFS(t, newMemSpace(), newMemSpace(), o)
				p.past = []*model{p.m.clone()}
				for range 500 {
					p.step()
				}
				p.compare()
				ops, crashes, rounds = ops+p.ops, crashes+p.crashes, rounds+1
				if err := p.f.Close(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d rounds, %d operations, %d crashes", rounds, ops, crashes)
		})
	}
}
