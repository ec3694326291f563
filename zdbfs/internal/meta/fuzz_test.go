package meta

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
)

// same fails when a value that was accepted is not the one form in which it is written.
func same(t *testing.T, in, out []byte, err error) {
	t.Helper()
	if err == nil && !bytes.Equal(in, out) {
		t.Fatalf("%x was read, %x is what it is written as", in, out)
	}
}

// faults gives good cut short, with a byte too many, and with single bits wrong at the given places.
func faults(good []byte, at ...int) [][]byte {
	all := [][]byte{{}, good[:len(good)-1], append(bytes.Clone(good), 0)}
	for n := 1; n < len(good); n += 1 + len(good)/16 {
		all = append(all, good[:n])
	}
	for _, i := range at {
		bad := bytes.Clone(good)
		bad[i] ^= 0x80
		all = append(all, bad)
	}
	return all
}

func FuzzInode(f *testing.F) {
	for _, i := range sampleInodes() {
		good := i.Append(nil)
		f.Add(good)
		// Version, flags, mode, size, nanoseconds, length of the target.
		for _, bad := range faults(good, 0, 1, 2, 4, 22, 62, 63, inodeFixed-2, inodeFixed-1) {
			f.Add(bad)
		}
	}
	for _, i := range []Inode{
		{Mode: syscall.S_IFREG, Target: "x"}, {Mode: syscall.S_IFLNK}, {Mode: 0o644}, {Mode: syscall.S_IFIFO | 1<<20},
		{Mode: syscall.S_IFREG, Size: MaxOffset + 1}, {Mode: syscall.S_IFREG, Mtime: Time{Nsec: 1e9}},
		{Mode: syscall.S_IFLNK, Target: strings.Repeat("t", maxTarget+1)}, {Mode: syscall.S_IFDIR, Flags: 1 << 7},
	} {
		f.Add(i.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := DecodeInode(b)
		same(t, b, i.Append(nil), err)
	})
}

func FuzzDirent(f *testing.F) {
	d := Dirent{Ino: 9, Type: syscall.S_IFDIR, Name: "name"}
	f.Add(d.Append(nil))
	for _, bad := range faults(d.Append(nil), 0, 1, 10) {
		f.Add(bad)
	}
	for _, d := range []Dirent{
		{}, // a gap
		{Type: syscall.S_IFDIR}, {Name: "gap"}, {Ino: 1, Name: "untyped"}, {Ino: 1, Type: syscall.S_IFREG},
		{Ino: 1, Type: syscall.S_IFLNK, Name: ".."}, {Ino: 1, Type: syscall.S_IFSOCK, Name: "a/b"}, {Ino: 1, Type: syscall.S_IFBLK, Name: "a\x00b"},
		{Ino: 1, Type: syscall.S_IFREG, Name: strings.Repeat("n", maxName+1)},
	} {
		f.Add(d.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeDirent(b)
		same(t, b, d.Append(nil), err)
	})
}

func FuzzExtent(f *testing.F) {
	for _, e := range sampleExtents() {
		f.Add(e.End, e.Append(nil))
		f.Add(uint64(MaxOffset+1), e.Append(nil))
		f.Add(uint64(1), e.Append(nil))
		for _, bad := range faults(e.Append(nil), 0, 1, 2, 9) {
			f.Add(e.End, bad)
		}
	}
	for _, e := range []Extent{
		{Kind: ExtentBlob, End: 10, BlobLen: 10}, {Kind: ExtentBlob, End: 10, Blob: 1, Skip: 1, BlobLen: 10},
		{Kind: ExtentBlob, End: 10, Blob: 1, BlobLen: MaxBlob + 1}, {Kind: ExtentInline, End: 10, Inline: []byte("short")},
		{Kind: ExtentZero}, {Kind: 9, End: 10},
	} {
		f.Add(e.End, e.Append(nil))
	}
	f.Fuzz(func(t *testing.T, end uint64, b []byte) {
		e, err := DecodeExtent(end, b)
		if err != nil {
			return
		}
		same(t, b, e.Append(nil), err)
		if e.Len() > 1 {
			mid := e.Start + e.Len()/2
			left, right := e.Slice(e.Start, mid), e.Slice(mid, e.End)
			for _, x := range []Extent{left, right} {
				if _, err := DecodeExtent(x.End, x.Append(nil)); err != nil {
					t.Fatalf("a part of %+v is refused: %v", e, err)
				}
			}
		}
	})
}

func FuzzSuper(f *testing.F) {
	s := Super{ID: [16]byte{1, 2}, HashKey: [16]byte{3, 4}, Created: Time{Sec: 5, Nsec: 6}}
	f.Add(s.Append(nil))
	for _, bad := range faults(s.Append(nil), 0, 4, 5, superLen-4) {
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSuper(b)
		same(t, b, s.Append(nil), err)
	})
}

func FuzzNumbers(f *testing.F) {
	f.Add(Counters{Ino: 2, Blob: 1}.Append(nil))
	f.Add(AppendUint64(nil, 77))
	for _, c := range []Counters{{}, {Ino: 2}, {Ino: MaxOffset, Blob: 1}} {
		f.Add(c.Append(nil))
		for _, bad := range faults(c.Append(nil), 0) {
			f.Add(bad)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCounters(b)
		same(t, b, c.Append(nil), err)
		n, err := DecodeUint64(b)
		same(t, b, AppendUint64(nil, n), err)
	})
}

func FuzzBlobHeader(f *testing.F) {
	f.Add(append(BlobHeader{Ino: 2, Offset: 1 << 20}.Append(nil), "content"...))
	for _, bad := range faults(BlobHeader{Ino: 2}.Append(nil), 0, 4, 5, 6, 7, 16) {
		f.Add(bad)
	}
	f.Add(BlobHeader{}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeBlobHeader(b)
		if err == nil {
			same(t, b[:BlobHeaderLen], h.Append(nil), err)
		}
	})
}

func FuzzKey(f *testing.F) {
	for _, k := range [][]byte{
		SuperKey(), CountersKey(), FilesKey(), InodeKey(1), DirentKey(1, 2), ExtentKey(1, 2), LodgerKey(1, 2), ParentKey(1, 2, 3),
		XattrKey(1, "user.x"), OrphanKey(1), TruncateKey(1), SharedKey(1), GarbageKey(1), SessionKey(1),
	} {
		f.Add(k)
		for _, bad := range faults(k, 0) {
			f.Add(bad)
		}
	}
	f.Add(XattrKey(1, ""))
	f.Add(XattrKey(1, strings.Repeat("x", 256)))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b)
		if err != nil {
			return
		}
		var out []byte
		switch k.Kind {
		case KindSuper, KindCounters, KindFiles:
			out = []byte{k.Kind}
		case KindXattr:
			out = XattrKey(k.A, k.Name)
		case KindDirent, KindExtent, KindLodger:
			out = key2(k.Kind, k.A, k.B)
		case KindParent:
			out = ParentKey(k.A, k.B, k.C)
		default:
			out = key1(k.Kind, k.A)
		}
		same(t, b, out, nil)
	})
}
