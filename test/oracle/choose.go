package oracle

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
)

// Limits of the tree, so that a long run stays small.
const (
	maxEntries  = 120
	maxFileSize = 2 << 20
)

// usualSize of a write: mostly small, sometimes large enough to fill segments.
func usualSize(r *rand.Rand) int {
	switch n := r.IntN(100); {
	case n < 60:
		return 1 + r.IntN(8<<10)
	case n < 90:
		return 1 + r.IntN(100<<10)
	}
	return 1 + r.IntN(600<<10)
}

// next chooses an operation that is valid now.
func (w *Writer) next() op {
	for {
		if o, ok := w.propose(w.rand.IntN(100)); ok {
			return o
		}
	}
}

func (w *Writer) propose(dice int) (op, bool) {
	file, hasFile := w.pick(func(n *inode) bool { return !n.dir && n.target == "" })
	dir, _ := w.pick(func(n *inode) bool { return n.dir })
	full := len(w.now.paths) >= maxEntries
	switch {
	case dice < 40:
		return w.proposeWrite(file), hasFile
	case dice < 52:
		return op{kind: opCreate, path: w.fresh(dir), mode: 0o600 | uint32(w.rand.IntN(64))&^0o022}, !full
	case dice < 57:
		return op{kind: opMkdir, path: w.fresh(dir), mode: 0o700}, !full && strings.Count(dir, "/") < 6
	case dice < 65:
		return op{kind: opFsyncDir, path: dir}, true
	case dice < 70:
		return op{kind: opTruncate, path: file, offset: w.rand.Int64N(256 << 10)}, hasFile
	case dice < 78:
		return w.proposeRename(dir)
	case dice < 81:
		return op{kind: opLink, path: file, other: w.fresh(dir)}, hasFile && !full
	case dice < 84:
		return op{kind: opSymlink, path: w.fresh(dir), other: "to/" + fmt.Sprint(w.serial)}, !full
	case dice < 88:
		return op{kind: opChmod, path: file, mode: uint32(0o400 | w.rand.IntN(0o400))}, hasFile
	case dice < 91:
		value := make([]byte, w.rand.IntN(200))
		fill(w.rand, value)
		return op{kind: opSetxattr, path: file, other: fmt.Sprintf("user.n%d", w.rand.IntN(4)), data: value}, hasFile
	case dice < 98:
		victim, ok := w.pick(func(n *inode) bool { return !n.dir })
		return op{kind: opUnlink, path: victim}, ok && len(w.now.paths) > maxEntries/3
	}
	empty, ok := w.pickPath(func(p string, n *inode) bool { return n.dir && p != "." && !w.hasChildren(p) })
	return op{kind: opRmdir, path: empty}, ok
}

func (w *Writer) proposeWrite(file string) op {
	o := op{kind: opWrite, path: file, data: make([]byte, w.size(w.rand))}
	if n := w.now.paths[file]; n != nil && len(n.content) > 0 {
		switch w.rand.IntN(3) {
		case 0: // append
			o.offset = int64(len(n.content))
		case 1: // anywhere, also a hole behind the end
			o.offset = w.rand.Int64N(int64(len(n.content)) + 64<<10)
		}
	}
	o.offset = min(o.offset, maxFileSize)
	fill(w.rand, o.data)
	return o
}

// proposeRename moves a file or directory to a fresh name, or a file over another file.
func (w *Writer) proposeRename(dir string) (op, bool) {
	from, ok := w.pickPath(func(p string, _ *inode) bool { return p != "." })
	if !ok || dir == from || strings.HasPrefix(dir, from+"/") {
		return op{}, false
	}
	to := w.fresh(dir)
	if n := w.now.paths[from]; !n.dir && w.rand.IntN(2) == 0 {
		if over, ok := w.pick(func(o *inode) bool { return !o.dir }); ok {
			to = over
		}
	}
	return op{kind: opRename, path: from, other: to}, from != to
}

func (w *Writer) pick(fits func(*inode) bool) (string, bool) {
	return w.pickPath(func(_ string, n *inode) bool { return fits(n) })
}

// pickPath chooses among the sorted paths, so that a seed gives the same run.
func (w *Writer) pickPath(fits func(string, *inode) bool) (string, bool) {
	var found []string
	for _, p := range slices.Sorted(maps.Keys(w.now.paths)) {
		if fits(p, w.now.paths[p]) {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return "", false
	}
	return found[w.rand.IntN(len(found))], true
}

func (w *Writer) hasChildren(dir string) bool {
	for p := range w.now.paths {
		if strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

func (w *Writer) fresh(dir string) string {
	w.serial++
	return path.Join(dir, fmt.Sprintf("n%d", w.serial))
}

// fill makes content that compresses somewhat, as real content does.
func fill(r *rand.Rand, b []byte) {
	for i := 0; i < len(b); i += 8 {
		v := r.Uint64()
		if r.IntN(4) == 0 {
			v = 0x2020202020202020
		}
		for j := i; j < min(i+8, len(b)); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
}
