package zdbfs

import (
	"context"
	"fmt"
	"sort"
	"syscall"

	"qsfs/zdbfs/internal/meta"
)

// Report is what Check found.
type Report struct {
	Inodes, Dirents, Extents, Blobs, Orphans int64
	Bytes                                    uint64   // of content that extents refer to
	Problems                                 []string // empty: consistent
}

// maxProblems bounds a Report.
const maxProblems = 1000

// checker gathers facts from all rows and compares them at the end.
type checker struct {
	fs     *FS
	report Report
	nodes  map[uint64]*checkNode
	names  map[[2]uint64]namedInode // (directory, cookie)
	blobs  map[uint64]*checkBlob
	counts meta.Counters
	super  bool
	files  uint64 // as the N row says, if it is there (kept)
	kept   bool
}

type checkNode struct {
	a                    meta.Inode
	row                  bool
	names, subdirs       int
	parents              int
	orphan, cut          bool
	cutAt                uint64
	lastEnd, alloc, high uint64 // high: end of the last extent with content
	inline, lodgers      int
	xattrs               int
}

type namedInode struct {
	ino  uint64
	name string
}

type checkBlob struct {
	refs      uint64
	ino       uint64
	start     uint64 // in the file, if unshared
	several   bool   // referred to from more than one place
	n         uint32
	shared    uint64
	hasShared bool
	garbage   bool
}

// Check reads all metadata, as of one moment, and reports every inconsistency. It may run beside everything else. Content
// is looked for, not read. It takes some 200 bytes of memory per inode and blob.
func (fs *FS) Check(ctx context.Context) (Report, error) {
	c := &checker{
		fs: fs, nodes: make(map[uint64]*checkNode), names: make(map[[2]uint64]namedInode), blobs: make(map[uint64]*checkBlob),
	}
	it, err := fs.meta.iter(ctx, nil, nil, false)
	if err != nil {
		return Report{}, fs.errno(err)
	}
	defer it.Close()
	for ok := it.Seek([]byte{0}); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return Report{}, fs.errno(err)
		}
		v, err := it.Value()
		if err != nil {
			return Report{}, fs.errno(err)
		}
		k, err := meta.ParseKey(it.Key())
		if err == nil {
			err = c.row(k, v)
		}
		if err != nil {
			c.problem("row %q: %v", it.Key(), err)
		}
	}
	if err := it.Err(); err != nil {
		return Report{}, fs.errno(err)
	}
	c.compareNodes()
	if err := c.compareBlobs(ctx); err != nil {
		return Report{}, fs.errno(err)
	}
	sort.Strings(c.report.Problems)
	return c.report, nil
}

func (c *checker) problem(format string, args ...any) {
	if len(c.report.Problems) < maxProblems {
		c.report.Problems = append(c.report.Problems, fmt.Sprintf(format, args...))
	}
}

func (c *checker) node(ino uint64) *checkNode {
	n := c.nodes[ino]
	if n == nil {
		n = &checkNode{}
		c.nodes[ino] = n
	}
	return n
}

func (c *checker) blob(id uint64) *checkBlob {
	b := c.blobs[id]
	if b == nil {
		b = &checkBlob{}
		c.blobs[id] = b
	}
	return b
}

// row takes one fact in.
func (c *checker) row(k meta.Key, v []byte) (err error) {
	switch k.Kind {
	case meta.KindSuper:
		c.super = true
		_, err = meta.DecodeSuper(v)
	case meta.KindCounters:
		c.counts, err = meta.DecodeCounters(v)
	case meta.KindFiles:
		c.kept = true
		c.files, err = meta.DecodeUint64(v)
	case meta.KindInode:
		c.report.Inodes++
		n := c.node(k.A)
		n.row = true
		n.a, err = meta.DecodeInode(v)
	case meta.KindDirent:
		return c.dirent(k, v)
	case meta.KindExtent:
		return c.extent(k, v)
	case meta.KindParent:
		c.node(k.A).parents++
		if at := c.names[[2]uint64{k.B, k.C}]; at.ino != k.A {
			return fmt.Errorf("the name is of inode %d", at.ino)
		}
	case meta.KindOrphan:
		c.report.Orphans++
		c.node(k.A).orphan = true
	case meta.KindTruncate:
		n := c.node(k.A)
		n.cut = true
		n.cutAt, err = meta.DecodeUint64(v)
	case meta.KindXattr:
		c.node(k.A).xattrs++
		if len(v) > MaxXattrValue {
			return fmt.Errorf("value of %d bytes", len(v))
		}
	case meta.KindLodger:
		c.node(k.A).lodgers++
	case meta.KindShared:
		b := c.blob(k.A)
		b.hasShared = true
		b.shared, err = meta.DecodeUint64(v)
	case meta.KindGarbage:
		c.blob(k.A).garbage = true
	case meta.KindSession:
		_, err = meta.DecodeUint64(v)
	}
	return err
}

func (c *checker) dirent(k meta.Key, v []byte) error {
	d, err := meta.DecodeDirent(v)
	if err != nil {
		return err
	}
	if d.IsGap() {
		return nil
	}
	c.report.Dirents++
	if hash := c.fs.nameHash(d.Name); k.B&^(chainLength-1) != hash {
		return fmt.Errorf("%q stands at %d, its hash is %d", d.Name, k.B, hash)
	}
	for n := k.B &^ (chainLength - 1); n < k.B; n++ {
		if o, ok := c.names[[2]uint64{k.A, n}]; ok && o.name == d.Name {
			c.problem("directory %d has %q twice", k.A, d.Name)
		}
	}
	c.names[[2]uint64{k.A, k.B}] = namedInode{d.Ino, d.Name}
	c.node(d.Ino).names++
	if d.Type == syscall.S_IFDIR {
		c.node(k.A).subdirs++
	}
	return nil
}

