package codec

import (
	"encoding/binary"
	"fmt"
)

// The body is what is sealed:
//
//	codec byte ‖ length of c (u32) ‖ c ‖ zeros
//
// and with the tag of the seal it fills k slices exactly.
const (
	codecRaw  = 0
	codecZstd = 1

	bodyHead = 1 + 4
	tagSize  = 16

	unitSmall = 64   // bytes that a slice is a multiple of
	unitLarge = 1024 // the same above unitLimit
	unitLimit = 64 << 10
)

// packageSize is the length of ct‖tag for a content of c bytes. The rounding
// hides the exact compressed length; the zeros that fill it are encrypted.
func packageSize(k, c int) int {
	total := bodyHead + c + tagSize
	unit := k * unitSmall
	if total > unitLimit {
		unit = k * unitLarge
	}
	return (total + unit - 1) / unit * unit
}

// buildBody writes the body of a plaintext into buf, which has the capacity
// for packageSize(k, len(plaintext)). Room for the tag is left behind it.
func (c *Codec) buildBody(buf []byte, k int, mode Compression, plaintext []byte) []byte {
	kind, content := byte(codecRaw), plaintext
	if mode == CompressZstd && c.worthCompressing(plaintext) {
		z := c.zenc.EncodeAll(plaintext, buf[bodyHead:bodyHead])
		if packageSize(k, len(z)) < packageSize(k, len(plaintext)) {
			kind, content = codecZstd, z
		}
	}
	body := buf[:packageSize(k, len(content))-tagSize]
	body[0] = kind
	binary.BigEndian.PutUint32(body[1:], uint32(len(content)))
	// For zstd this copies onto itself: the content was appended right here,
	// since what is smaller than the plaintext fits.
	copy(body[bodyHead:], content)
	clear(body[bodyHead+len(content):])
	return body
}

// parseBody gives the plaintext of an opened body, in memory of its own. The
// body was authenticated; it is still read like a stranger's.
func (c *Codec) parseBody(body []byte, plaintext int) ([]byte, error) {
	if len(body) < bodyHead {
		return nil, fmt.Errorf("%w: body of %d bytes", ErrSealed, len(body))
	}
	n := binary.BigEndian.Uint32(body[1:])
	if uint64(n) > uint64(len(body)-bodyHead) {
		return nil, fmt.Errorf("%w: content reaches beyond the body", ErrSealed)
	}
	content, pad := body[bodyHead:bodyHead+int(n)], body[bodyHead+int(n):]
	for _, b := range pad {
		if b != 0 {
			return nil, fmt.Errorf("%w: padding is not zero", ErrSealed)
		}
	}
	out := make([]byte, 0, plaintext)
	switch body[0] {
	case codecRaw:
		if len(content) != plaintext {
			return nil, fmt.Errorf("%w: raw content of another length than the header says", ErrSealed)
		}
		return append(out, content...), nil
	case codecZstd:
		out, err := c.zdec.DecodeAll(content, out)
		if err != nil || len(out) != plaintext {
			return nil, fmt.Errorf("%w: content does not decompress to the length the header says", ErrSealed)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: unknown codec byte %d", ErrSealed, body[0])
}

// Probing compresses a few samples instead of the whole: what is already
// compressed or encrypted is the rule in a file store, and costs a few percent
// this way instead of more than all the rest.
const (
	probeAbove  = 32 << 10
	probePieces = 8
	probePiece  = 2 << 10
)

func (c *Codec) worthCompressing(p []byte) bool {
	if len(p) <= probeAbove {
		return len(p) > 0
	}
	sample := getBuffer(2 * probePieces * probePiece)
	defer putBuffer(sample)
	in := sample.b[:0]
	step := (len(p) - probePiece) / (probePieces - 1)
	for i := range probePieces {
		in = append(in, p[i*step:i*step+probePiece]...)
	}
	z := c.zenc.EncodeAll(in, in[len(in):])
	return len(z) < len(in)*15/16
}
