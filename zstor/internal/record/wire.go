package record

import (
	"encoding/binary"
	"fmt"
)

// writer appends fields; all integers are big-endian or unsigned varints.
type writer struct{ b []byte }

func (w *writer) u8(v uint8)       { w.b = append(w.b, v) }
func (w *writer) u16(v uint16)     { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32)     { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)     { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *writer) uvarint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) bytes(v []byte)   { w.b = append(w.b, v...) }
func (w *writer) str(v string)     { w.uvarint(uint64(len(v))); w.b = append(w.b, v...) }
func (w *writer) bool(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

// reader takes fields apart. After the first fault all fields read as zero, and err says what was wrong.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
	r.b = nil
}

// zeros answer reads behind the end of damaged bytes.
var zeros [32]byte

func (r *reader) take(n int) []byte {
	if r.err == nil && n <= len(r.b) {
		v := r.b[:n]
		r.b = r.b[n:]
		return v
	}
	r.fail("cut short")
	return zeros[:min(n, len(zeros))]
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) bool() bool {
	v := r.u8()
	if v > 1 {
		r.fail("truth value %d", v)
	}
	return v == 1
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.err != nil || n <= 0 {
		r.fail("bad varint")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// size reads a byte length or offset, which must be a sane int64.
func (r *reader) size() int64 {
	v := r.uvarint()
	if v > 1<<62 {
		r.fail("size %d", v)
		return 0
	}
	return int64(v)
}

// count reads the length of a list whose elements take at least each bytes, so that a hostile count cannot make
// the decoder allocate more than a small multiple of its input.
func (r *reader) count(limit, each int) int {
	v := r.uvarint()
	if v > uint64(limit) || v*uint64(each) > uint64(len(r.b)) {
		r.fail("count %d", v)
		return 0
	}
	return int(v)
}

func (r *reader) str(limit int) string {
	n := r.count(limit, 1)
	if r.err != nil {
		return ""
	}
	return string(r.take(n))
}

func (r *reader) id16() (v [16]byte) { copy(v[:], r.take(16)); return v }
func (r *reader) id32() (v [32]byte) { copy(v[:], r.take(32)); return v }

// version reads the version byte that starts every payload.
func (r *reader) format(what string, want uint8) {
	if v := r.u8(); v != want && r.err == nil {
		r.fail("%s of format %d, this program knows %d", what, v, want)
	}
}

// end checks that nothing is left over.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes left over", len(r.b))
	}
	return r.err
}
