package receipt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qsfs/zstor/internal/record"
)

func sample() Receipt {
	return Receipt{
		Manifest: record.Manifest{
			Object: "zdbfs-data/17", Generation: record.Generation{1, 2}, K: 4, N: 6, KeyEpoch: 1, StripeSize: 1 << 20,
			DataLen: 64 << 20, IndexLen: 4096, DataStripes: 64, IndexStripes: 1,
			Nodes: []record.Holding{{Index: 0, Node: "a:1/x", State: record.Confirmed}},
		},
		Full: true, Time: time.Unix(1e9, 5).UTC(),
	}
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir, "zdbfs-data", 17); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("none yet: got %v", err)
	}
	if err := os.MkdirAll(filepath.Dir(Path(dir, "zdbfs-data", 17)), 0o700); err != nil {
		t.Fatal(err)
	}
	want := sample()
	if err := Write(dir, "zdbfs-data", 17, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir, "zdbfs-data", 17)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Full || got.Confirmed || !got.Time.Equal(want.Time) || got.Manifest.Generation != want.Manifest.Generation {
		t.Errorf("got %+v", got)
	}
	if err := os.Rename(Path(dir, "zdbfs-data", 17), Path(dir, "zdbfs-data", 18)); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir, "zdbfs-data", 18); !errors.Is(err, ErrInvalid) {
		t.Errorf("another segment's receipt: got %v", err)
	}
}

func TestEveryBitAndEveryCut(t *testing.T) {
	s := sample()
	b, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		if _, err := Parse(b[:i]); !errors.Is(err, ErrInvalid) {
			t.Fatalf("cut at %d: got %v", i, err)
		}
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := Parse(b); !errors.Is(err, ErrInvalid) {
				t.Fatalf("bit %d of byte %d: got %v", bit, i, err)
			}
			b[i] ^= 1 << bit
		}
	}
}

func FuzzReceipt(f *testing.F) {
	s := sample()
	b, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(magic))
	f.Add(append(bytes.Clone(b), 0))
	for n := 0; n < len(b); n += 8 {
		f.Add(b[:n])
	}
	// Each field wrong, with a wrong checksum and with the right one; the last ones are of the manifest.
	for _, at := range []int{0, 9, 10, 11, 12, 20, 23, front, front + 1, len(b) - 5} {
		bad := bytes.Clone(b)
		bad[at] ^= 0x80
		f.Add(bytes.Clone(bad))
		binary.BigEndian.PutUint32(bad[len(bad)-4:], crc32.Checksum(bad[:len(bad)-4], castagnoli))
		f.Add(bad)
	}
	none := append([]byte(magic), make([]byte, front-len(magic))...)
	none[9] = version
	f.Add(binary.BigEndian.AppendUint32(none, crc32.Checksum(none, castagnoli)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		if _, err := r.encode(); err != nil {
			t.Errorf("parsed but does not encode: %v", err)
		}
	})
}
