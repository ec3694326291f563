package oracle

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// scan describes every path below root.
func scan(root string) (map[string]entry, error) {
	out := make(map[string]entry)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		e, err := scanOne(path)
		if err != nil {
			return err
		}
		if rel == "." {
			e = entry{kind: "dir"}
		}
		out[rel] = e
		return nil
	})
	return out, err
}

func scanOne(path string) (entry, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return entry{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		return entry{kind: "link", target: target}, err
	case unix.S_IFDIR:
		xattrs, err := userXattrs(path)
		return entry{kind: "dir", mode: st.Mode & 0o7777, xattrs: xattrs}, err
	case unix.S_IFREG:
	default:
		return entry{}, fmt.Errorf("%s: type %o", path, st.Mode&unix.S_IFMT)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return entry{}, err
	}
	if int64(len(content)) != st.Size {
		return entry{}, fmt.Errorf("%s: %d bytes read, stat says %d", path, len(content), st.Size)
	}
	xattrs, err := userXattrs(path)
	return entry{
		kind: "file", mode: st.Mode & 0o7777, nlink: int(st.Nlink), size: st.Size,
		sum: sha256.Sum256(content), xattrs: xattrs,
	}, err
}

func userXattrs(path string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", &os.PathError{Op: "listxattr", Path: path, Err: err}
	}
	found := make(map[string]string)
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		value := make([]byte, 64<<10)
		v, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", &os.PathError{Op: "getxattr", Path: path, Err: err}
		}
		found[name] = string(value[:v])
	}
	return flat(found), nil
}

// differ names what differs between two listings, at most five paths; empty when nothing does. skip is left out.
func differ(got, want map[string]entry, skip string) string {
	paths := maps.Clone(want)
	maps.Copy(paths, got)
	var out []string
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		g, inGot := got[path]
		w, inWant := want[path]
		if path == skip || (inGot && inWant && g == w) {
			continue
		}
		switch {
		case !inGot:
			out = append(out, fmt.Sprintf("%s is missing, want %v", path, w))
		case !inWant:
			out = append(out, fmt.Sprintf("%s is there and should not be: %v", path, g))
		default:
			out = append(out, fmt.Sprintf("%s: got %v, want %v", path, g, w))
		}
		if len(out) == 5 {
			out = append(out, "…")
			break
		}
	}
	return strings.Join(out, "\n")
}
