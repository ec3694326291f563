package clock

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"qsfs/zdb/segfile"
)

const (
	magic    = "QZDBCLCK"
	fixed    = 64 // magic, version, number of steps, id, running time, base, what is held
	each     = 16
	maxSteps = 4096
	maxFile  = fixed + maxSteps*each + 4
)

func (r *record) encode() []byte {
	le := binary.LittleEndian
	b := append([]byte(magic), segfile.Version, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(r.steps)))
	b = append(b, r.id[:]...)
	b = le.AppendUint64(b, uint64(r.run))
	b = le.AppendUint64(b, uint64(r.base))
	for _, s := range append([]step{r.held}, r.steps...) {
		b = le.AppendUint64(b, uint64(s.at))
		b = le.AppendUint64(b, uint64(s.by))
	}
	return le.AppendUint32(b, crc32.Checksum(b, segfile.Castagnoli))
}

func parse(p []byte) (r record, err error) {
	le := binary.LittleEndian
	if len(p) < fixed+4 || string(p[:8]) != magic || p[8] != segfile.Version ||
		le.Uint32(p[len(p)-4:]) != crc32.Checksum(p[:len(p)-4], segfile.Castagnoli) {
		return r, fmt.Errorf("%w: clock", segfile.ErrFormat)
	}
	n := int64(le.Uint32(p[12:]))
	if n > maxSteps || int64(len(p)) != fixed+n*each+4 {
		return r, fmt.Errorf("%w: length of the clock", segfile.ErrFormat)
	}
	copy(r.id[:], p[16:])
	r.run, r.base = Run(le.Uint64(p[32:])), time.Duration(le.Uint64(p[40:]))
	last := Run(-1 << 63)
	for at := fixed - each; at < len(p)-4; at += each {
		s := step{Run(le.Uint64(p[at:])), time.Duration(le.Uint64(p[at+8:]))}
		if at < fixed {
			if r.held = s; s.by < 0 || s.at > r.run {
				return r, fmt.Errorf("%w: fields of the clock", segfile.ErrFormat)
			}
			continue
		}
		if s.by <= 0 || s.at < last || s.at > r.run {
			return r, fmt.Errorf("%w: steps of the clock", segfile.ErrFormat)
		}
		last = s.at
		r.steps = append(r.steps, s)
	}
	return r, nil
}
