package batch

import (
	"encoding/binary"
	"hash/crc32"

	"qsfs/zdb/segfile"
)

// Window is the part of a file that must be read to check a range of a value.
type Window struct {
	// First is the first block of the range, Blocks the number of them.
	First, Blocks int
	// Sums and Data are offsets in the file, the lengths follow.
	Sums, Data       int64
	SumsLen, DataLen int
}

// Cover gives the blocks of the value at l that hold [off, off+n).
func Cover(l segfile.Location, off int64, n int) Window {
	first := int(off / BlockSize)
	last := int((off + int64(n) - 1) / BlockSize)
	w := Window{First: first, Blocks: last - first + 1}
	table := l.Offset - int64(sumSize*blocks(int(l.Length)))
	w.Sums, w.SumsLen = table+int64(sumSize*first), sumSize*w.Blocks
	start := int64(first) * BlockSize
	w.Data = l.Offset + start
	w.DataLen = int(min(int64(last+1)*BlockSize, int64(l.Length)) - start)
	return w
}

// Head is the number of bytes between the start of a value's checksums and the value.
func Head(length uint32) int { return sumSize * blocks(int(length)) }

// Check compares blocks with their sums and gives the offset in data of the
// first block that differs, or -1.
func Check(sums, data []byte) int {
	for at := 0; at < len(data); at += BlockSize {
		block := data[at:min(at+BlockSize, len(data))]
		if crc32.Checksum(block, segfile.Castagnoli) != binary.LittleEndian.Uint32(sums[at/BlockSize*sumSize:]) {
			return at
		}
	}
	return -1
}
