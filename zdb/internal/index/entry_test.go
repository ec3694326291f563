package index

import (
	"bytes"
	"reflect"
	"testing"

	"qsfs/zdb/segfile"
)

var samples = []Entry{
	{Location: segfile.Location{Segment: 3, Offset: 1 << 40, Length: 77}, Seq: segfile.MakeSeq(2, 9), Time: 123},
	{Location: segfile.Location{Segment: 1, Offset: 256, Length: 5}, Seq: 1, Time: -1, Inline: true, Value: []byte("value")},
	{Inline: true, Value: []byte{}},
	{Location: segfile.Location{Segment: 9, Offset: 300, Length: 1}, Seq: 4, Time: 5, Moved: true, Given: true},
}

// TestEntry: what is written is read again, for its own key, and no flipped bit passes.
func TestEntry(t *testing.T) {
	key := []byte("key")
	for _, want := range samples {
		p := appendEntry(nil, key, want, false)
		got, err := parseEntry(key, p)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if _, err := parseEntry([]byte("kez"), p); err == nil {
			t.Error("a value passes for that of another key")
		}
		for bit := range len(p) * 8 {
			bad := bytes.Clone(p)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := parseEntry(key, bad); err == nil {
				t.Fatalf("bit %d flipped passes", bit)
			}
		}
		for n := range p {
			if _, err := parseEntry(key, p[:n]); err == nil {
				t.Fatalf("cut to %d bytes passes", n)
			}
		}
	}
}

func FuzzEntry(f *testing.F) {
	for _, e := range samples {
		p := appendEntry(nil, []byte("k"), e, false)
		f.Add([]byte("k"), p[:len(p)-4], true)
		f.Add([]byte("k"), p, false)
		f.Add([]byte("other"), p, false) // of another key
	}
	// Each kind that is refused though its checksum is right, and the empty inline value.
	fixed := make([]byte, entryFixed)
	f.Add([]byte("k"), fixed[:entryFixed-1], true)
	f.Add([]byte("k"), append(fixed, 'v'), true) // a value that is not inline
	f.Add([]byte("k"), append([]byte{flagInline}, fixed[1:]...), true)
	f.Add([]byte("k"), append([]byte{flagInline << 1}, fixed[1:]...), true)
	f.Fuzz(func(t *testing.T, key, p []byte, fix bool) {
		if fix {
			p = seal(key, bytes.Clone(p))
		}
		e, err := parseEntry(key, p)
		if err != nil {
			return
		}
		if again := appendEntry(nil, key, e, false); !bytes.Equal(again, p) {
			t.Fatalf("%x became %x", p, again)
		}
	})
}
