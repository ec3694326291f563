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
	version  = 3
	fixed    = 56 // magic, version, number of lives, id, running time, low, number of highs, number of spans
	fixed2   = 88 // of version 2, of which only id and running time are read
	fixed1   = 64 // of version 1, likewise
	eachOld  = 16
	eachLife = 24
	eachHigh = 16
	eachSpan = 32
	maxLives = 1024
	maxHighs = 1024
	maxOld   = 4096
	maxFile  = fixed2 + maxOld*eachOld + 4 // no file of version 3 is longer
	maxRun   = Run(1 << 62)
)

func (r *record) encode() []byte {
	le := binary.LittleEndian
	b := append([]byte(magic), version, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(r.past)))
	b = append(b, r.id[:]...)
	b = le.AppendUint64(b, uint64(r.run))
	b = le.AppendUint64(b, uint64(r.low))
	b = le.AppendUint32(b, uint32(len(r.highs)))
	b = le.AppendUint32(b, uint32(len(r.spans)))
	for _, l := range r.past {
		b = append(b, l.id[:]...)
		b = le.AppendUint64(b, uint64(l.end))
	}
	for _, h := range r.highs {
		b = le.AppendUint64(b, uint64(h.at))
		b = le.AppendUint64(b, uint64(h.by))
	}
	for _, s := range r.spans {
		b = le.AppendUint64(b, uint64(s.at))
		b = le.AppendUint64(b, uint64(s.ran))
		b = le.AppendUint64(b, uint64(s.low))
		b = le.AppendUint64(b, uint64(s.high))
	}
	return le.AppendUint32(b, crc32.Checksum(b, segfile.Castagnoli))
}

func parse(p []byte) (r record, err error) {
	le := binary.LittleEndian
	if len(p) < fixed+4 || string(p[:8]) != magic || p[8] < 1 || p[8] > version ||
		le.Uint32(p[len(p)-4:]) != crc32.Checksum(p[:len(p)-4], segfile.Castagnoli) {
		return r, fmt.Errorf("%w: clock", segfile.ErrFormat)
	}
	r.id, r.run, r.low = ID(p[16:32]), Run(le.Uint64(p[32:])), unknown
	if r.run < 0 || r.run > maxRun {
		return r, fmt.Errorf("%w: running time of the clock", segfile.ErrFormat)
	}
	if p[8] < 3 {
		// What they believed of the wall clock was not always so.
		return r, checkOld(p)
	}
	lives, highs, spans := int64(le.Uint32(p[12:])), int64(le.Uint32(p[48:])), int64(le.Uint32(p[52:]))
	if lives > maxLives || highs > maxHighs || spans > spansADay || int64(len(p)) != fixed+lives*eachLife+highs*eachHigh+spans*eachSpan+4 {
		return r, fmt.Errorf("%w: length of the clock", segfile.ErrFormat)
	}
	good := true
	duration := func(p []byte) time.Duration {
		d := time.Duration(le.Uint64(p))
		good = good && d >= -time.Duration(maxRun) && d <= time.Duration(maxRun)
		return d
	}
	last := Run(0)
	moment := func(p []byte) Run {
		at := Run(le.Uint64(p))
		good = good && at >= last && at <= r.run
		last = at
		return at
	}
	if r.low = time.Duration(le.Uint64(p[40:])); r.low != unknown {
		duration(p[40:])
	}
	p = p[fixed:]
	for ; lives > 0; lives, p = lives-1, p[eachLife:] {
		r.past = append(r.past, life{ID(p[:16]), moment(p[16:])})
	}
	last = 0
	for ; highs > 0; highs, p = highs-1, p[eachHigh:] {
		h := high{moment(p), duration(p[8:])}
		if n := len(r.highs); n > 0 {
			good = good && h.at > r.highs[n-1].at && h.by > r.highs[n-1].by
		}
		r.highs = append(r.highs, h)
	}
	last = 0
	for ; spans > 0; spans, p = spans-1, p[eachSpan:] {
		s := span{moment(p), duration(p[8:]), duration(p[16:]), duration(p[24:])}
		good = good && s.low <= s.high && s.ran >= 0
		if n := len(r.spans); n > 0 {
			good = good && s.at > r.spans[n-1].at
		} else if h := len(r.highs); h > 0 {
			good = good && s.at > r.highs[h-1].at
		}
		r.spans = append(r.spans, s)
	}
	if !good {
		return r, fmt.Errorf("%w: fields of the clock", segfile.ErrFormat)
	}
	return r, nil
}

func checkOld(p []byte) error {
	first := int64(fixed2)
	if p[8] == 1 {
		first = fixed1
	}
	if n := int64(binary.LittleEndian.Uint32(p[12:])); n > maxOld || int64(len(p)) != first+n*eachOld+4 {
		return fmt.Errorf("%w: length of the clock", segfile.ErrFormat)
	}
	return nil
}
