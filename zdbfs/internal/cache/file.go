package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A stripe file is
//
//	magic "qsfsstr1" | offset u64 | length u64 | CRC32C u32 of what stands before | CRC32C u32 of each block | data
//
// with big-endian numbers. A block is 16 KiB, the last one may be shorter.
const (
	magic      = "qsfsstr1"
	fixedSize  = len(magic) + 8 + 8 + 4
	blockSize  = 16 << 10
	maxStripe  = 64 << 20
	sumsOffset = fixedSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged: the file is not what was written.
var errDamaged = errors.New("stripe file does not verify")

func blocks(length int64) int64 { return (length + blockSize - 1) / blockSize }

// headerSize is where the data begins.
func headerSize(length int64) int64 { return int64(sumsOffset) + 4*blocks(length) }

// fileSize is what a stripe of length bytes takes.
func fileSize(length int64) int64 { return headerSize(length) + length }

// appendHeader encodes everything in front of the data.
func appendHeader(b []byte, offset int64, data []byte) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	b = binary.BigEndian.AppendUint64(b, uint64(len(data)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	for len(data) > 0 {
		n := min(blockSize, len(data))
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(data[:n], castagnoli))
		data = data[n:]
	}
	return b
}

// writeStripe writes a whole file under a name that nobody looks at yet. It is not synced: after a
// crash the checksums tell what did not arrive.
func writeStripe(path string, offset int64, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(appendHeader(nil, offset, data))
	if err == nil {
		_, err = f.Write(data)
	}
	return errors.Join(err, f.Close())
}

// readHeader gives what a file of size bytes claims to hold, after checking that claim against its size.
func readHeader(f io.ReaderAt, size int64) (offset, length int64, err error) {
	var h [fixedSize]byte
	if _, err := f.ReadAt(h[:], 0); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errDamaged, err)
	}
	o := binary.BigEndian.Uint64(h[len(magic):])
	n := binary.BigEndian.Uint64(h[len(magic)+8:])
	sum := binary.BigEndian.Uint32(h[len(magic)+16:])
	if string(h[:len(magic)]) != magic || crc32.Checksum(h[:len(magic)+16], castagnoli) != sum || n == 0 || n > maxStripe || o > 1<<62 {
		return 0, 0, errDamaged
	}
	if size != fileSize(int64(n)) {
		return 0, 0, errDamaged
	}
	return int64(o), int64(n), nil
}

// readRange fills p from byte at of a stripe of length bytes, verifying the blocks that it touches.
func readRange(f io.ReaderAt, length, at int64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	first, last := at/blockSize, (at+int64(len(p))-1)/blockSize
	sums := make([]byte, 4*(last-first+1))
	if _, err := f.ReadAt(sums, int64(sumsOffset)+4*first); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	from, to := first*blockSize, min((last+1)*blockSize, length)
	buf := p
	if from != at || to != at+int64(len(p)) {
		buf = make([]byte, to-from)
	}
	if _, err := f.ReadAt(buf, headerSize(length)+from); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	for i, rest := 0, buf; len(rest) > 0; i++ {
		n := min(blockSize, len(rest))
		if crc32.Checksum(rest[:n], castagnoli) != binary.BigEndian.Uint32(sums[4*i:]) {
			return errDamaged
		}
		rest = rest[n:]
	}
	if from != at || to != at+int64(len(p)) {
		copy(p, buf[at-from:])
	}
	return nil
}
