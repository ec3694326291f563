package zdb

import (
	"fmt"
	"strings"

	"qsfs/zdb/segfile"
)

const (
	// droppedPrefix hides a directory that is being removed.
	droppedPrefix = ".dropped-"
	// maxDirName leaves room for the prefix within the 255 bytes of a file name.
	maxDirName = 240
)

// dirName is the directory of a namespace: its name, with every byte that is
// not a letter, a digit or one of -_. written as %XX; also a dot in front.
func dirName(name string) (string, error) {
	if name == "" || len(name) > segfile.MaxNamespace {
		return "", fmt.Errorf("%w: %d bytes", ErrName, len(name))
	}
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if plain(c) && (i > 0 || c != '.') {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() > maxDirName {
		return "", fmt.Errorf("%w: too many special characters", ErrName)
	}
	return b.String(), nil
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.", c) >= 0
}

// nameOf undoes dirName.
func nameOf(dir string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(dir); i++ {
		c := dir[i]
		if c == '%' {
			var v byte
			if i+2 >= len(dir) {
				return "", false
			}
			if _, err := fmt.Sscanf(dir[i+1:i+3], "%02X", &v); err != nil {
				return "", false
			}
			c, i = v, i+2
		}
		b.WriteByte(c)
	}
	name := b.String()
	again, err := dirName(name)
	return name, err == nil && again == dir
}

// Dirs are the directories of the namespace: that of its data segments, and that of its index segments and its index.
func (n *Namespace) Dirs() (data, index string) { return n.dataDir, n.indexDir }

// DirName is the name of the directory that a namespace has below DataDir and IndexDir.
func DirName(name string) (string, error) { return dirName(name) }
