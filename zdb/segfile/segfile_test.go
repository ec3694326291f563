package segfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/zeebo/blake3"
)

var inc = Incarnation{9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 11, 12, 13, 14, 15, 16}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"d0": "d0", "i17": "i17", "r4294967294": "r4294967294",
		"d": "", "d01": "", "x1": "", "d4294967295": "", "d-1": "", "d1.tmp": "", "": "", "d+1": "",
	} {
		kind, id, ok := ParseName(name)
		got := ""
		if ok {
			got = string(kind) + id.String()
		}
		if got != want {
			t.Errorf("ParseName(%q) = %q, want %q", name, got, want)
		}
	}
	if s := MakeSeq(3, 42); s.Epoch() != 3 || s.Counter() != 42 || s.String() != "e3.42" {
		t.Errorf("MakeSeq(3, 42) = %v", s)
	}
}

func TestHeader(t *testing.T) {
	want := Header{
		Namespace: "zdbfs-data", ID: 17, Incarnation: inc, Session: 5, Epoch: 2, Created: time.Unix(0, 12345),
		NextSeq: MakeSeq(2, 9), Needs: MakeSeq(2, 8), Prev: 16, PrevLength: 1 << 20, Initial: 300,
	}
	p := AppendHeader(nil, want)
	if len(p) != HeaderSize {
		t.Fatalf("header of %d bytes", len(p))
	}
	got, err := ParseHeader(p)
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for bit := range len(p) * 8 {
		bad := bytes.Clone(p)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := ParseHeader(bad); !errors.Is(err, ErrFormat) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
	if _, err := ParseHeader(p[:100]); !errors.Is(err, ErrFormat) {
		t.Errorf("cut header: %v", err)
	}
}

// index builds an index segment over some data.
func index(data []byte, records int) ([]byte, Footer) {
	p := AppendIndexHeader(nil, 3, inc)
	for i := range records {
		p = AppendRecord(p, Record{
			Key: fmt.Appendf(nil, "key%d", i), Seq: Seq(i), Time: int64(i), Delete: i%3 == 0, Moved: i%5 == 0,
			Offset: int64(i), Length: uint32(i % 7), Sum: uint32(i),
		})
	}
	s := NewSummer()
	_, _ = s.Write(data[:len(data)/3])
	_, _ = s.Write(data[len(data)/3:])
	f := Footer{
		Namespace: "ns", ID: 3, Incarnation: inc, Session: 4, DataLength: int64(len(data)), FirstSeq: 1, LastSeq: 9, NextSeq: 10,
		Needs: 2, Records: int64(records), RecordBytes: int64(len(p)) - IndexHeaderSize,
		Sessions: []SessionStart{{1, 3}, {5, 4}}, IndexSum: blake3.Sum256(p),
	}
	f.PieceSums, f.Sum = s.Sums()
	return AppendFooter(p, f), f
}

func TestIndexSegment(t *testing.T) {
	data := bytes.Repeat([]byte("abcdefgh"), (3*PieceSize+4096)/8)
	p, want := index(data, 200)
	path := filepath.Join(t.TempDir(), "i3")
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := ReadFooter(path)
	if err != nil || !reflect.DeepEqual(f, want) {
		t.Fatalf("footer %+v, %v, want %+v", f, err, want)
	}
	if err := errors.Join(f.Verify(bytes.NewReader(data)), f.VerifyIndex(bytes.NewReader(p))); err != nil {
		t.Error(err)
	}
	if f.Sum != blake3.Sum256(data) || len(f.PieceSums) != 4 || f.PieceSums[3] != blake3.Sum256(data[3*PieceSize:]) {
		t.Error("sums are not those of the data")
	}
	rr, err := NewRecordReader(bytes.NewReader(p), f)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		r, err := rr.Next()
		if err != nil || string(r.Key) != fmt.Sprintf("key%d", i) || r.Offset != int64(i) || r.Delete != (i%3 == 0) || r.Moved != (i%5 == 0) {
			t.Fatalf("record %d: %+v, %v", i, r, err)
		}
	}
	if _, err := rr.Next(); err != io.EOF {
		t.Errorf("behind the last record: %v", err)
	}
	bad := bytes.Clone(data)
	bad[2*PieceSize+5] ^= 1
	var ce *CorruptionError
	if err := f.Verify(bytes.NewReader(bad)); !errors.As(err, &ce) || ce.Offset != 2*PieceSize {
		t.Errorf("flip in the third piece: %v", err)
	}
	if err := f.VerifyPiece(3, data[3*PieceSize:len(data)-1]); err == nil {
		t.Error("a short piece passes")
	}
	if err := f.VerifyPiece(4, nil); err == nil {
		t.Error("a piece that is not there passes")
	}
}

// readAll reads footer and records, and checks the sum of the rest.
func readAll(p []byte) error {
	f, err := ReadFooterAt(bytes.NewReader(p), int64(len(p)))
	if err != nil {
		return err
	}
	rr, err := NewRecordReader(bytes.NewReader(p), f)
	if err != nil {
		return err
	}
	for {
		if _, err := rr.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// TestIndexFlips: every flipped bit and every cut is noticed by who reads it, sums aside.
func TestIndexFlips(t *testing.T) {
	p, _ := index(bytes.Repeat([]byte{1}, 300), 4)
	if err := readAll(p); err != nil {
		t.Fatal(err)
	}
	for bit := range len(p) * 8 {
		bad := bytes.Clone(p)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := readAll(bad); !errors.Is(err, ErrFormat) {
			t.Fatalf("bit %d of byte %d flipped: %v", bit%8, bit/8, err)
		}
	}
	for n := range p {
		if err := readAll(p[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func FuzzIndexSegment(f *testing.F) {
	p, _ := index(bytes.Repeat([]byte{1}, 300), 4)
	f.Add(p)
	p, _ = index(bytes.Repeat([]byte{1}, PieceSize+1), 0)
	f.Add(p)
	big := Footer{Namespace: "n", ID: 3, Incarnation: inc, DataLength: 200 * PieceSize, PieceSums: make([][32]byte, 200), Records: 0}
	p = AppendFooter(AppendIndexHeader(nil, 3, inc), big) // a footer of more than one read
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		if err := readAll(p); err != nil && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
	})
}

// FuzzFooter goes behind the checksum of the footer.
func FuzzFooter(f *testing.F) {
	_, foot := index(bytes.Repeat([]byte{1}, 300), 4)
	f.Add(AppendFooter(nil, foot)[:len(AppendFooter(nil, foot))-tailSize-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) < footerFixed {
			return
		}
		p := mendFooter(body)
		got, err := parseFooter(p)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again := AppendFooter(nil, got)
		if _, err := parseFooter(again[:len(again)-tailSize]); err != nil {
			t.Fatalf("a footer that was read is not written again: %v", err)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(AppendHeader(nil, Header{Namespace: "n", Created: time.Unix(0, 1)}))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := ParseHeader(p)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if got, err := ParseHeader(AppendHeader(nil, h)); err != nil || got != h {
			t.Fatalf("got %+v, %v, want %+v", got, err, h)
		}
	})
}

func mendFooter(body []byte) []byte {
	p := bytes.Clone(body)
	return binary.LittleEndian.AppendUint32(p, crc32.Checksum(p, Castagnoli))
}
