package meta

import "encoding/binary"

// Limits of content.
const (
	MaxOffset = 1 << 62 // ends of files and extents
	MaxBlob   = 1 << 20 // content bytes in a blob
	MaxInline = 1 << 16 // content bytes in an E row
)

// ExtentKind says where the bytes of an extent are.
type ExtentKind uint8

// The kinds of extents.
const (
	ExtentBlob   ExtentKind = 1 // in a blob of zdbfs-data
	ExtentInline ExtentKind = 2 // in the row itself
	ExtentZero   ExtentKind = 3 // allocated and not written: zeros
)

// Extent is an E row: bytes Start to End of a file, End being in the key.
type Extent struct {
	Kind       ExtentKind
	Start, End uint64
	Blob       uint64 // ExtentBlob: which,
	Skip       uint32 // where in its content the extent starts,
	BlobLen    uint32 // and how long its content is
	Inline     []byte // ExtentInline: the content
}

const extentVersion = 1

// Len is the number of bytes.
func (e *Extent) Len() uint64 { return e.End - e.Start }

// Slice returns the part of e from start to end, which must lie inside.
func (e *Extent) Slice(start, end uint64) Extent {
	s := *e
	s.Start, s.End = start, end
	switch e.Kind {
	case ExtentBlob:
		s.Skip += uint32(start - e.Start)
	case ExtentInline:
		s.Inline = e.Inline[start-e.Start : end-e.Start]
	}
	return s
}

// BlobRange is where the whole blob lies in the file, for an extent whose blob is not shared: all other extents that
// refer to it are there.
func (e *Extent) BlobRange() (start, end uint64) {
	start = e.Start - uint64(e.Skip)
	return start, start + uint64(e.BlobLen)
}

// Append encodes the value.
func (e *Extent) Append(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, extentVersion, byte(e.Kind))
	b = be.AppendUint64(b, e.Len())
	switch e.Kind {
	case ExtentBlob:
		b = be.AppendUint64(b, e.Blob)
		b = be.AppendUint32(b, e.Skip)
		b = be.AppendUint32(b, e.BlobLen)
	case ExtentInline:
		b = append(b, e.Inline...)
	}
	return b
}

// DecodeExtent decodes the value of an E row whose key says end. Inline points into b.
func DecodeExtent(end uint64, b []byte) (Extent, error) {
	be := binary.BigEndian
	if len(b) < 10 {
		return Extent{}, badf("extent of %d bytes", len(b))
	}
	if b[0] != extentVersion {
		return Extent{}, badf("extent version %d", b[0])
	}
	n := be.Uint64(b[2:])
	if end > MaxOffset || n == 0 || n > end {
		return Extent{}, badf("extent of length %d ends at %d", n, end)
	}
	e := Extent{Kind: ExtentKind(b[1]), Start: end - n, End: end}
	b = b[10:]
	switch e.Kind {
	case ExtentBlob:
		if len(b) != 16 {
			return Extent{}, badf("extent's blob reference of %d bytes", len(b))
		}
		e.Blob, e.Skip, e.BlobLen = be.Uint64(b), be.Uint32(b[8:]), be.Uint32(b[12:])
		if e.BlobLen > MaxBlob || uint64(e.Skip)+n > uint64(e.BlobLen) {
			return Extent{}, badf("extent of %d bytes at %d of a blob of %d", n, e.Skip, e.BlobLen)
		}
		if e.Blob == 0 {
			return Extent{}, badf("extent of blob 0")
		}
	case ExtentInline:
		if uint64(len(b)) != n || n > MaxInline {
			return Extent{}, badf("inline extent of %d bytes, length %d", len(b), n)
		}
		e.Inline = b
	case ExtentZero:
		if len(b) != 0 {
			return Extent{}, badf("zero extent with %d bytes", len(b))
		}
	default:
		return Extent{}, badf("extent kind %d", e.Kind)
	}
	return e, nil
}

// BlobHeaderLen is the number of bytes in front of a blob's content.
const BlobHeaderLen = 24

const blobVersion = 1

// BlobHeader says where the content of a blob belongs: in which file, from which offset. Reading does not need it;
// check and repair do, and compaction will.
type BlobHeader struct {
	Ino, Offset uint64
}

// Append encodes h.
func (h BlobHeader) Append(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, 'Q', 'F', 'S', 'B', blobVersion, 0, 0, 0)
	b = be.AppendUint64(b, h.Ino)
	return be.AppendUint64(b, h.Offset)
}

// DecodeBlobHeader decodes the first BlobHeaderLen bytes of a blob.
func DecodeBlobHeader(b []byte) (BlobHeader, error) {
	be := binary.BigEndian
	if len(b) < BlobHeaderLen {
		return BlobHeader{}, badf("blob of %d bytes", len(b))
	}
	if string(b[:4]) != "QFSB" || b[4] != blobVersion || b[5]|b[6]|b[7] != 0 {
		return BlobHeader{}, badf("blob starts with %x", b[:8])
	}
	h := BlobHeader{Ino: be.Uint64(b[8:]), Offset: be.Uint64(b[16:])}
	if h.Ino == 0 || h.Offset > MaxOffset {
		return BlobHeader{}, badf("blob of inode %d at %d", h.Ino, h.Offset)
	}
	return h, nil
}
