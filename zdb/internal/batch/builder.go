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
	flagGiven

	knownEntryFlags = flagDelete | flagMoved | flagGiven
)

// Item is where the builder put one entry.
type Item struct {
	Delete bool
	Moved  bool
	Given  bool        // a moved entry's time was given by a user
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

// EntrySize is what an entry takes up in a batch, MovedSize what it does once it was moved.
func EntrySize(key, value int) int { return entryFixed + key + sumSize*blocks(value) + value }

// MovedSize is EntrySize of an entry that keeps its sequence and time.
func MovedSize(key, value int) int { return EntrySize(key, value) + ownFixed }

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

// Held is how much memory the buffer is; it may be much more than Size where the builder was used before.
func (b *Builder) Held() int { return cap(b.buf) }

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

// Move adds an entry that keeps its sequence and time. The value is read straight into the batch.
func (b *Builder) Move(m Moved, length uint32, read func([]byte) error) error {
	flags := byte(flagMoved)
	if m.Delete {
		flags |= flagDelete
	}
	if m.Given {
		flags |= flagGiven
	}
	before, items := len(b.buf), len(b.items)
	p := b.reserve(flags, m.Seq, m.Time, m.Key, int(length))
	if err := read(p); err != nil {
		b.buf, b.items = b.buf[:before], b.items[:items]
		return err
	}
	b.sumBlocks(p)
	return nil
}

// Moved describes an entry that compaction moves.
type Moved struct {
	Key    []byte
	Seq    segfile.Seq
	Time   int64
	Delete bool
	Given  bool
}

func (b *Builder) add(flags byte, seq segfile.Seq, time int64, key, value []byte) {
	p := b.reserve(flags, seq, time, key, len(value))
	copy(p, value)
	b.sumBlocks(p)
}

// reserve adds an entry and gives the room for its value, in front of which the block sums are still to be set.
func (b *Builder) reserve(flags byte, seq segfile.Seq, time int64, key []byte, length int) []byte {
	need := EntrySize(len(key), length) + ownFixed
	if len(b.buf) == 0 {
		b.buf = slices.Grow(b.buf, HeaderSize+need+TrailerSize)[:HeaderSize]
	}
	// Room for the trailer is kept, so that finishing never moves the buffer.
	b.buf = slices.Grow(b.buf, need+TrailerSize)
	le := binary.LittleEndian
	it := Item{
		Delete: flags&flagDelete != 0, Moved: flags&flagMoved != 0, Given: flags&flagGiven != 0,
		Seq: seq, Time: time, keyLen: uint16(len(key)), Length: uint32(length),
	}
	p := append(b.buf, flags, 0)
	p = le.AppendUint16(p, uint16(len(key)))
	p = le.AppendUint32(p, uint32(length))
	if it.Moved {
		p = le.AppendUint64(p, uint64(seq))
		p = le.AppendUint64(p, uint64(time))
	}
	it.key = uint32(len(p))
	p = append(p, key...)
	it.Value = uint32(len(p) + sumSize*blocks(length))
	b.buf = p[:int(it.Value)+length]
	b.items = append(b.items, it)
	return b.buf[it.Value:]
}

// sumBlocks sets the sums in front of the value that the buffer ends with.
func (b *Builder) sumBlocks(value []byte) {
	at := len(b.buf) - len(value) - sumSize*blocks(len(value))
	for off := 0; off < len(value); off += BlockSize {
		sum := crc32.Checksum(value[off:min(off+BlockSize, len(value))], segfile.Castagnoli)
		binary.LittleEndian.PutUint32(b.buf[at:], sum)
		at += sumSize
	}
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
