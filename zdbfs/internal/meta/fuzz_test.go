package meta

import (
	"bytes"
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

func FuzzInode(f *testing.F) {
	for _, i := range sampleInodes() {
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
	gap := Dirent{}
	f.Add(gap.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeDirent(b)
		same(t, b, d.Append(nil), err)
	})
}

func FuzzExtent(f *testing.F) {
	for _, e := range sampleExtents() {
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
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSuper(b)
		same(t, b, s.Append(nil), err)
	})
}

func FuzzNumbers(f *testing.F) {
	f.Add(Counters{Ino: 2, Blob: 1}.Append(nil))
	f.Add(AppendUint64(nil, 77))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCounters(b)
		same(t, b, c.Append(nil), err)
		n, err := DecodeUint64(b)
		same(t, b, AppendUint64(nil, n), err)
	})
}

func FuzzBlobHeader(f *testing.F) {
	f.Add(append(BlobHeader{Ino: 2, Offset: 1 << 20}.Append(nil), "content"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeBlobHeader(b)
		if err == nil {
			same(t, b[:BlobHeaderLen], h.Append(nil), err)
		}
	})
}

func FuzzKey(f *testing.F) {
	for _, k := range [][]byte{
		SuperKey(), CountersKey(), InodeKey(1), DirentKey(1, 2), ExtentKey(1, 2), LodgerKey(1, 2), ParentKey(1, 2, 3),
		XattrKey(1, "user.x"), OrphanKey(1), TruncateKey(1), SharedKey(1), GarbageKey(1), SessionKey(1),
	} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b)
		if err != nil {
			return
		}
		var out []byte
		switch k.Kind {
		case KindSuper, KindCounters:
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
