package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/zeebo/blake3"

	"qsfs/zstor/internal/keys"
)

// Vectors are a promise: what any released version wrote is read for ever. Each
// format version has its file; none is ever changed.
type vectorFile struct {
	Masters map[keys.Epoch]string
	Codes   []vectorCode
	Stripes []vectorStripe
}

// vectorCode pins the matrix of a code: parity of the data slices 0 1 2 …, with
// byte b of slice j being 31j + b.
type vectorCode struct {
	K, N   int
	Parity string // BLAKE3 over all parity slices
}

type vectorStripe struct {
	Note                 string
	Object               string
	Generation           string
	K, N                 int
	KeyEpoch             keys.Epoch
	WriterEpoch, Counter uint64
	StripeSize           int
	Compression          Compression
	Stripe               uint32
	End                  End
	Random               string // with Clock the freshness of K
	Clock                uint64
	Plaintext            string `json:",omitempty"` // hex
	Counting             int    `json:",omitempty"` // or so many bytes 0 1 2 …
	Repeat               int    // plaintext so many times
	DecodeOnly           bool   // another compressor may give other bytes
	Names                []string
	Shards               []string `json:",omitempty"` // hex
	ShardSums            []string `json:",omitempty"` // or their BLAKE3
}

func (v *vectorStripe) plaintext(t *testing.T) []byte {
	b := unhex(t, v.Plaintext)
	for i := range v.Counting {
		b = append(b, byte(i))
	}
	return bytes.Repeat(b, max(v.Repeat, 1))
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (v *vectorStripe) params(t *testing.T) Params {
	return Params{Object: v.Object, Generation: Generation(unhex(t, v.Generation)), K: v.K, N: v.N, KeyEpoch: v.KeyEpoch,
		Writer: Writer{v.WriterEpoch, v.Counter}, StripeSize: v.StripeSize, Compression: v.Compression}
}

func (v *vectorStripe) encode(t *testing.T, c *Codec) *Package {
	t.Helper()
	f := freshness{clock: v.Clock}
	copy(f.random[:], unhex(t, v.Random))
	e, err := c.begin(v.params(t), func() freshness { return f })
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.EncodeStripe(v.Stripe, v.End, v.plaintext(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func codeParity(t *testing.T, c *Codec, k, n int) string {
	rs, err := c.code(k, n)
	if err != nil {
		t.Fatal(err)
	}
	shards := make([][]byte, n)
	for j := range shards {
		shards[j] = make([]byte, 64)
		for b := range shards[j] {
			if j < k {
				shards[j][b] = byte(31*j + b)
			}
		}
	}
	if err := rs.Encode(shards); err != nil {
		t.Fatal(err)
	}
	sum := blake3.Sum256(bytes.Join(shards[k:], nil))
	return hex.EncodeToString(sum[:])
}

func shardSum(raw []byte) string {
	s := blake3.Sum256(raw)
	return hex.EncodeToString(s[:])
}

func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/v*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			doc, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var f vectorFile
			if err := json.Unmarshal(doc, &f); err != nil {
				t.Fatal(err)
			}
			c := vectorCodec(t, &f)
			for _, code := range f.Codes {
				if got := codeParity(t, c, code.K, code.N); got != code.Parity {
					t.Errorf("the matrix of %d-of-%d changed", code.K, code.N)
				}
			}
			for _, v := range f.Stripes {
				checkVector(t, c, &v)
			}
			if len(f.Stripes) < 5 || len(f.Codes) < 5 {
				t.Errorf("%d stripes and %d codes: the file is not whole", len(f.Stripes), len(f.Codes))
			}
		})
	}
}

