package index

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"

	"qsfs/zdb/segfile"
)

// Entry is what the index knows of a key.
type Entry struct {
	Location segfile.Location
	Seq      segfile.Seq
	Time     int64
	// Moved: compaction brought it to its place. Given: a user gave its time.
	Moved, Given bool
	// Inline: Value is the value itself.
	Inline bool
	Value  []byte
}

const (
	entryFixed = 33

	flagInline = 1
	flagDelete = 2
	flagMoved  = 4
	flagGiven  = 8
	knownFlags = flagInline | flagDelete | flagMoved | flagGiven

	// First bytes of Badger's keys: ours, the user's, tombstones while the index is rebuilt, and superseded versions.
	prefixMeta    = 0
	prefixUser    = 1
	prefixGone    = 2
	prefixVersion = 3
)

var errValue = errors.New("an index value does not check")

func userKey(key []byte) []byte {
	return append(append(make([]byte, 0, len(key)+1), prefixUser), key...)
}

func goneKey(key []byte) []byte {
	return append(append(make([]byte, 0, len(key)+1), prefixGone), key...)
}

// appendEntry encodes e; the checksum covers the key too, so a value never passes for that of another key.
func appendEntry(b, key []byte, e Entry, remove bool) []byte {
	start := len(b)
	le := binary.LittleEndian
	var flags byte
	for _, f := range []struct {
		on  bool
		bit byte
	}{{e.Inline, flagInline}, {remove, flagDelete}, {e.Moved, flagMoved}, {e.Given, flagGiven}} {
		if f.on {
			flags |= f.bit
		}
	}
	b = append(b, flags)
	b = le.AppendUint32(b, uint32(e.Location.Segment))
	b = le.AppendUint64(b, uint64(e.Location.Offset))
	b = le.AppendUint32(b, e.Location.Length)
	b = le.AppendUint64(b, uint64(e.Seq))
	b = le.AppendUint64(b, uint64(e.Time))
	if e.Inline {
		b = append(b, e.Value...)
	}
	return le.AppendUint32(b, entrySum(key, b[start:]))
}

func entrySum(key, p []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, segfile.Castagnoli), segfile.Castagnoli, p)
}

// parseEntry decodes the value of a user's key and copies what it keeps.
func parseEntry(key, p []byte) (Entry, error) {
	e, remove, err := decodeEntry(key, p)
	if err == nil && remove {
		err = errValue
	}
	return e, err
}

func decodeEntry(key, p []byte) (e Entry, remove bool, err error) {
	if len(p) < entryFixed+4 {
		return e, false, errValue
	}
	le := binary.LittleEndian
	body := p[:len(p)-4]
	flags := body[0]
	if le.Uint32(p[len(body):]) != entrySum(key, body) || flags&^knownFlags != 0 {
		return e, false, errValue
	}
	if flags&flagInline == 0 && len(body) != entryFixed {
		return e, false, errValue
	}
	e = Entry{
		Location: segfile.Location{Segment: segfile.ID(le.Uint32(p[1:])), Offset: int64(le.Uint64(p[5:])), Length: le.Uint32(p[13:])},
		Seq:      segfile.Seq(le.Uint64(p[17:])),
		Time:     int64(le.Uint64(p[25:])),
		Inline:   flags&flagInline != 0,
		Moved:    flags&flagMoved != 0,
		Given:    flags&flagGiven != 0,
	}
	if e.Inline {
		e.Value = slices.Clone(body[entryFixed:])
		if e.Value == nil {
			e.Value = []byte{}
		}
	}
	return e, flags&flagDelete != 0, nil
}
