package meta

import (
	"encoding/binary"
	"syscall"
)

// Dirent is the value of a D row. One with Ino 0 is a gap: it keeps a chain of colliding names whole after a name in
// its middle was removed.
type Dirent struct {
	Ino  uint64
	Type uint32 // the S_IF bits
	Name string
}

const (
	direntVersion = 1
	maxName       = 255
)

// IsGap says whether the row only holds a place.
func (d *Dirent) IsGap() bool { return d.Ino == 0 }

// Append encodes d.
func (d *Dirent) Append(b []byte) []byte {
	b = append(b, direntVersion, byte(d.Type>>12))
	b = binary.BigEndian.AppendUint64(b, d.Ino)
	return append(b, d.Name...)
}

// DecodeDirent decodes the value of a D row.
func DecodeDirent(b []byte) (Dirent, error) {
	if len(b) < 10 {
		return Dirent{}, badf("directory entry of %d bytes", len(b))
	}
	if b[0] != direntVersion {
		return Dirent{}, badf("directory entry version %d", b[0])
	}
	d := Dirent{Type: uint32(b[1]) << 12, Ino: binary.BigEndian.Uint64(b[2:]), Name: string(b[10:])}
	if d.IsGap() {
		if d.Type != 0 || d.Name != "" {
			return Dirent{}, badf("gap with type %#o and name %q", d.Type, d.Name)
		}
		return d, nil
	}
	switch d.Type {
	case syscall.S_IFREG, syscall.S_IFDIR, syscall.S_IFLNK, syscall.S_IFBLK, syscall.S_IFCHR, syscall.S_IFIFO, syscall.S_IFSOCK:
	default:
		return Dirent{}, badf("directory entry of type %#o", d.Type)
	}
	return d, CheckName(d.Name)
}

// CheckName says whether name can stand in a directory.
func CheckName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxName {
		return badf("name %q", name)
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return badf("name %q", name)
		}
	}
	return nil
}
