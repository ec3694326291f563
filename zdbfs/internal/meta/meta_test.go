package meta

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"syscall"
	"testing"
)

func sampleInodes() []Inode {
	at := Time{Sec: -1, Nsec: 999_999_999}
	return []Inode{
		{Mode: syscall.S_IFDIR | 0o755, Nlink: 2, Flags: FlagLinks, Parent: 1, Atime: at, Mtime: at, Ctime: at, Btime: at},
		{Mode: syscall.S_IFREG | 0o6644, Nlink: 1, Uid: 1 << 31, Gid: 7, Size: 1 << 61, Alloc: 4096, Parent: 1, Cookie: 1 << 62},
		{Mode: syscall.S_IFLNK | 0o777, Nlink: 1, Size: 4, Target: "/etc"},
		{Mode: syscall.S_IFCHR | 0o600, Nlink: 3, Rdev: 0x103, Flags: FlagXattr | FlagLinks, Atime: Time{Sec: 1 << 40}},
	}
}

func sampleExtents() []Extent {
	return []Extent{
		{Kind: ExtentBlob, Start: 4096, End: 8192, Blob: 17, Skip: 100, BlobLen: MaxBlob},
		{Kind: ExtentInline, Start: 0, End: 5, Inline: []byte("hello")},
		{Kind: ExtentZero, Start: 1 << 20, End: MaxOffset},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, i := range sampleInodes() {
		if got, err := DecodeInode(i.Append(nil)); err != nil || got != i {
			t.Errorf("got %+v, %v; want %+v", got, err, i)
		}
	}
	for _, e := range sampleExtents() {
		got, err := DecodeExtent(e.End, e.Append(nil))
		if err != nil || got.Start != e.Start || got.Kind != e.Kind || got.Blob != e.Blob || !bytes.Equal(got.Inline, e.Inline) {
			t.Errorf("got %+v, %v; want %+v", got, err, e)
		}
	}
	d := Dirent{Ino: 5, Type: syscall.S_IFSOCK, Name: strings.Repeat("ä", 127)}
	if got, err := DecodeDirent(d.Append(nil)); err != nil || got != d {
		t.Errorf("got %+v, %v", got, err)
	}
	s := Super{ID: [16]byte{1}, HashKey: [16]byte{2}, Created: Time{Sec: 3, Nsec: 4}}
	if got, err := DecodeSuper(s.Append(nil)); err != nil || got != s {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	inode := func(change func(b []byte) []byte) error {
		i := sampleInodes()[2]
		_, err := DecodeInode(change(i.Append(nil)))
		return err
	}
	extent := func(end uint64, e Extent) error {
		_, err := DecodeExtent(end, e.Append(nil))
		return err
	}
	dirent := func(d Dirent) error {
		_, err := DecodeDirent(d.Append(nil))
		return err
	}
	for name, err := range map[string]error{
		"inode: version":          inode(func(b []byte) []byte { b[0] = 2; return b }),
		"inode: unknown flag":     inode(func(b []byte) []byte { b[1] = 0x80; return b }),
		"inode: cut":              inode(func(b []byte) []byte { return b[:len(b)-1] }),
		"inode: longer":           inode(func(b []byte) []byte { return append(b, 0) }),
		"inode: no type":          inode(func(b []byte) []byte { b[4] &= 0x0f; return b }),
		"inode: nanoseconds":      inode(func(b []byte) []byte { copy(b[62:], "\xff\xff\xff\xff"); return b }),
		"inode: empty":            inode(func(b []byte) []byte { return nil }),
		"extent: longer than end": extent(10, Extent{Kind: ExtentZero, End: 11}),
		"extent: empty":           extent(10, Extent{Kind: ExtentZero, Start: 10, End: 10}),
		"extent: behind the blob": extent(10, Extent{Kind: ExtentBlob, Blob: 1, Skip: 5, BlobLen: 10, Start: 0, End: 6}),
		"extent: large blob":      extent(10, Extent{Kind: ExtentBlob, Blob: 1, BlobLen: MaxBlob + 1, Start: 0, End: 6}),
		"extent: blob 0":          extent(10, Extent{Kind: ExtentBlob, BlobLen: 10, Start: 0, End: 10}),
		"extent: inline length":   extent(10, Extent{Kind: ExtentInline, End: 10, Inline: []byte("short")}),
		"extent: kind":            extent(10, Extent{Kind: 9, End: 10}),
		"extent: too far":         extent(MaxOffset+1, Extent{Kind: ExtentZero, End: 10}),
		"dirent: no name":         dirent(Dirent{Ino: 1, Type: syscall.S_IFREG}),
		"dirent: dots":            dirent(Dirent{Ino: 1, Type: syscall.S_IFREG, Name: ".."}),
		"dirent: slash":           dirent(Dirent{Ino: 1, Type: syscall.S_IFREG, Name: "a/b"}),
		"dirent: long":            dirent(Dirent{Ino: 1, Type: syscall.S_IFREG, Name: strings.Repeat("x", 256)}),
		"dirent: type":            dirent(Dirent{Ino: 1, Type: 3 << 12, Name: "x"}),
		"dirent: gap with a name": dirent(Dirent{Name: "x"}),
	} {
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSlice(t *testing.T) {
	e := Extent{Kind: ExtentBlob, Start: 1000, End: 2000, Blob: 1, Skip: 10, BlobLen: 5000}
	if s := e.Slice(1100, 1200); s.Skip != 110 || s.Start != 1100 || s.End != 1200 {
		t.Errorf("%+v", s)
	}
	s := e.Slice(1500, 2000)
	for _, x := range []Extent{e, s} {
		if a, z := x.BlobRange(); a != 990 || z != 5990 {
			t.Errorf("blob range %d-%d", a, z)
		}
	}
	i := Extent{Kind: ExtentInline, Start: 10, End: 15, Inline: []byte("hello")}
	if s := i.Slice(11, 14); string(s.Inline) != "ell" {
		t.Errorf("%q", s.Inline)
	}
}

// The vectors are those of the SipHash paper and its reference code: key 00…0f, messages 00, 00 01, …
func TestSipHash(t *testing.T) {
	const k0, k1 = 0x0706050403020100, 0x0f0e0d0c0b0a0908
	var in []byte
	for i := range 15 {
		in = append(in, byte(i))
	}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5} {
		if got := sipHash(k0, k1, string(in[:n])); got != want {
			t.Errorf("%d bytes: got %x, want %x", n, got, want)
		}
	}
	if h := NameHash(&[16]byte{1}, "x"); h>>63 != 0 || h&(1<<ChainBits-1) != 0 || h == 0 {
		t.Errorf("%x", h)
	}
}

// TestExample is the worked example of FORMAT.md.
func TestExample(t *testing.T) {
	at := Time{Sec: 1_700_000_000, Nsec: 5}
	i := Inode{
		Mode: syscall.S_IFREG | 0o644, Nlink: 1, Uid: 1000, Gid: 100, Size: 5, Alloc: 5,
		Parent: 1, Cookie: 0x123400, Atime: at, Mtime: at, Ctime: at, Btime: at,
	}
	d := Dirent{Ino: 2, Type: syscall.S_IFREG, Name: "hello"}
	e := Extent{Kind: ExtentBlob, Start: 0, End: 5, Blob: 7, BlobLen: 5}
	for _, c := range []struct {
		name      string
		got, want string
	}{
		{"I key", hex.EncodeToString(InodeKey(2)), "490000000000000002"},
		{"I value", hex.EncodeToString(i.Append(nil)),
			"0100000081a400000001000003e80000006400000000" + "0000000000000005" + "0000000000000005" +
				"0000000000000001" + "0000000000123400" + strings.Repeat("000000006553f10000000005", 4) + "0000"},
		{"D key", hex.EncodeToString(DirentKey(1, 0x123400)), "4400000000000000010000000000123400"},
		{"D value", hex.EncodeToString(d.Append(nil)), "0108000000000000000268656c6c6f"},
		{"E key", hex.EncodeToString(ExtentKey(2, 5)), "4500000000000000020000000000000005"},
		{"E value", hex.EncodeToString(e.Append(nil)), "01010000000000000005" + "0000000000000007" + "00000000" + "00000005"},
		{"blob key", hex.EncodeToString(BlobKey(7)), "0000000000000007"},
		{"blob", hex.EncodeToString(append(BlobHeader{Ino: 2}.Append(nil), "world"...)),
			"5146534201000000" + "0000000000000002" + "0000000000000000" + "776f726c64"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
}
