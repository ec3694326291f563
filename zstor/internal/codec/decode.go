package codec

import (
	"fmt"

	"qsfs/zstor/internal/keys"
)

// OpenShard authenticates the bytes that a node gave for one shard of this
// generation. Anything else than exactly that shard is ErrShard. The shard keeps
// raw.
func (d *Decoder) OpenShard(index int, stripe uint32, raw []byte) (*Shard, error) {
	if index < 0 || index >= d.p.N {
		return nil, fmt.Errorf("%w: index %d of %d", ErrParams, index, d.p.N)
	}
	hs := d.hashers()
	defer d.pool.Put(hs)
	name := d.Name(index, stripe)
	s, err := hs.open(&name, raw)
	if err != nil {
		return nil, fmt.Errorf("shard %d of stripe %d: %w", index, stripe, err)
	}
	// The name already binds these; who has an old master could make a shard
	// whose header says otherwise.
	if s.Index != index || s.Stripe != stripe || s.Object != d.p.Object || s.Generation != d.p.Generation ||
		s.K != d.p.K || s.N != d.p.N || s.KeyEpoch != d.p.KeyEpoch || s.Length > d.p.StripeSize {
		return nil, fmt.Errorf("shard %d of stripe %d: %w: header of another", index, stripe, ErrShard)
	}
	return s, nil
}

// ReadHeader authenticates a shard of which only the name is known, and tells
// what it belongs to: enough shards give back a lost manifest. The caller says
// which key epoch it trusts.
func (c *Codec) ReadHeader(epoch keys.Epoch, name Name, raw []byte) (Header, error) {
	headerKey, err := c.ring.Header(epoch)
	if err != nil {
		return Header{}, err
	}
	macKey, err := c.ring.MAC(epoch)
	if err != nil {
		return Header{}, err
	}
	hs := &hashers{mac: macKey.Hash(), header: headerKey.Hash()}
	s, err := hs.open(&name, raw)
	if err != nil {
		return Header{}, err
	}
	prefix, err := ShardPrefix(c.ring, epoch, s.Object, s.Generation, s.Index)
	if err != nil {
		return Header{}, err
	}
	if s.KeyEpoch != epoch || prefix.Shard(s.Stripe) != name {
		return Header{}, fmt.Errorf("%w: name and header disagree", ErrShard)
	}
	s.masked = keys.Secret{}
	return s.Header, nil
}

// attempt picks the shards of the one attempt that is complete.
func (d *Decoder) attempt(stripe uint32, shards []*Shard) ([]*Shard, error) {
	var groups [][]*Shard
next:
	for _, s := range shards {
		if s == nil || s.Stripe != stripe || s.Generation != d.p.Generation || s.Object != d.p.Object || s.N != d.p.N || s.K != d.p.K {
			continue // not of this stripe; OpenShard would not have given it for it
		}
		for g := range groups {
			if first := groups[g][0]; first.sameAttempt(&s.Header) && len(first.payload) == len(s.payload) {
				groups[g] = append(groups[g], s)
				continue next
			}
		}
		groups = append(groups, []*Shard{s})
	}
	most := 0
	var complete []*Shard
	for _, g := range groups {
		distinct := make(map[int]bool, len(g))
		for _, s := range g {
			distinct[s.Index] = true
		}
		most = max(most, len(distinct))
		if len(distinct) < d.p.K {
			continue
		}
		if complete != nil {
			return nil, fmt.Errorf("stripe %d: %w", stripe, ErrMixed)
		}
		complete = g
	}
	if complete == nil {
		return nil, &NotEnoughError{Stripe: stripe, Have: most, Need: d.p.K, Attempts: len(groups)}
	}
	return complete, nil
}

// DecodeStripe gives back the plaintext of a stripe from k or more of its
// shards. Shards are grouped by attempt first; two never mix.
func (d *Decoder) DecodeStripe(stripe uint32, shards []*Shard) ([]byte, error) {
	if !d.canRead {
		return nil, keys.ErrNoDataKey
	}
	from, err := d.attempt(stripe, shards)
	if err != nil {
		return nil, err
	}
	hs := d.hashers()
	defer d.pool.Put(hs)

	k, size := d.p.K, len(from[0].payload)
	work := getBuffer(k * size)
	defer putBuffer(work)
	digests := make([]keys.Secret, k)
	defer clear(digests)
	payloads := make([][]byte, d.p.N)
	required := make([]bool, k)
	for _, s := range from {
		payloads[s.Index] = s.payload
		if s.Index < k {
			digests[s.Index] = s.digest
		}
	}
	missing := false
	for i := range k {
		slice := work.b[i*size : (i+1)*size : (i+1)*size]
		if payloads[i] != nil {
			copy(slice, payloads[i])
		} else {
			payloads[i], required[i], missing = slice[:0], true, true
		}
	}
	if missing {
		if err := d.rs.ReconstructSome(payloads, required); err != nil {
			return nil, fmt.Errorf("stripe %d: reed-solomon: %w", stripe, err)
		}
		for i := range k {
			if required[i] {
				copy(work.b[i*size:], payloads[i]) // onto itself, unless the code took other memory
				name := d.Name(i, stripe)
				digests[i] = hs.digest(&name, payloads[i])
			}
		}
	}
	h := hs.dispersalHash(digests)
	key := hs.mask(&from[0].masked, d.p.Object, d.p.Generation, stripe, &h)
	aead, nonce, ad := stripeCipher(&key, d.p.Object, d.p.Generation, stripe, d.p.K, d.p.N)
	body, err := aead.Open(work.b[:0], nonce, work.b, ad)
	clear(key[:])
	clear(h[:])
	if err != nil {
		return nil, fmt.Errorf("stripe %d: %w", stripe, ErrSealed)
	}
	plain, err := d.c.parseBody(body, from[0].Length)
	clear(body) // the buffer goes back to a pool
	if err != nil {
		return nil, fmt.Errorf("stripe %d: %w", stripe, err)
	}
	return plain, nil
}

// RebuildShards makes shards again that were lost, byte for byte, from k or more
// others. It needs no data key and learns nothing of the content.
func (d *Decoder) RebuildShards(stripe uint32, shards []*Shard, want []int) ([][]byte, error) {
	from, err := d.attempt(stripe, shards)
	if err != nil {
		return nil, err
	}
	hs := d.hashers()
	defer d.pool.Put(hs)

	size := len(from[0].payload)
	payloads := make([][]byte, d.p.N)
	for _, s := range from {
		payloads[s.Index] = s.payload
	}
	out := make([][]byte, len(want))
	required := make([]bool, d.p.N)
	for j, i := range want {
		if i < 0 || i >= d.p.N {
			return nil, fmt.Errorf("%w: index %d of %d", ErrParams, i, d.p.N)
		}
		out[j] = make([]byte, shardOverhead+size)
		if len(payloads[i]) == 0 {
			payloads[i], required[i] = out[j][atPayload:atPayload:atPayload+size], true
		}
	}
	if err := d.rs.ReconstructSome(payloads, required); err != nil {
		return nil, fmt.Errorf("stripe %d: reed-solomon: %w", stripe, err)
	}
	header := from[0].Header
	for j, i := range want {
		copy(out[j][atPayload:], payloads[i])
		name := d.Name(i, stripe)
		digest := hs.digest(&name, payloads[i])
		header.Index = i
		hb := header.marshal()
		hs.frame(out[j], &name, &hb, &digest)
	}
	return out, nil
}