func vectorCodec(t *testing.T, f *vectorFile) *Codec {
	t.Helper()
	masters := map[keys.Epoch]keys.Secret{}
	for e, m := range f.Masters {
		masters[e] = keys.Secret(unhex(t, m))
	}
	ring, err := keys.New(masters)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(ring)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func checkVector(t *testing.T, c *Codec, v *vectorStripe) {
	t.Helper()
	if !v.DecodeOnly {
		p := v.encode(t, c)
		for i, raw := range p.Shards {
			if p.Names[i].String() != v.Names[i] {
				t.Errorf("%s: name %d changed", v.Note, i)
			}
			if v.Shards != nil && hex.EncodeToString(raw) != v.Shards[i] || v.ShardSums != nil && shardSum(raw) != v.ShardSums[i] {
				t.Errorf("%s: shard %d changed", v.Note, i)
			}
		}
	}
	if v.Shards == nil {
		return
	}
	d, err := c.Open(v.params(t))
	if err != nil {
		t.Fatal(err)
	}
	var shards []*Shard
	for i := range v.Shards {
		s, err := d.OpenShard(i, v.Stripe, unhex(t, v.Shards[i]))
		if err != nil {
			t.Fatalf("%s: %v", v.Note, err)
		}
		shards = append(shards, s)
	}
	got, err := d.DecodeStripe(v.Stripe, shards[v.N-v.K:])
	if err != nil || !bytes.Equal(got, v.plaintext(t)) {
		t.Errorf("%s does not decode: %v", v.Note, err)
	}
	if s := shards[0]; s.End != v.End || s.Writer != (Writer{v.WriterEpoch, v.Counter}) {
		t.Errorf("%s: header %+v", v.Note, s.Header)
	}
}

// TestWriteVectors makes the file of a format version that has none yet. It is
// run by hand, once for a version: QSFS_WRITE_VECTORS=testdata/v1.json.
func TestWriteVectors(t *testing.T) {
	file := os.Getenv("QSFS_WRITE_VECTORS")
	if file == "" {
		return
	}
	if _, err := os.Stat(file); err == nil {
		t.Fatalf("%s is there: vectors of a version are never changed", file)
	}
	counting := func(n int, first byte) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = first + byte(i)
		}
		return hex.EncodeToString(b)
	}
	base := vectorStripe{Object: "zdbfs-data/17", Generation: counting(16, 0xa0), K: 2, N: 3, KeyEpoch: 1, WriterEpoch: 1, Counter: 42,
		StripeSize: 512 << 10, Random: counting(32, 0x40), Clock: 1790000000000000000}
	with := func(change func(*vectorStripe)) vectorStripe {
		v := base
		change(&v)
		return v
	}
	f := vectorFile{
		Masters: map[keys.Epoch]string{1: counting(32, 0), 2: counting(32, 0x80)},
		Stripes: []vectorStripe{
			with(func(v *vectorStripe) {
				v.Note, v.Plaintext, v.End = "the worked example", hex.EncodeToString([]byte("Hello, nodes.")), EndOfData
			}),
			with(func(v *vectorStripe) { v.Note, v.Stripe, v.End = "empty", 3, EndOfData|EndOfObject }),
			with(func(v *vectorStripe) {
				v.Note, v.K, v.N, v.KeyEpoch, v.StripeSize, v.Counting = "4-of-6, second key epoch", 4, 6, 2, 1<<20, 700
			}),
			with(func(v *vectorStripe) {
				v.Note, v.K, v.N, v.Stripe, v.Counting = "29-of-32", 29, 32, 1<<32-1, 5000
			}),
			with(func(v *vectorStripe) {
				v.Note, v.Plaintext, v.Repeat, v.Compression, v.DecodeOnly = "zstd", hex.EncodeToString([]byte("again and ")), 2000, CompressZstd, true
			}),
			with(func(v *vectorStripe) {
				v.Note, v.K, v.N, v.StripeSize, v.Counting = "a full stripe", 4, 6, 1<<20, 1<<20
			}),
		},
	}
	c := vectorCodec(t, &f)
	for _, kn := range [][2]int{{2, 3}, {3, 4}, {4, 6}, {8, 12}, {16, 20}, {29, 40}, {128, 160}, {200, 256}, {255, 256}} {
		f.Codes = append(f.Codes, vectorCode{kn[0], kn[1], codeParity(t, c, kn[0], kn[1])})
	}
	for i := range f.Stripes {
		v := &f.Stripes[i]
		p := v.encode(t, c)
		for j, raw := range p.Shards {
			v.Names = append(v.Names, p.Names[j].String())
			if len(raw) < 4096 {
				v.Shards = append(v.Shards, hex.EncodeToString(raw))
			} else {
				v.ShardSums = append(v.ShardSums, shardSum(raw))
			}
		}
	}
	doc, err := json.MarshalIndent(&f, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(doc, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
