package meta

import "encoding/binary"

// Super is the value of the F row, written once when the filesystem is made.
type Super struct {
	ID      [16]byte // random
	HashKey [16]byte // of the directory hash, random
	Created Time
}

const (
	superMagic   = "QSFS"
	superVersion = 1
	superLen     = 4 + 2 + 16 + 16 + 12
)

// Append encodes s.
func (s *Super) Append(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, superMagic...)
	b = be.AppendUint16(b, superVersion)
	b = append(b, s.ID[:]...)
	b = append(b, s.HashKey[:]...)
	b = be.AppendUint64(b, uint64(s.Created.Sec))
	return be.AppendUint32(b, s.Created.Nsec)
}

// DecodeSuper decodes the value of the F row.
func DecodeSuper(b []byte) (Super, error) {
	be := binary.BigEndian
	var s Super
	if len(b) < 6 || string(b[:4]) != superMagic {
		return s, badf("not a filesystem of this kind")
	}
	if v := be.Uint16(b[4:]); v != superVersion {
		return s, badf("filesystem version %d, this program knows %d", v, superVersion)
	}
	if len(b) != superLen {
		return s, badf("filesystem row of %d bytes", len(b))
	}
	copy(s.ID[:], b[6:])
	copy(s.HashKey[:], b[22:])
	s.Created = Time{Sec: int64(be.Uint64(b[38:])), Nsec: be.Uint32(b[46:])}
	if s.Created.Nsec >= 1e9 {
		return s, badf("%d nanoseconds", s.Created.Nsec)
	}
	return s, nil
}

// Counters is the value of the C row: every number used so far is below these.
type Counters struct {
	Ino, Blob uint64
}

const countersVersion = 1

// Append encodes c.
func (c Counters) Append(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, countersVersion)
	b = be.AppendUint64(b, c.Ino)
	return be.AppendUint64(b, c.Blob)
}

// DecodeCounters decodes the value of the C row.
func DecodeCounters(b []byte) (Counters, error) {
	if len(b) != 17 || b[0] != countersVersion {
		return Counters{}, badf("counters of %d bytes", len(b))
	}
	c := Counters{Ino: binary.BigEndian.Uint64(b[1:]), Blob: binary.BigEndian.Uint64(b[9:])}
	if c.Ino < 2 || c.Ino >= MaxOffset || c.Blob < 1 {
		return Counters{}, badf("counters %d and %d", c.Ino, c.Blob)
	}
	return c, nil
}

// AppendUint64 encodes the value of a T, B, N or s row: an offset, a count, a session.
func AppendUint64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// DecodeUint64 decodes the value of a T, B, N or s row.
func DecodeUint64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, badf("number of %d bytes", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}
