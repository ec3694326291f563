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
	"strings"
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
	return indexOf(FooterVersion, data, records)
}

func indexOf(version uint16, data []byte, records int) ([]byte, Footer) {
	p := AppendIndexHeader(nil, 3, inc)
	for i := range records {
		p = AppendRecord(p, Record{
			Key: fmt.Appendf(nil, "key%d", i), Seq: Seq(i), Time: int64(i), Delete: i%3 == 0, Moved: i%5 == 0,
			Offset: int64(i), Length: uint32(i % 7), Sum: uint32(i),
		})
	}
	s := NewSummer(version)
	_, _ = s.Write(data[:len(data)/3])
	_, _ = s.Write(data[len(data)/3:])
	f := Footer{
		Version: version, Namespace: "ns", ID: 3, Incarnation: inc, Session: 4, DataLength: int64(len(data)), FirstSeq: 1, LastSeq: 9, NextSeq: 10,
		Needs: 2, Records: int64(records), RecordBytes: int64(len(p)) - IndexHeaderSize,
		Sessions: []SessionStart{{1, 3}, {5, 4}}, IndexSum: blake3.Sum256(p),
	}
	f.PieceSums, f.Sum = s.Sums()
	return AppendFooter(p, f), f
}

func TestIndexSegment(t *testing.T) {
	for version := uint16(1); version <= FooterVersion; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) { testIndexSegment(t, version) })
	}
}

func testIndexSegment(t *testing.T, version uint16) {
	data := bytes.Repeat([]byte("abcdefgh"), (3*PieceSize+4096)/8)
	p, want := indexOf(version, data, 200)
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
	if len(f.PieceSums) != 4 || f.PieceSums[3] != blake3.Sum256(data[3*PieceSize:]) || f.Sum != sumOver(version, data, f.PieceSums) {
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
	lies := f
	lies.Sum[31] ^= 1
	if err := lies.Verify(bytes.NewReader(data)); !errors.As(err, &ce) || ce.File != "i3" {
		t.Errorf("flip in the sum over all: %v", err)
	}
	lies = f
	lies.Version = 3 - version
	if err := lies.Verify(bytes.NewReader(data)); !errors.As(err, &ce) {
		t.Errorf("the sum of another version passes: %v", err)
	}
	if err := f.VerifyPiece(3, data[3*PieceSize:len(data)-1]); err == nil {
		t.Error("a short piece passes")
	}
	if err := f.VerifyPiece(4, nil); err == nil {
		t.Error("a piece that is not there passes")
	}
}

// sumOver is the sum over all as FORMAT.md has it.
func sumOver(version uint16, data []byte, pieces [][32]byte) (sum [32]byte) {
	if version == 1 {
		return blake3.Sum256(data)
	}
	var all []byte
	for _, p := range pieces {
		all = append(all, p[:]...)
	}
	blake3.DeriveKey("qsfs zdb pieces 1", all, sum[:])
	return sum
}

// TestFooterVersion: the newest is written unless one is asked for, and one that nobody knows is refused.
func TestFooterVersion(t *testing.T) {
	foot := Footer{Namespace: "n", ID: 3, Incarnation: inc, DataLength: 300, PieceSums: make([][32]byte, 1)}
	for version, want := range map[uint16]uint16{0: FooterVersion, 1: 1, 2: 2, FooterVersion + 1: 0, 1 << 8: 0} {
		foot.Version = version
		p := AppendFooter(AppendIndexHeader(nil, 3, inc), foot)
		got, err := ReadFooterAt(bytes.NewReader(p), int64(len(p)))
		if got.Version != want || want == 0 && !errors.Is(err, ErrFormat) || want != 0 && err != nil {
			t.Errorf("version %d: read as %d, %v", version, got.Version, err)
		}
		// Who opens what a newer program wrote is told so, not that it is damaged.
		if says := fmt.Sprintf("version %d, this program knows", version); want == 0 && !strings.Contains(err.Error(), says) {
			t.Errorf("version %d: %v", version, err)
		}
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

// refusedIndexes are index segments with one fault each, and right checksums around it.
func refusedIndexes() [][]byte {
	build := func(records []byte, change func(f *Footer)) []byte {
		foot := Footer{Namespace: "n", ID: 3, Incarnation: inc, DataLength: 300, PieceSums: make([][32]byte, 1), RecordBytes: int64(len(records))}
		if change != nil {
			change(&foot)
		}
		return AppendFooter(append(AppendIndexHeader(nil, 3, inc), records...), foot)
	}
	one := func(f *Footer) { f.Records = 1 }
	rec := AppendRecord(nil, Record{Key: []byte("key"), Offset: 270, Length: 9})
	flip := func(p []byte, at int) []byte {
		bad := bytes.Clone(p)
		bad[(at+len(bad))%len(bad)] ^= 0x80
		return bad
	}
	good := build(rec, one)
	tail := func(length uint32) []byte { // one that claims another length of the footer
		bad := bytes.Clone(good)
		binary.LittleEndian.PutUint32(bad[len(bad)-tailSize:], length)
		binary.LittleEndian.PutUint32(bad[len(bad)-tailSize+4:], ^length)
		return bad
	}
	all := [][]byte{
		good, nil, good[:IndexHeaderSize], good[:len(good)-1], append(bytes.Clone(good), 0),
		flip(good, 0), flip(good, 8), flip(good, 12), flip(good, 60), // header
		flip(good, -1), flip(good, -tailSize), flip(good, -tailSize-1), flip(good, IndexHeaderSize+len(rec)), // tail and footer
		tail(0), tail(footerFixed), tail(1 << 31), tail(maxFooter), tail(footerFixed + 5),
		build(rec, nil), // the footer counts no record
		build(nil, one),
		build(rec, func(f *Footer) { f.ID = 4; f.Records = 1 }),
		build(rec, func(f *Footer) { f.Incarnation[0]++; f.Records = 1 }),
		build(rec, func(f *Footer) { f.RecordBytes++; f.Records = 1 }),
		build(rec, func(f *Footer) { f.RecordBytes = -1; f.Records = 1 }),
		build(rec, func(f *Footer) { f.DataLength = 0; f.Records = 1 }),
		build(rec, func(f *Footer) { f.Version = FooterVersion + 1; f.Records = 1 }),
		build(rec[:5], one), build(rec[:recordFixed], one), build(rec[:recordFixed+1], one),
		build(AppendRecord(nil, Record{Key: []byte("key"), Offset: 299, Length: 2}), one),
		build(AppendRecord(nil, Record{Key: []byte("key"), Offset: -1}), one),
		build(AppendRecord(nil, Record{}), one),
	}
	for _, at := range []int{0, 1, 3, 4, 36, recordFixed} {
		all = append(all, build(flip(rec, at), one))
	}
	return all
}

// FuzzRecord reads one record behind its checksum.
func FuzzRecord(f *testing.F) {
	rec := AppendRecord(nil, Record{Key: []byte("key"), Seq: 5, Time: -1, Delete: true, Offset: 270, Length: 9, Sum: 8})
	for n := 0; n <= len(rec); n += recordFixed / 4 {
		f.Add(rec[:n])
	}
	f.Add(rec)
	f.Add(append(bytes.Clone(rec), rec...))
	for _, at := range []int{0, 1, 2, 3, 36, recordFixed} {
		bad := bytes.Clone(rec)
		bad[at] ^= 0x80
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		p = bytes.Clone(p)
		if len(p) > recordFixed {
			n := min(len(p), recordFixed+int(binary.LittleEndian.Uint16(p[2:])))
			binary.LittleEndian.PutUint32(p[36:], crc32.Update(crc32.Checksum(p[:36], Castagnoli), Castagnoli, p[recordFixed:n]))
		}
		r, need, err := parseRecord(p)
		switch {
		case err != nil && !errors.Is(err, ErrFormat):
			t.Fatal(err)
		case err == nil && need <= len(p) && len(AppendRecord(nil, r)) != need:
			t.Fatalf("a record of %d bytes is written as %d", need, len(AppendRecord(nil, r)))
		}
	})
}

// FuzzName takes names as a directory could list them.
func FuzzName(f *testing.F) {
	for _, name := range []string{"d0", "i17", "r4294967294", "d", "", "d01", "x1", "d4294967295", "d+1", "d99999999999999999999"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if kind, id, ok := ParseName(name); ok && string(kind)+id.String() != name {
			t.Fatalf("%q was read as %c%v", name, kind, id)
		}
	})
}

func FuzzIndexSegment(f *testing.F) {
	p, _ := index(bytes.Repeat([]byte{1}, 300), 4)
	f.Add(p)
	p, _ = index(bytes.Repeat([]byte{1}, PieceSize+1), 0)
	f.Add(p)
	p, _ = indexOf(1, bytes.Repeat([]byte{1}, 300), 4)
	f.Add(p)
	big := Footer{Namespace: "n", ID: 3, Incarnation: inc, DataLength: 200 * PieceSize, PieceSums: make([][32]byte, 200), Records: 0}
	p = AppendFooter(AppendIndexHeader(nil, 3, inc), big) // a footer of more than one read
	f.Add(p)
	for _, p := range refusedIndexes() {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if err := readAll(p); err != nil && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
	})
}

