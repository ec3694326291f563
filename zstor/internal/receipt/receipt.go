// Package receipt reads and writes r<N>, the proof on the front machine that a segment is dispersed.
//
//	"QSFSRCPT" ‖ version u16 ‖ flags u8 ‖ reserved u8 ‖ written, unix ns u64 ‖ length u32 ‖ manifest ‖ CRC32C u32
//
// All integers are big-endian. The manifest is the payload of the manifest record (FORMAT.md), so a
// receipt alone says which node holds which index of which generation: reading an evicted segment
// asks nobody. Flag 1: every shard is stored under the full policy. Flag 2: and confirmed.
//
// A receipt is written aside, synced, renamed, and its directory synced. It is not consent to evict:
// that is asked from the daemon, which looks at the nodes as they are now. A receipt that does not
// parse counts as none; the segment is dispersed again.
package receipt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"qsfs/zdb/crashpoint"
	"qsfs/zstor/internal/note"
	"qsfs/zstor/internal/record"
)

const (
	magic   = "QSFSRCPT"
	version = 1
	front   = 8 + 2 + 1 + 1 + 8 + 4
	maxSize = 4 << 20

	flagFull      = 1
	flagConfirmed = 2
)

// ErrInvalid says that a receipt exists and is not one.
var ErrInvalid = errors.New("not a valid receipt")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Receipt says that a segment is dispersed.
type Receipt struct {
	Manifest record.Manifest
	Full     bool // n shards, placed under the main policy
	// Confirmed: every one of them is durable by its node's word, or was read back.
	Confirmed bool
	Time      time.Time
}

// Path is the file of a receipt in a state directory.
func Path(state, ns string, segment uint32) string {
	return filepath.Join(state, "data", ns, fmt.Sprintf("r%d", segment))
}

// Write replaces the receipt of a segment. When it returns nil the receipt survives a power cut.
func Write(state, ns string, segment uint32, r Receipt) error {
	b, err := r.encode()
	if err != nil {
		return err
	}
	if err := note.Replace(Path(state, ns, segment), b, 0o600); err != nil {
		return fmt.Errorf("write receipt of %s/%d: %w", ns, segment, err)
	}
	crashpoint.Hit("zstor.receipt.written")
	return nil
}

// Read reads the receipt of a segment: fs.ErrNotExist when there is none, ErrInvalid when it does
// not parse or belongs to another object.
func Read(state, ns string, segment uint32) (*Receipt, error) {
	p := Path(state, ns, segment)
	info, err := os.Stat(p)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSize {
		return nil, fmt.Errorf("%s: %w: %d bytes", p, ErrInvalid, info.Size())
	}
	b, err := os.ReadFile(p)
	if err != nil {
		return nil, err
	}
	r, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	if want := fmt.Sprintf("%s/%d", ns, segment); r.Manifest.Object != want {
		return nil, fmt.Errorf("%s: %w: it is of %s", p, ErrInvalid, r.Manifest.Object)
	}
	return r, nil
}

// Remove takes a receipt away; that there is none is success.
func Remove(state, ns string, segment uint32) error {
	err := os.Remove(Path(state, ns, segment))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (r *Receipt) encode() ([]byte, error) {
	m, err := r.Manifest.Encode()
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, front+len(m)+4)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, version)
	var flags byte
	if r.Full {
		flags |= flagFull
	}
	if r.Confirmed {
		flags |= flagConfirmed
	}
	b = append(b, flags, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(m)))
	b = append(b, m...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// Parse decodes the bytes of a receipt.
func Parse(b []byte) (*Receipt, error) {
	if len(b) < front+4 || len(b) > maxSize || string(b[:8]) != magic {
		return nil, fmt.Errorf("%w: %d bytes", ErrInvalid, len(b))
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return nil, fmt.Errorf("%w: checksum", ErrInvalid)
	}
	if v := binary.BigEndian.Uint16(b[8:]); v != version {
		return nil, fmt.Errorf("%w: version %d", ErrInvalid, v)
	}
	if int(binary.BigEndian.Uint32(b[20:])) != len(body)-front {
		return nil, fmt.Errorf("%w: length", ErrInvalid)
	}
	m, err := record.DecodeManifest(body[front:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &Receipt{
		Manifest: *m, Full: b[10]&flagFull != 0, Confirmed: b[10]&flagConfirmed != 0,
		Time: time.Unix(0, int64(binary.BigEndian.Uint64(b[12:]))).UTC(),
	}, nil
}
