package batch

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"qsfs/zdb/segfile"
)

const (
	entryFixed = 8
	ownFixed   = 16 // sequence and time of a moved entry
	sumSize    = 4
)

// Flags of an entry.
const (
	flagDelete = 1 << iota
	flagMoved

	knownEntryFlags = flagDelete | flagMoved
)

// Item is where the builder put one entry.
type Item struct {
	Delete bool
	Moved  bool
	Seq    segfile.Seq // of a moved entry
	Time   int64       // of a moved entry
	key    uint32
	keyLen uint16
	// Value is the offset of the value in the batch, Length its length.
	Value  uint32
	Length uint32
}

// Builder encodes a batch in place: what is written to the file is its buffer.
type Builder struct {
	buf   []byte
	items []Item
	sum   uint32 // over the entries up to summed
	done  int
}

// blocks is the number of checksums before a value.
func blocks(n int) int { return (n + BlockSize - 1) / BlockSize }

// EntrySize is what an entry takes up in a batch.
func EntrySize(key, value int) int { return entryFixed + key + sumSize*blocks(value) + value }

// Reset empties the builder. keep says whether the buffer may be used again.
func (b *Builder) Reset(keep bool) {
	if keep {
		b.buf = b.buf[:0]
	} else {
		b.buf = nil
	}
	b.items = b.items[:0]
	b.sum, b.done = 0, 0
}

// Len is the number of entries, Size the bytes of the finished batch.
func (b *Builder) Len() int { return len(b.items) }

// Size is the length of the finished batch.
func (b *Builder) Size() int { return max(len(b.buf), HeaderSize) + TrailerSize }

// Items describes the entries; valid until Reset.
func (b *Builder) Items() []Item { return b.items }

// Key gives the bytes of an item's key, Bytes those of its value.
func (b *Builder) Key(it Item) []byte {
	return b.buf[it.key : it.key+uint32(it.keyLen) : it.key+uint32(it.keyLen)]
}

// Bytes gives the value of an item.
func (b *Builder) Bytes(it Item) []byte {
	end := it.Value + it.Length
	return b.buf[it.Value:end:end]
}

// Set adds a value. Key and value are copied; the caller has checked the limits.
func (b *Builder) Set(key, value []byte) { b.add(0, 0, 0, key, value) }

// Delete adds a tombstone.
func (b *Builder) Delete(key []byte) { b.add(flagDelete, 0, 0, key, nil) }

// Move adds an entry that keeps its sequence and time.
func (b *Builder) Move(seq segfile.Seq, time int64, remove bool, key, value []byte) {
	flags := byte(flagMoved)
	if remove {
		flags |= flagDelete
	}
	b.add(flags, seq, time, key, value)
}

func (b *Builder) add(flags byte, seq segfile.Seq, time int64, key, value []byte) {
	need := EntrySize(len(key), len(value)) + ownFixed
	if len(b.buf) == 0 {
		b.buf = slices.Grow(b.buf, HeaderSize+need+TrailerSize)[:HeaderSize]
	}
	// Room for the trailer is kept, so that finishing never moves the buffer.
	b.buf = slices.Grow(b.buf, need+TrailerSize)
	le := binary.LittleEndian
	it := Item{Delete: flags&flagDelete != 0, Moved: flags&flagMoved != 0, Seq: seq, Time: time, keyLen: uint16(len(key)), Length: uint32(len(value))}
	p := append(b.buf, flags, 0)
	p = le.AppendUint16(p, uint16(len(key)))
	p = le.AppendUint32(p, uint32(len(value)))
	if it.Moved {
		p = le.AppendUint64(p, uint64(seq))
		p = le.AppendUint64(p, uint64(time))
	}
	it.key = uint32(len(p))
	p = append(p, key...)
	for at := 0; at < len(value); at += BlockSize {
		p = le.AppendUint32(p, crc32.Checksum(value[at:min(at+BlockSize, len(value))], segfile.Castagnoli))
	}
	it.Value = uint32(len(p))
	b.buf = append(p, value...)
	b.items = append(b.items, it)
}

// Prepare sums the entries; calling it before Finish takes that work out of the commit lock.
func (b *Builder) Prepare() {
	if len(b.buf) > HeaderSize && b.done != len(b.buf) {
		b.sum, b.done = crc32.Checksum(b.buf[HeaderSize:], segfile.Castagnoli), len(b.buf)
	}
}

// Finish fills in the header and gives the bytes to write, valid until Reset.
// It may be called again with another header.
func (b *Builder) Finish(h Header) []byte {
	if len(b.buf) == 0 {
		b.buf = slices.Grow(b.buf, HeaderSize+TrailerSize)[:HeaderSize]
	}
	b.Prepare()
	h.Count, h.Body = uint32(len(b.items)), uint32(len(b.buf)-HeaderSize)
	if h.Count == 0 {
		h.Flags |= Marker
	}
	h.put(b.buf[:HeaderSize])
	return binary.LittleEndian.AppendUint32(b.buf, checksum(b.sum, b.buf[:HeaderSize]))
}

// Rewrite appends a batch with the entries of b under another header.
func Rewrite(dst []byte, b *Batch, h Header) []byte {
	start := len(dst)
	h.Count, h.Body = b.Count, b.Body
	dst = append(dst, b.Raw[:HeaderSize+b.Body]...)
	p := dst[start:]
	h.put(p[:HeaderSize])
	sum := checksum(crc32.Checksum(p[HeaderSize:], segfile.Castagnoli), p[:HeaderSize])
	return binary.LittleEndian.AppendUint32(dst, sum)
}
