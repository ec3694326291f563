package zdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"time"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// The file that says what of the past is kept. Without it nothing is; where there is
// damage, the namespace does not open: to keep less than was promised would lose what a snapshot shows.
const (
	keepName  = "keep"
	keepMagic = "QZDBKEEP"
	keepFixed = 40 // magic, version, keep last, keep for, number of pins
	keepPin   = 12
	maxPins   = 1 << 20
)

// keepRecord is what the file holds.
type keepRecord struct {
	Retention
	Pins []pin // ascending
}

type pin struct {
	seq   Seq
	count uint32
}

func appendKeep(b []byte, k keepRecord) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = append(b, keepMagic...)
	b = append(b, segfile.Version, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(k.Pins)))
	b = le.AppendUint64(b, uint64(k.KeepLast))
	b = le.AppendUint64(b, uint64(k.KeepFor))
	b = le.AppendUint64(b, 0)
	for _, p := range k.Pins {
		b = le.AppendUint64(b, uint64(p.seq))
		b = le.AppendUint32(b, p.count)
	}
	return le.AppendUint32(b, crc32.Checksum(b[start:], segfile.Castagnoli))
}

func parseKeep(p []byte) (k keepRecord, err error) {
	le := binary.LittleEndian
	if len(p) < keepFixed+4 || string(p[:8]) != keepMagic || p[8] != segfile.Version ||
		le.Uint32(p[len(p)-4:]) != crc32.Checksum(p[:len(p)-4], segfile.Castagnoli) {
		return k, fmt.Errorf("%w: retention file", segfile.ErrFormat)
	}
	n := int64(le.Uint32(p[12:]))
	k.KeepLast, k.KeepFor = int(le.Uint64(p[16:])), time.Duration(le.Uint64(p[24:]))
	if n > maxPins || int64(len(p)) != keepFixed+n*keepPin+4 || k.KeepLast < 0 || k.KeepFor < 0 {
		return k, fmt.Errorf("%w: fields of the retention file", segfile.ErrFormat)
	}
	for at := keepFixed; at < len(p)-4; at += keepPin {
		q := pin{Seq(le.Uint64(p[at:])), le.Uint32(p[at+8:])}
		if q.count == 0 || len(k.Pins) > 0 && k.Pins[len(k.Pins)-1].seq >= q.seq {
			return k, fmt.Errorf("%w: pins of the retention file", segfile.ErrFormat)
		}
		k.Pins = append(k.Pins, q)
	}
	return k, nil
}

func (n *Namespace) keepPath() string { return filepath.Join(n.dataDir, keepName) }

func (n *Namespace) writeKeep(k keepRecord) error {
	if len(k.Pins) > maxPins {
		return fmt.Errorf("more than %d pins", maxPins)
	}
	return vfs.WriteFile(n.db.o.FS, n.keepPath(), appendKeep(nil, k))
}

// readKeep reads what is recorded, and takes over what the options ask for.
func (n *Namespace) readKeep() error {
	n.keep.pins = make(map[Seq]uint32)
	n.keep.plain = n.o.Plain
	p, err := vfs.ReadFile(n.db.o.FS, n.keepPath(), keepFixed+maxPins*keepPin+4)
	var k keepRecord
	switch {
	case errors.Is(err, vfs.ErrNotExist):
	case err != nil:
		return err
	default:
		if k, err = parseKeep(p); err != nil {
			return &CorruptionError{File: n.keepPath(), Err: err}
		}
	}
	n.keep.keep = k.Retention
	for _, p := range k.Pins {
		n.keep.pins[p.seq] = p.count
	}
	if want := n.o.Retention; want != nil && *want != k.Retention {
		if err := want.validate(); err != nil {
			return err
		}
		k.Retention = *want
		n.keep.keep, n.keep.sweep = *want, true
		return n.writeKeep(k)
	}
	n.keep.sweep = true
	return nil
}
