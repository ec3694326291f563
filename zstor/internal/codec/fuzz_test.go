package codec

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// FuzzShard gives the decoder bytes as a node could. Half of the time they are
// given a right MAC and encrypted header first, or the fuzzer would never get
// behind the check.
func FuzzShard(f *testing.F) {
	c := testCodec(f)
	p := testParams(2, 3)
	p.Generation = Generation{1}
	e, err := c.begin(p, newFreshness)
	if err != nil {
		f.Fatal(err)
	}
	var genuine []*Shard
	for stripe, plain := range [][]byte{nil, []byte("text"), noise(1, 300), prose(3000)} {
		pkg, err := e.EncodeStripe(uint32(stripe), EndOfData, plain)
		if err != nil {
			f.Fatal(err)
		}
		for i, raw := range pkg.Shards {
			f.Add(false, uint8(i), uint32(stripe), raw)
			s, err := e.OpenShard(i, uint32(stripe), raw)
			if err != nil {
				f.Fatal(err)
			}
			genuine = append(genuine, s)
			h := s.Header.marshal()
			f.Add(true, uint8(i), uint32(stripe), append(h[:], s.payload...))
			for _, off := range []int{offSuite, offEnd, offIndex, offN, offK, offLength, offKeyEpoch, offObjectLen, headerSize - 1} {
				bad := append(h[:], s.payload...)
				bad[off] ^= 0x80
				f.Add(true, uint8(i), uint32(stripe), bad)
			}
			f.Add(true, uint8(i), uint32(stripe), h[:])
			tampered := append(h[:], s.payload...) // who holds the MAC key may forge a shard, and not the content
			tampered[headerSize] ^= 1
			f.Add(true, uint8(i), uint32(stripe), tampered)
		}
	}
	f.Add(false, uint8(0), uint32(0), []byte{format1})
	f.Fuzz(func(t *testing.T, framed bool, index uint8, stripe uint32, data []byte) {
		i := int(index) % p.N
		raw := data
		name := e.Name(i, stripe)
		if framed {
			var header [headerSize]byte
			n := copy(header[:], data)
			raw = make([]byte, shardOverhead+len(data)-n)
			copy(raw[atPayload:], data[n:])
			hs := e.hashers()
			d := hs.digest(&name, data[n:])
			hs.frame(raw, &name, &header, &d)
			e.pool.Put(hs)
		}
		s, err := e.OpenShard(i, stripe, raw)
		if _, rerr := c.ReadHeader(p.KeyEpoch, name, raw); err == nil && rerr != nil {
			t.Fatalf("OpenShard takes it, ReadHeader says %v", rerr)
		}
		if err != nil {
			if !errors.Is(err, ErrShard) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if s.Index != i || s.Stripe != stripe {
			t.Fatalf("opened as %+v", s.Header)
		}
		h := s.Header.marshal()
		if again, err := parseHeader(h[:]); err != nil || again != s.Header {
			t.Fatalf("header does not survive: %v", err)
		}
		// Whatever opened can be handed on without harm.
		if _, err := e.DecodeStripe(stripe, []*Shard{s}); err == nil {
			t.Fatal("one shard of two decoded")
		}
		all := append([]*Shard{s}, genuine...)
		_, _ = e.DecodeStripe(stripe, all)
		_, _ = e.RebuildShards(stripe, all, []int{0, 1, 2})
		_, _ = e.RebuildShards(stripe, all, []int{p.N})
		// As the last one it takes the place of the genuine shard of its index; without index 0 the code has to work.
		last := append(slices.Clone(genuine), s)
		_, _ = e.DecodeStripe(stripe, last)
		last = slices.DeleteFunc(last, func(s *Shard) bool { return s.Index == 0 })
		_, _ = e.DecodeStripe(stripe, last)
		_, _ = e.RebuildShards(stripe, last, []int{0})
	})
}

// FuzzBody reads bodies as if a stripe had been sealed by somebody else.
func FuzzBody(f *testing.F) {
	c := testCodec(f)
	for _, plain := range [][]byte{nil, []byte("text"), prose(3000), noise(2, 100)} {
		for _, mode := range []Compression{CompressNone, CompressZstd} {
			body := c.buildBody(make([]byte, packageSize(2, len(plain))), 2, mode, plain)
			f.Add(body, len(plain))
			bad := bytes.Clone(body)
			bad[len(bad)-1] ^= 1
			f.Add(bad, len(plain))
			f.Add(body, len(plain)+1)
		}
	}
	f.Add([]byte{codecZstd, 0, 0, 0, 3, 1, 2, 3, 0}, 10)
	f.Add([]byte{9, 0, 0, 0, 0}, 0)
	f.Add([]byte{0, 255, 255, 255, 255, 0}, 0)
	f.Add([]byte{0}, 0)
	f.Fuzz(func(t *testing.T, body []byte, length int) {
		if length < 0 || length > 1<<20 {
			return
		}
		plain, err := c.parseBody(body, length)
		if err != nil {
			if !errors.Is(err, ErrSealed) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if len(plain) != length {
			t.Fatalf("%d bytes, want %d", len(plain), length)
		}
	})
}
