package zdb

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"path/filepath"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

const (
	identityName  = "namespace"
	identityMagic = "QZDBNAME"
	identitySize  = 32 // magic, version, reserved, incarnation, CRC32C
)

// identify reads the namespace's incarnation, or draws one. A file that does not
// check counts as lost: whoever counted on the old incarnation then sees that this is another one.
func (n *Namespace) identify() error {
	path := filepath.Join(n.dataDir, identityName)
	inc, err := readIdentity(n.db.o.FS, path)
	if err == nil {
		n.incarnation = inc
		return nil
	}
	if !errors.Is(err, vfs.ErrNotExist) {
		if !errors.Is(err, segfile.ErrFormat) {
			return err
		}
		n.logger.Warn("incarnation file is damaged, a new one is drawn", "namespace", n.name)
	}
	if _, err := rand.Read(n.incarnation[:]); err != nil {
		return err
	}
	return writeIdentity(n.db.o.FS, path, n.incarnation)
}

func writeIdentity(fs vfs.FS, path string, inc [16]byte) error {
	p := append([]byte(identityMagic), segfile.Version, 0, 0, 0)
	p = append(p, inc[:]...)
	p = binary.LittleEndian.AppendUint32(p, crc32.Checksum(p, segfile.Castagnoli))
	return vfs.WriteFile(fs, path, p)
}

func readIdentity(fs vfs.FS, path string) (inc [16]byte, err error) {
	f, err := fs.Open(path, false)
	if err != nil {
		return inc, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return inc, err
	}
	p := make([]byte, identitySize)
	if size != identitySize {
		return inc, segfile.ErrFormat
	}
	if _, err := f.ReadAt(p, 0); err != nil {
		return inc, err
	}
	body := p[:identitySize-4]
	if string(p[:8]) != identityMagic || p[8] != segfile.Version ||
		binary.LittleEndian.Uint32(p[len(body):]) != crc32.Checksum(body, segfile.Castagnoli) {
		return inc, segfile.ErrFormat
	}
	return [16]byte(p[12:28]), nil
}