// FuzzFooter goes behind the checksum of the footer.
func FuzzFooter(f *testing.F) {
	_, foot := index(bytes.Repeat([]byte{1}, 300), 4)
	body := AppendFooter(nil, foot)
	body = body[:len(body)-tailSize-4]
	f.Add(body)
	f.Add(append(bytes.Clone(body), 0))
	f.Add(body[:len(body)-1])
	for _, version := range []byte{0, 1, FooterVersion + 1} {
		other := bytes.Clone(body)
		other[8] = version
		f.Add(other)
	}
	for _, at := range []int{0, 8, 10, 47, 87, 95, 96, 100, 104} { // magic, version, and every length
		bad := bytes.Clone(body)
		bad[at] ^= 0x80
		f.Add(bad)
	}
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
		if same, err := parseFooter(again[:len(again)-tailSize]); err != nil || !reflect.DeepEqual(same, got) {
			t.Fatalf("a footer that was read is written as another: %+v, %v, was %+v", same, err, got)
		}
	})
}

func FuzzHeader(f *testing.F) {
	good := AppendHeader(nil, Header{Namespace: "n", Created: time.Unix(0, 1)})
	f.Add(good)
	f.Add(good[:HeaderSize-1])
	f.Add([]byte{})
	f.Add(append(bytes.Clone(good), 1))
	for _, at := range []int{0, 8, 10, 70, 79, 87} { // magic, version, size, name, lengths
		bad := bytes.Clone(good)
		bad[at] ^= 0x90
		f.Add(bytes.Clone(bad)) // with a wrong checksum, too
		binary.LittleEndian.PutUint32(bad[headerCRCAt:], crc32.Checksum(bad[:headerCRCAt], Castagnoli))
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := ParseHeader(p)
		if read, rerr := ReadHeader(bytes.NewReader(p)); (err == nil) != (rerr == nil) || read != h {
			t.Fatalf("read as %+v, %v, parsed as %+v, %v", read, rerr, h, err)
		}
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
