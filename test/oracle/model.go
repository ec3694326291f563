package oracle

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// inode of the model. Contents are replaced, never changed in place, so that clones may share them.
type inode struct {
	dir     bool
	target  string // of a symlink
	mode    uint32
	content []byte
	sum     *[32]byte // of content, nil when not computed
	xattrs  map[string]string
}

// model is a tree: paths relative to the root, "." being the root itself. Hard links share an inode.
type model struct {
	paths map[string]*inode
}

func newModel() *model {
	return &model{paths: map[string]*inode{".": {dir: true}}}
}

// clone copies the model so that changes to one are not seen in the other.
func (m *model) clone() *model {
	copied := make(map[*inode]*inode, len(m.paths))
	out := &model{paths: make(map[string]*inode, len(m.paths))}
	for path, n := range m.paths {
		c, ok := copied[n]
		if !ok {
			c = new(*n)
			c.xattrs = maps.Clone(n.xattrs)
			copied[n] = c
		}
		out.paths[path] = c
	}
	return out
}

// apply performs o on the model; o must be valid in this state.
func (m *model) apply(o op) {
	n := m.paths[o.path]
	switch o.kind {
	case opMkdir:
		m.paths[o.path] = &inode{dir: true, mode: o.mode}
	case opCreate:
		m.paths[o.path] = &inode{mode: o.mode}
	case opWrite:
		n.content, n.sum = written(n.content, o), nil
	case opTruncate:
		n.content, n.sum = resized(n.content, o.offset), nil
	case opRename:
		m.rename(o.path, o.other)
	case opLink:
		m.paths[o.other] = n
	case opSymlink:
		m.paths[o.path] = &inode{target: o.other}
	case opUnlink, opRmdir:
		delete(m.paths, o.path)
	case opChmod:
		n.mode = o.mode
	case opSetxattr:
		if n.xattrs == nil {
			n.xattrs = make(map[string]string)
		}
		n.xattrs[o.other] = string(o.data)
	case opFsyncDir:
	}
}

// rename moves a path with everything below it. Two links of one inode stay as they are, as POSIX wants it.
func (m *model) rename(from, to string) {
	if m.paths[from] == m.paths[to] {
		return
	}
	for _, path := range slices.Collect(maps.Keys(m.paths)) {
		if path == from || strings.HasPrefix(path, from+"/") {
			m.paths[to+path[len(from):]] = m.paths[path]
			delete(m.paths, path)
		}
	}
}

// written is old with the data of o in it.
func written(old []byte, o op) []byte {
	out := resized(old, max(int64(len(old)), o.offset+int64(len(o.data))))
	copy(out[o.offset:], o.data)
	return out
}

// resized is a copy of old, cut or filled with zeros.
func resized(old []byte, size int64) []byte {
	out := make([]byte, size)
	copy(out, old)
	return out
}

// entry describes one path so that two trees can be compared.
type entry struct {
	kind   string // "dir", "file", "link"
	mode   uint32
	nlink  int
	size   int64
	sum    [32]byte
	target string
	xattrs string
}

func (e entry) String() string {
	return fmt.Sprintf("%s mode=%o nlink=%d size=%d sum=%x target=%q xattrs=%q", e.kind, e.mode, e.nlink, e.size, e.sum[:4], e.target, e.xattrs)
}

// listing describes every path of the model.
func (m *model) listing() map[string]entry {
	links := make(map[*inode]int)
	for _, n := range m.paths {
		links[n]++
	}
	out := make(map[string]entry, len(m.paths))
	for path, n := range m.paths {
		out[path] = m.describe(path, n, links[n])
	}
	return out
}

func (m *model) describe(path string, n *inode, links int) entry {
	switch {
	case path == ".":
		return entry{kind: "dir"} // the owner of the directory above decides about its mode
	case n.dir:
		return entry{kind: "dir", mode: n.mode, xattrs: flat(n.xattrs)}
	case n.target != "":
		return entry{kind: "link", target: n.target}
	}
	if n.sum == nil {
		n.sum = new(sha256.Sum256(n.content))
	}
	return entry{kind: "file", mode: n.mode, nlink: links, size: int64(len(n.content)), sum: *n.sum, xattrs: flat(n.xattrs)}
}

func flat(xattrs map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(xattrs)) {
		fmt.Fprintf(&b, "%s=%q;", k, xattrs[k])
	}
	return b.String()
}

// mixes reports whether got is what a write o over old may leave when it was interrupted: pages of 4 KiB old or new, any size
// between the two.
func mixes(got, old []byte, o op) bool {
	full := written(old, o)
	if len(got) < len(old) || len(got) > len(full) {
		return false
	}
	before := resized(old, int64(len(full)))
	for at := 0; at < len(got); at += 4096 {
		end := min(at+4096, len(got))
		if !bytes.Equal(got[at:end], before[at:end]) && !bytes.Equal(got[at:end], full[at:end]) {
			return false
		}
	}
	return true
}
