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
	version  = 2
	fixed    = 88 // magic, version, number of steps, id, running time, base, what is held, when it was noticed, what is beyond it, beginning
	fixed1   = 64 // of version 1, which has not the last three
	each     = 16
	maxSteps = 4096
	maxFile  = fixed + maxSteps*each + 4
)

func (r *record) encode() []byte {
	le := binary.LittleEndian
	b := append([]byte(magic), version, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(r.steps)))
	b = append(b, r.id[:]...)
	b = le.AppendUint64(b, uint64(r.run))
	b = le.AppendUint64(b, uint64(r.base))
	b = le.AppendUint64(b, uint64(r.held.at))
	b = le.AppendUint64(b, uint64(r.held.by))
	b = le.AppendUint64(b, uint64(r.noticed))
	b = le.AppendUint64(b, uint64(r.grown))
	b = le.AppendUint64(b, uint64(r.born))
	for _, s := range r.steps {
		b = le.AppendUint64(b, uint64(s.at))
		b = le.AppendUint64(b, uint64(s.by))
	}
	return le.AppendUint32(b, crc32.Checksum(b, segfile.Castagnoli))
}

func parse(p []byte) (r record, err error) {
	le := binary.LittleEndian
	if len(p) < fixed1+4 || string(p[:8]) != magic || p[8] < 1 || p[8] > version ||
		le.Uint32(p[len(p)-4:]) != crc32.Checksum(p[:len(p)-4], segfile.Castagnoli) {
		return r, fmt.Errorf("%w: clock", segfile.ErrFormat)
	}
	first := int64(fixed)
	if p[8] == 1 {
		first = fixed1
	}
	n := int64(le.Uint32(p[12:]))
	if n > maxSteps || int64(len(p)) != first+n*each+4 {
		return r, fmt.Errorf("%w: length of the clock", segfile.ErrFormat)
	}
	copy(r.id[:], p[16:])
	r.run, r.base = Run(le.Uint64(p[32:])), time.Duration(le.Uint64(p[40:]))
	r.held = step{Run(le.Uint64(p[48:])), time.Duration(le.Uint64(p[56:]))}
	r.noticed, r.born = r.held.at, r.run
	if first == fixed {
		r.noticed, r.grown, r.born = Run(le.Uint64(p[64:])), Run(le.Uint64(p[72:])), Run(le.Uint64(p[80:]))
	}
	if r.born > r.run || r.held.by < 0 || r.held.by > 0 && (r.held.at > r.noticed || r.noticed > r.run || r.grown != 0 && (r.grown < r.held.at || r.grown > r.run)) {
		return r, fmt.Errorf("%w: fields of the clock", segfile.ErrFormat)
	}
	last := Run(-1 << 63)
	for at := first; at < int64(len(p))-4; at += each {
		s := step{Run(le.Uint64(p[at:])), time.Duration(le.Uint64(p[at+8:]))}
		if s.by <= 0 || s.at < last || s.at > r.run {
			return r, fmt.Errorf("%w: steps of the clock", segfile.ErrFormat)
		}
		last = s.at
		r.steps = append(r.steps, s)
	}
	return r, nil
}
