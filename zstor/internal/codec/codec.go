package codec

import (
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/reedsolomon"
	"github.com/zeebo/blake3"

	"qsfs/zstor/internal/keys"
)

// Codec holds what all generations share: the keys, the compressors and the
// code matrices. One per daemon; safe for concurrent use.
type Codec struct {
	ring *keys.Ring
	zenc *zstd.Encoder
	zdec *zstd.Decoder

	mu    sync.Mutex
	codes map[[2]int]reedsolomon.Encoder
}

// zstdWindow bounds the memory of compressor and decompressor. Stripes of the
// default size fit into it whole.
const zstdWindow = 1 << 20

// New makes a codec that uses the keys of a ring.
func New(ring *keys.Ring) (*Codec, error) {
	workers := runtime.GOMAXPROCS(0)
	zenc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(workers),
		zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(false)) // the seal checks more than a CRC could
	if err != nil {
		return nil, fmt.Errorf("zstd encoder: %w", err)
	}
	zdec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(workers), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("zstd decoder: %w", err)
	}
	return &Codec{ring: ring, zenc: zenc, zdec: zdec, codes: make(map[[2]int]reedsolomon.Encoder)}, nil
}

// code returns the Reed-Solomon code of k and n: the default matrix of the
// package, a systematic Vandermonde one. Vectors in testdata pin it.
func (c *Codec) code(k, n int) (reedsolomon.Encoder, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rs, ok := c.codes[[2]int{k, n}]; ok {
		return rs, nil
	}
	// Stripes are coded side by side, so a single one need not use more than
	// one thread. The inversion cache would grow with every pattern of losses.
	rs, err := reedsolomon.New(k, n-k, reedsolomon.WithMaxGoroutines(1), reedsolomon.WithInversionCache(false))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	c.codes[[2]int{k, n}] = rs
	return rs, nil
}

// Decoder opens, decodes and rebuilds the shards of one generation. It is safe
// for concurrent use.
type Decoder struct {
	c        *Codec
	p        Params
	rs       reedsolomon.Encoder
	prefixes []Prefix
	canRead  bool // the data key is there
	pool     sync.Pool
}

// Open makes a decoder for a generation that exists. The key epoch in p is the
// one of the manifest.
func (c *Codec) Open(p Params) (*Decoder, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	rs, err := c.code(p.K, p.N)
	if err != nil {
		return nil, err
	}
	nameKey, err := c.ring.Name(p.KeyEpoch)
	if err != nil {
		return nil, err
	}
	headerKey, err := c.ring.Header(p.KeyEpoch)
	if err != nil {
		return nil, err
	}
	macKey, err := c.ring.MAC(p.KeyEpoch)
	if err != nil {
		return nil, err
	}
	dataKey, err := c.ring.Data(p.KeyEpoch)
	if err != nil && !errors.Is(err, keys.ErrNoDataKey) {
		return nil, err
	}
	d := &Decoder{c: c, p: p, rs: rs, prefixes: make([]Prefix, p.N), canRead: err == nil}
	for i := range d.prefixes {
		d.prefixes[i] = shardPrefix(nameKey, p.Object, p.Generation, i)
	}
	d.pool.New = func() any {
		return &hashers{mac: macKey.Hash(), header: headerKey.Hash(), data: dataKey.Hash(), aont: blake3.NewDeriveKey(contextAONT)}
	}
	return d, nil
}

// Params are the facts of the generation.
func (d *Decoder) Params() Params { return d.p }

// Prefix is the common part of the names of the shards of one index.
func (d *Decoder) Prefix(index int) Prefix { return d.prefixes[index] }

// Name is the name of one shard.
func (d *Decoder) Name(index int, stripe uint32) Name { return d.prefixes[index].Shard(stripe) }

func (d *Decoder) hashers() *hashers { return d.pool.Get().(*hashers) }

// Encoder makes the shards of one new generation. It is safe for concurrent use.
type Encoder struct {
	Decoder
	fresh func() freshness

	mu   sync.Mutex
	done map[uint32]uint64 // bit sets of the stripes encoded, 64 to an entry
}

// Begin starts a new generation of an object. It draws the generation itself
// (Params().Generation): what was begun in an earlier life of the process cannot
// be gone on with, only read.
func (c *Codec) Begin(p Params) (*Encoder, error) {
	if p.Generation != (Generation{}) {
		return nil, fmt.Errorf("%w: a new generation is drawn, not given", ErrParams)
	}
	_, _ = rand.Read(p.Generation[:])
	return c.begin(p, newFreshness)
}

func (c *Codec) begin(p Params, fresh func() freshness) (*Encoder, error) {
	d, err := c.Open(p)
	if err != nil {
		return nil, err
	}
	if !d.canRead {
		return nil, keys.ErrNoDataKey
	}
	e := &Encoder{fresh: fresh, done: make(map[uint32]uint64)}
	e.Decoder.c, e.Decoder.p, e.Decoder.rs = d.c, d.p, d.rs
	e.Decoder.prefixes, e.Decoder.canRead, e.Decoder.pool.New = d.prefixes, true, d.pool.New
	return e, nil
}

// claim marks a stripe as encoded; false when it was already.
func (e *Encoder) claim(stripe uint32) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	bit := uint64(1) << (stripe % 64)
	if e.done[stripe/64]&bit != 0 {
		return false
	}
	e.done[stripe/64] |= bit
	return true
}
