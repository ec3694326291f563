package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"qsfs/zdb/segfile"
)

// Entry is one entry of a parsed batch; its slices point into the batch.
type Entry struct {
	Delete bool
	Moved  bool
	Given  bool // Time was given by a user
	Key    []byte
	Value  []byte
	Seq    segfile.Seq
	Time   int64
	// Offset of the value in the file.
	Offset int64
	// Sum is the CRC32C of the value's block sums.
	Sum uint32
}

// Batch is a batch that checked.
type Batch struct {
	Header
	Entries []Entry
	// Raw is all of it.
	Raw []byte
}

// LastSeq is the highest sequence that the batch used, or the one before Seq when it used none.
func (b *Batch) NextSeq() segfile.Seq {
	next := b.Seq
	for i := range b.Entries {
		if !b.Entries[i].Moved {
			next++
		}
	}
	return next
}

// Parse checks the batch at the start of p, which lies at offset off of the
// segment, and splits it into b, whose memory is used again.
func (b *Batch) Parse(p []byte, id segfile.ID, inc segfile.Incarnation, off int64) error {
	h, err := ParseHeader(p, id, inc, off)
	if err != nil {
		return err
	}
	if int64(len(p)) < h.Size() {
		return fmt.Errorf("%w: cut after %d of %d bytes", ErrBad, len(p), h.Size())
	}
	return b.set(h, p, crc32.Checksum(p[HeaderSize:HeaderSize+h.Body], segfile.Castagnoli))
}

// set takes the batch at the start of p, which is all there, its header checked and its entries summed.
func (b *Batch) set(h Header, p []byte, entries uint32) error {
	p = p[:h.Size():h.Size()]
	b.Header, b.Raw, b.Entries = h, p, b.Entries[:0]
	if binary.LittleEndian.Uint32(p[HeaderSize+h.Body:]) != checksum(entries, p[:HeaderSize]) {
		return fmt.Errorf("%w: checksum", ErrBad)
	}
	return b.split(p[HeaderSize : HeaderSize+h.Body])
}

func (b *Batch) split(body []byte) error {
	seq, at := b.Seq, 0
	for range b.Count {
		e, n, err := parseEntry(body[at:])
		if err != nil {
			return err
		}
		if !e.Moved {
			e.Seq, e.Time, e.Given = seq, b.Time, b.Flags&Given != 0
			seq++
		}
		e.Offset = b.Offset + HeaderSize + int64(at+n-len(e.Value))
		at += n
		b.Entries = append(b.Entries, e)
	}
	if at != len(body) {
		return fmt.Errorf("%w: %d bytes behind the last entry", ErrBad, len(body)-at)
	}
	return nil
}

// parseEntry splits the entry at the start of p and says how long it is.
func parseEntry(p []byte) (Entry, int, error) {
	if len(p) < entryFixed {
		return Entry{}, 0, fmt.Errorf("%w: cut entry", ErrBad)
	}
	le := binary.LittleEndian
	flags, key, value := p[0], int(le.Uint16(p[2:])), int(le.Uint32(p[4:]))
	e := Entry{Delete: flags&flagDelete != 0, Moved: flags&flagMoved != 0, Given: flags&flagGiven != 0}
	if flags&^knownEntryFlags != 0 || e.Given && !e.Moved || p[1] != 0 || key == 0 || key > segfile.MaxKey || value > MaxValue || e.Delete && value != 0 {
		return Entry{}, 0, fmt.Errorf("%w: entry fields", ErrBad)
	}
	at, sums := entryFixed, sumSize*blocks(value)
	if e.Moved {
		at += ownFixed
	}
	size := at + key + sums + value
	if len(p) < size {
		return Entry{}, 0, fmt.Errorf("%w: cut entry", ErrBad)
	}
	if e.Moved {
		e.Seq, e.Time = segfile.Seq(le.Uint64(p[8:])), int64(le.Uint64(p[16:]))
	}
	e.Key = p[at : at+key : at+key]
	e.Sum = crc32.Checksum(p[at+key:at+key+sums], segfile.Castagnoli)
	e.Value = p[size-value : size : size]
	return e, size, nil
}
