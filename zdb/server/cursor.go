package server

import (
	"encoding/binary"
	"hash/crc32"

	"qsfs/zdb"
)

// A cursor of SCAN, SCANX, RSCAN and KEYCUR names the key after which to go on, in the 17 bytes that the original's
// cursors have. Clients take it as it is. A key of up to 12 bytes is in it. A longer one is read back from the log, where
// it stays whatever becomes of the entry, until compaction removes the segment; then the cursor is refused and the
// client begins anew. A checksum over the key and the incarnation tells a cursor from a key, which some take for one, and
// from a cursor of another namespace.
//
//	 0  1  length of the key
//	 1 12  the key and zeros; or segment (4), length of the value (3), offset of the value (5)
//	13  4  CRC32C of incarnation, bytes 0 to 12, and key
const (
	cursorSize = 17
	cursorKey  = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func cursorSum(eng *zdb.Namespace, c, key []byte) uint32 {
	id := eng.Incarnation()
	sum := crc32.Update(crc32.Checksum(id[:], castagnoli), castagnoli, c[:13])
	return crc32.Update(sum, castagnoli, key)
}

// makeCursor returns the cursor of an engine's key with the place of its value.
func makeCursor(eng *zdb.Namespace, key []byte, l zdb.Location) []byte {
	c := make([]byte, cursorSize)
	c[0] = byte(len(key))
	if len(key) <= cursorKey {
		copy(c[1:], key)
	} else {
		binary.LittleEndian.PutUint32(c[1:], uint32(l.Segment))
		var wide [8]byte
		binary.LittleEndian.PutUint64(wide[:], uint64(l.Length)|uint64(l.Offset)<<24)
		copy(c[5:13], wide[:])
	}
	binary.LittleEndian.PutUint32(c[13:], cursorSum(eng, c, key))
	return c
}

// parseCursor returns the key that a cursor names.
func parseCursor(eng *zdb.Namespace, c []byte) (key []byte, ok bool) {
	if len(c) != cursorSize || c[0] == 0 {
		return nil, false
	}
	n := int(c[0])
	if n <= cursorKey {
		key = c[1 : 1+n]
	} else {
		place := binary.LittleEndian.Uint64(c[5:13])
		var err error
		key, err = eng.KeyAt(zdb.Location{
			Segment: zdb.SegmentID(binary.LittleEndian.Uint32(c[1:])), Offset: int64(place >> 24), Length: uint32(place & 0xffffff),
		}, n)
		if err != nil {
			return nil, false
		}
	}
	return key, binary.LittleEndian.Uint32(c[13:]) == cursorSum(eng, c, key)
}