func (c *checker) extent(k meta.Key, v []byte) error {
	e, err := meta.DecodeExtent(k.B, v)
	if err != nil {
		return err
	}
	c.report.Extents++
	c.report.Bytes += e.Len()
	n := c.node(k.A)
	if e.Start < n.lastEnd {
		c.problem("inode %d: extent %d-%d overlaps one that ends at %d", k.A, e.Start, e.End, n.lastEnd)
	}
	n.lastEnd = e.End
	n.alloc += e.Len()
	switch e.Kind {
	case meta.ExtentInline:
		n.inline++
		n.high = e.End
	case meta.ExtentBlob:
		n.high = e.End
		b := c.blob(e.Blob)
		start := e.Start - uint64(e.Skip)
		if b.refs++; b.refs == 1 {
			b.ino, b.start, b.n = k.A, start, e.BlobLen
		} else if b.ino != k.A || b.start != start {
			b.several = true
		}
		if b.n != e.BlobLen {
			c.problem("inode %d: extent at %d says blob %d has %d bytes, another says %d", k.A, e.Start, e.Blob, e.BlobLen, b.n)
		}
	}
	return nil
}

func (c *checker) compareNodes() {
	if !c.super {
		c.problem("the filesystem's own row is missing")
	}
	if c.kept && c.files != uint64(c.report.Inodes) {
		c.problem("there are %d inodes, their row says %d", c.report.Inodes, c.files)
	}
	if root := c.nodes[uint64(RootIno)]; root == nil || !root.row || !root.a.IsDir() {
		c.problem("the root directory is missing")
	}
	for ino, n := range c.nodes {
		if !n.row {
			c.problem("inode %d has rows (%d names, %d extent bytes, orphan: %v) but does not exist", ino, n.names, n.alloc, n.orphan)
			continue
		}
		if ino >= c.counts.Ino {
			c.problem("inode %d is above the reserved numbers, %d", ino, c.counts.Ino)
		}
		c.compareLinks(ino, n)
		c.compareContent(ino, n)
	}
	for at, name := range c.names {
		if dir := c.nodes[at[0]]; dir == nil || !dir.row || !dir.a.IsDir() {
			c.problem("%q is in directory %d, which is none", name.name, at[0])
		} else if dir.orphan {
			c.problem("%q is in directory %d, which was removed", name.name, at[0])
		}
	}
}

func (c *checker) compareLinks(ino uint64, n *checkNode) {
	want := uint32(n.names)
	if n.a.IsDir() {
		if want = uint32(2 + n.subdirs); ino != uint64(RootIno) && !n.orphan && n.names != 1 {
			c.problem("directory %d has %d names", ino, n.names)
		}
	}
	switch {
	case n.orphan:
		if n.names > 0 || n.parents > 0 {
			c.problem("inode %d is an orphan with %d names and %d parents", ino, n.names, n.parents)
		}
	case n.names == 0 && ino != uint64(RootIno):
		c.problem("inode %d has no name and is no orphan", ino)
	case n.a.Nlink != want:
		c.problem("inode %d has %d links, its row says %d", ino, want, n.a.Nlink)
	}
	links := n.a.Flags&meta.FlagLinks != 0
	switch {
	case n.orphan || ino == uint64(RootIno):
	case links && n.parents != n.names:
		c.problem("inode %d has %d names and %d parent rows", ino, n.names, n.parents)
	case !links && n.parents != 0:
		c.problem("inode %d has %d parent rows and no flag for them", ino, n.parents)
	case !links || n.a.IsDir():
		if at := c.names[[2]uint64{n.a.Parent, n.a.Cookie}]; at.ino != ino {
			c.problem("inode %d says it is at %d of directory %d, where inode %d is", ino, n.a.Cookie, n.a.Parent, at.ino)
		}
	}
	if n.xattrs > 0 && n.a.Flags&meta.FlagXattr == 0 {
		c.problem("inode %d has %d attributes and no flag for them", ino, n.xattrs)
	}
}

func (c *checker) compareContent(ino uint64, n *checkNode) {
	if n.lastEnd > 0 && !n.a.IsRegular() {
		c.problem("inode %d of mode %#o has content", ino, n.a.Mode)
	}
	if n.inline != n.lodgers {
		c.problem("inode %d has %d inline extents and %d rows that list them", ino, n.inline, n.lodgers)
	}
	if n.orphan {
		return // being freed, batch by batch
	}
	if n.high > n.a.Size && !(n.cut && n.cutAt <= n.a.Size) {
		c.problem("inode %d has content up to %d, its size is %d", ino, n.high, n.a.Size)
	}
	if n.alloc != n.a.Alloc {
		c.problem("inode %d has %d bytes in extents, its row says %d", ino, n.alloc, n.a.Alloc)
	}
}

func (c *checker) compareBlobs(ctx context.Context) error {
	for id, b := range c.blobs {
		if id >= c.counts.Blob {
			c.problem("blob %d is above the reserved numbers, %d", id, c.counts.Blob)
		}
		switch {
		case b.garbage && (b.refs > 0 || b.hasShared):
			c.problem("blob %d is to be deleted and has %d references", id, b.refs)
		case b.hasShared && b.shared != b.refs:
			c.problem("blob %d has %d references, its row says %d", id, b.refs, b.shared)
		case !b.hasShared && b.several:
			c.problem("blob %d is shared and not counted", id)
		}
		if b.refs == 0 {
			continue
		}
		c.report.Blobs++
		have, err := c.fs.data.Has(ctx, meta.BlobKey(id))
		if err != nil {
			return err
		}
		if !have {
			c.problem("blob %d of inode %d is missing", id, b.ino)
		}
	}
	return nil
}
