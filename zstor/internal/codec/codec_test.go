package codec

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"qsfs/zstor/internal/keys"
)

func testRing(t testing.TB) *keys.Ring {
	t.Helper()
	r, err := keys.New(map[keys.Epoch]keys.Secret{1: {1, 2, 3}, 2: {4, 5, 6}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func testCodec(t testing.TB) *Codec {
	t.Helper()
	c, err := New(testRing(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testParams(k, n int) Params {
	return Params{Object: "zdbfs-data/17", K: k, N: n, KeyEpoch: 2, Writer: Writer{3, 99}, StripeSize: StripeSize(k, 0), Compression: CompressZstd}
}

func begin(t testing.TB, c *Codec, p Params) *Encoder {
	t.Helper()
	e, err := c.Begin(p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// noise does not compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

// prose compresses well.
func prose(n int) []byte {
	return []byte(strings.Repeat("what is written twice is written once. ", n/39+1))[:n]
}

func openAll(t testing.TB, d *Decoder, p *Package) []*Shard {
	t.Helper()
	out := make([]*Shard, len(p.Shards))
	for i, raw := range p.Shards {
		s, err := d.OpenShard(i, p.Stripe, bytes.Clone(raw))
		if err != nil {
			t.Fatal(err)
		}
		out[i] = s
	}
	return out
}

// pick takes some shards at random.
func pick(rng *rand.Rand, shards []*Shard, n int) []*Shard {
	out := make([]*Shard, 0, n)
	for _, i := range rng.Perm(len(shards))[:n] {
		out = append(out, shards[i])
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	c := testCodec(t)
	rng := rand.New(rand.NewPCG(1, 2))
	codes := [][2]int{{2, 3}, {2, 4}, {3, 4}, {4, 6}, {5, 9}, {8, 12}, {9, 14}, {16, 20}, {29, 40}, {100, 150}, {200, 256}}
	for _, kn := range codes {
		k, n := kn[0], kn[1]
		stripeSize := StripeSize(k, 0)
		sizes := []int{0, 1, 43, k*64 - 21, k*64 - 20, 4096, 65515, 65516, stripeSize - 1, stripeSize}
		e := begin(t, c, testParams(k, n))
		d, err := c.Open(e.Params())
		if err != nil {
			t.Fatal(err)
		}
		for s, size := range sizes {
			for v, plain := range [][]byte{noise(uint64(s), size), prose(size)} {
				stripe := uint32(2*s + v)
				p, err := e.EncodeStripe(stripe, EndOfObject, plain)
				if err != nil {
					t.Fatal(err)
				}
				if max := ShardSize(k, size); len(p.Shards[0]) > max || v == 0 && len(p.Shards[0]) != max {
					t.Errorf("k %d size %d: shard of %d bytes, want %d", k, size, len(p.Shards[0]), max)
				}
				shards := openAll(t, d, p)
				for range 3 {
					got, err := d.DecodeStripe(stripe, pick(rng, shards, k))
					if err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("%d-of-%d, %d bytes: %v", k, n, size, err)
					}
				}
				var short *NotEnoughError
				if _, err := d.DecodeStripe(stripe, pick(rng, shards, k-1)); !errors.As(err, &short) || short.Have != k-1 || short.Need != k {
					t.Fatalf("%d-of-%d with k-1 shards: %v", k, n, err)
				}
				if err := d.Verify(p, plain); err != nil {
					t.Fatal(err)
				}
				p.Release()
			}
		}
	}
}

func TestCompressionPays(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(4, 6))
	p, err := e.EncodeStripe(0, 0, prose(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(p.Shards[0]); n > 64<<10 {
		t.Errorf("1 MiB of prose gives shards of %d bytes", n)
	}
	raw := testParams(4, 6)
	raw.Compression = CompressNone
	e = begin(t, c, raw)
	if p, err = e.EncodeStripe(0, 0, prose(1<<20)); err != nil {
		t.Fatal(err)
	}
	if n := len(p.Shards[0]); n != ShardSize(4, 1<<20) {
		t.Errorf("uncompressed shards have %d bytes", n)
	}
}

func TestRebuildIsByteIdenticalWithoutDataKey(t *testing.T) {
	ring := testRing(t)
	c, err := New(ring)
	if err != nil {
		t.Fatal(err)
	}
	repair, err := New(ring.WithoutData())
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, kn := range [][2]int{{2, 3}, {4, 6}, {7, 15}, {29, 40}} {
		k, n := kn[0], kn[1]
		e := begin(t, c, testParams(k, n))
		p, err := e.EncodeStripe(5, EndOfData, noise(9, 10000))
		if err != nil {
			t.Fatal(err)
		}
		d, err := repair.Open(e.Params())
		if err != nil {
			t.Fatal(err)
		}
		shards := openAll(t, d, p)
		if _, err := d.DecodeStripe(5, shards); !errors.Is(err, keys.ErrNoDataKey) {
			t.Errorf("a repair bundle reads: %v", err)
		}
		for range 5 {
			want := rng.Perm(n)[:rng.IntN(n)+1]
			got, err := d.RebuildShards(5, pick(rng, shards, k), want)
			if err != nil {
				t.Fatal(err)
			}
			for j, i := range want {
				if !bytes.Equal(got[j], p.Shards[i]) {
					t.Fatalf("%d-of-%d: shard %d differs", k, n, i)
				}
				if ShardMAC(got[j]) != p.MACs[i] {
					t.Fatalf("MAC of shard %d differs", i)
				}
			}
		}
	}
}

func TestEncodeOnce(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(2, 3))
	for _, s := range []uint32{0, 63, 64, 1 << 31} {
		if _, err := e.EncodeStripe(s, 0, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := e.EncodeStripe(s, 0, []byte("x")); !errors.Is(err, ErrEncoded) {
			t.Errorf("second time: %v", err)
		}
	}
	if _, err := c.Begin(e.Params()); !errors.Is(err, ErrParams) {
		t.Errorf("an old generation was begun again: %v", err)
	}
}

func TestParamsRefused(t *testing.T) {
	c := testCodec(t)
	for _, change := range []func(*Params){
		func(p *Params) { p.K = 1 },
		func(p *Params) { p.N = p.K },
		func(p *Params) { p.N = 257 },
		func(p *Params) { p.Object = "" },
		func(p *Params) { p.Object = strings.Repeat("x", MaxObjectName+1) },
		func(p *Params) { p.StripeSize = 0 },
		func(p *Params) { p.StripeSize = p.K * MaxShard },
		func(p *Params) { p.Compression = 2 },
		func(p *Params) { p.KeyEpoch = 0 },
	} {
		p := testParams(4, 6)
		change(&p)
		if _, err := c.Open(p); !errors.Is(err, ErrParams) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	p := testParams(4, 6)
	p.KeyEpoch = 9
	if _, err := c.Open(p); !errors.Is(err, keys.ErrNoEpoch) {
		t.Errorf("unknown key epoch: %v", err)
	}
	e := begin(t, c, testParams(4, 6))
	if _, err := e.EncodeStripe(0, 0, make([]byte, 1<<20+1)); !errors.Is(err, ErrParams) {
		t.Errorf("too much plaintext: %v", err)
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, tc := range []struct {
		name  string
		plain []byte
		mode  Compression
	}{
		{"raw", noise(1, 1<<20), CompressNone},
		{"probed", noise(1, 1<<20), CompressZstd},
		{"zstd", prose(1 << 20), CompressZstd},
	} {
		b.Run(tc.name, func(b *testing.B) {
			c := testCodec(b)
			p := testParams(4, 6)
			p.Compression = tc.mode
			e := begin(b, c, p)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for i := range b.N {
				pkg, err := e.EncodeStripe(uint32(i), 0, tc.plain)
				if err != nil {
					b.Fatal(err)
				}
				pkg.Release()
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	c := testCodec(b)
	e := begin(b, c, testParams(4, 6))
	pkg, err := e.EncodeStripe(0, 0, noise(1, 1<<20))
	if err != nil {
		b.Fatal(err)
	}
	for _, from := range []int{0, 2} {
		b.Run(fmt.Sprintf("missing%d", from), func(b *testing.B) {
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for range b.N {
				var shards []*Shard
				for i := from; i < from+4; i++ {
					s, err := e.OpenShard(i, 0, pkg.Shards[i])
					if err != nil {
						b.Fatal(err)
					}
					shards = append(shards, s)
				}
				if _, err := e.DecodeStripe(0, shards); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
