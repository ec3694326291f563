package wal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"qsfs/zdb/segfile"
)

// TestGaps compares the set with a plain one.
func TestGaps(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var g gaps
		want := make(map[segfile.ID]bool)
		for range 30 {
			first := segfile.ID(rng.IntN(60))
			end := first + 1 + segfile.ID(rng.IntN(4))
			g = g.with(first, end)
			for id := first; id < end; id++ {
				want[id] = true
			}
			again, err := parseGaps(g.append(nil))
			if err != nil {
				t.Fatalf("%+v: %v", g, err)
			}
			for id := range segfile.ID(70) {
				if again.has(id) != want[id] {
					t.Fatalf("%+v: has(%d) = %v", g, id, again.has(id))
				}
			}
		}
	}
}

func FuzzGaps(f *testing.F) {
	var g gaps
	f.Add(g.append(nil))
	g = g.with(3, 7)
	g = g.with(9, 10)
	p := g.append(nil)
	f.Add(p)
	f.Add(p[:len(p)-4])
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, q := range [][]byte{p, binary.LittleEndian.AppendUint32(bytes.Clone(p), crc32.Checksum(p, segfile.Castagnoli))} {
			g, err := parseGaps(q)
			if err != nil {
				continue
			}
			if again, err := parseGaps(g.append(nil)); err != nil || len(again.ranges) != len(g.ranges) {
				t.Fatalf("%+v became %+v, %v", g, again, err)
			}
		}
	})
}
