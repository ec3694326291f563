package wal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"qsfs/zdb/segfile"
)

func TestMergeSessions(t *testing.T) {
	at := func(list ...uint64) (out []segfile.SessionStart) {
		for i := 0; i < len(list); i += 2 {
			out = append(out, segfile.SessionStart{First: segfile.Seq(list[i]), Session: list[i+1]})
		}
		return out
	}
	for _, c := range []struct{ recorded, log, want []segfile.SessionStart }{
		{at(), at(1, 7), at(1, 7)},
		{at(1, 7, 50, 8), at(60, 8, 90, 9), at(1, 7, 50, 8, 90, 9)},
		{at(1, 7, 50, 8), at(50, 9), at(1, 7, 50, 8, 50, 9)}, // unconfirmed, and written again by 9
		{at(1, 7, 50, 8), at(20, 7, 90, 9), at(1, 7, 50, 8, 90, 9)},
		{at(1, 7, 50, 8, 50, 9), at(50, 8, 80, 9), at(1, 7, 50, 8, 50, 9)}, // 8 moved only, and what 9 wrote first is moved
	} {
		if got := mergeSessions(c.recorded, c.log); !slices.Equal(got, c.want) {
			t.Errorf("%v and %v: %v, want %v", c.recorded, c.log, got, c.want)
		}
	}
}

func FuzzSessions(f *testing.F) {
	p := appendSessions(nil, []segfile.SessionStart{{First: 1, Session: 7}, {First: 50, Session: 8}})
	f.Add(appendSessions(nil, nil))
	f.Add(p)
	f.Add(p[:len(p)-4])
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, q := range [][]byte{p, binary.LittleEndian.AppendUint32(bytes.Clone(p), crc32.Checksum(p, segfile.Castagnoli))} {
			list, err := parseSessions(q)
			if err != nil {
				continue
			}
			if again, err := parseSessions(appendSessions(nil, list)); err != nil || !slices.Equal(again, list) {
				t.Fatalf("%+v became %+v, %v", list, again, err)
			}
		}
	})
}

// TestWriterOf: of each sequence, who wrote it, as far as that is known.
func TestWriterOf(t *testing.T) {
	l := &Log{sessions: []segfile.SessionStart{{First: 5, Session: 7}, {First: 50, Session: 8}}}
	for seq, want := range map[segfile.Seq]uint64{0: 0, 4: 0, 5: 7, 49: 7, 50: 8, segfile.MakeSeq(2, 1): 8} {
		if got := l.WriterOf(seq); got != want {
			t.Errorf("%v was written by %d, want %d", seq, got, want)
		}
	}
}
