package codec

import (
	"bytes"
	"errors"
	"fmt"

	"qsfs/zstor/internal/keys"
)

// Package is one encoded stripe: n shards with their names. It stays in memory
// until each shard is acknowledged or given up; what was given up is rebuilt
// from k others, never encoded again.
type Package struct {
	Stripe uint32
	Length int // plaintext bytes
	Shards [][]byte
	Names  []Name
	MACs   []MAC

	mem *buffer
}

// Release gives the memory of the shards back. No slice of Shards may be used
// afterwards.
func (p *Package) Release() {
	if p.mem != nil {
		putBuffer(p.mem)
		p.mem, p.Shards = nil, nil
	}
}

// EncodeStripe makes the shards of a stripe. A stripe can be encoded once:
// ErrEncoded afterwards, even if the first time failed. The plaintext is not
// kept.
func (e *Encoder) EncodeStripe(stripe uint32, end End, plaintext []byte) (*Package, error) {
	if len(plaintext) > e.p.StripeSize {
		return nil, fmt.Errorf("%w: %d bytes of plaintext for stripes of %d", ErrParams, len(plaintext), e.p.StripeSize)
	}
	if end&^(EndOfData|EndOfObject) != 0 {
		return nil, fmt.Errorf("%w: unknown end mark %d", ErrParams, end)
	}
	if !e.claim(stripe) {
		return nil, ErrEncoded
	}
	hs := e.hashers()
	defer e.pool.Put(hs)

	work := getBuffer(packageSize(e.p.K, len(plaintext)))
	defer putBuffer(work)
	f := e.fresh()
	key := hs.stripeKey(e.p.Generation, stripe, &f)
	body := e.c.buildBody(work.b, e.p.K, e.p.Compression, plaintext)
	aead, nonce, ad := stripeCipher(&key, e.p.Object, e.p.Generation, stripe, e.p.K, e.p.N)
	sealed := aead.Seal(body[:0], nonce, body, ad)

	pkg := e.cut(stripe, sealed)
	pkg.Length = len(plaintext)
	payloads := pkg.payloads()
	if err := e.rs.Encode(payloads); err != nil {
		pkg.Release()
		return nil, fmt.Errorf("reed-solomon: %w", err)
	}
	digests := make([]keys.Secret, e.p.N)
	for i := range digests {
		digests[i] = hs.digest(&pkg.Names[i], payloads[i])
	}
	h := hs.dispersalHash(digests[:e.p.K])
	header := Header{
		Object: e.p.Object, Generation: e.p.Generation, K: e.p.K, N: e.p.N,
		Stripe: stripe, End: end, Length: len(plaintext), KeyEpoch: e.p.KeyEpoch, Writer: e.p.Writer,
		masked: hs.mask(&key, e.p.Object, e.p.Generation, stripe, &h),
	}
	for i, shard := range pkg.Shards {
		header.Index = i
		hb := header.marshal()
		pkg.MACs[i] = hs.frame(shard, &pkg.Names[i], &hb, &digests[i])
	}
	clear(key[:])
	clear(h[:])
	clear(digests)
	return pkg, nil
}

// cut lays out the memory of n shards and puts the slices of the sealed body
// into the first k.
func (d *Decoder) cut(stripe uint32, sealed []byte) *Package {
	slice := len(sealed) / d.p.K
	size := shardOverhead + slice
	mem := getBuffer(d.p.N * size)
	p := &Package{Stripe: stripe, mem: mem, Shards: make([][]byte, d.p.N), Names: make([]Name, d.p.N), MACs: make([]MAC, d.p.N)}
	for i := range p.Shards {
		p.Shards[i] = mem.b[i*size : (i+1)*size : (i+1)*size]
		p.Names[i] = d.Name(i, stripe)
		if i < d.p.K {
			copy(p.Shards[i][atPayload:], sealed[i*slice:(i+1)*slice])
		}
	}
	return p
}

func (p *Package) payloads() [][]byte {
	out := make([][]byte, len(p.Shards))
	for i, s := range p.Shards {
		out[i] = s[atPayload : len(s)-macSize]
	}
	return out
}

// Verify opens a package from its shards, as a reader would who lost the first
// ones, and compares with the plaintext: before a local copy may go, the bytes
// that left must have been seen to decode.
func (d *Decoder) Verify(p *Package, plaintext []byte) error {
	shards := make([]*Shard, len(p.Shards))
	for i, raw := range p.Shards {
		s, err := d.OpenShard(i, p.Stripe, raw)
		if err != nil {
			return errors.Join(ErrVerify, err)
		}
		shards[i] = s
	}
	got, err := d.DecodeStripe(p.Stripe, shards[d.p.N-d.p.K:])
	if err != nil {
		return errors.Join(ErrVerify, err)
	}
	if !bytes.Equal(got, plaintext) {
		return ErrVerify
	}
	return nil
}
