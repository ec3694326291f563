package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"qsfs/zstor/internal/keys"
)

// recipe is a way to make a package. The empty one is the codec's; each field
// breaks one of its rules, to show that the attack would notice.
type recipe struct {
	hStored        bool // h in the spare bytes of the header
	digestInRecord bool // a d_i in the manifest
	zerosOutside   bool // padding behind the sealed body instead of in it
	keyRepeated    bool // K a function of what does not change
}

// made is one package and what belongs to it.
type made struct {
	p       Params
	stripe  uint32
	shards  [][]byte
	records []byte
	sealed  []byte
	key     keys.Secret
}

// make follows EncodeStripe with the recipe's changes. TestRecipeIsTheCodec
// holds the empty recipe to the codec's bytes.
func (r recipe) make(e *Encoder, stripe uint32, plaintext []byte) made {
	hs := e.hashers()
	defer e.pool.Put(hs)
	p := e.p
	f := e.fresh()
	key := hs.stripeKey(p.Generation, stripe, &f)
	if r.keyRepeated {
		key = sum(hs.data, []byte("always the same"))
	}
	buf := make([]byte, packageSize(p.K, len(plaintext)))
	body := e.c.buildBody(buf, p.K, p.Compression, plaintext)
	aead, nonce, ad := stripeCipher(&key, p.Object, p.Generation, stripe, p.K, p.N)
	var sealed []byte
	if r.zerosOutside {
		full := len(body) + tagSize
		n := bodyHead + int(binary.BigEndian.Uint32(body[1:]))
		sealed = aead.Seal(nil, nonce, body[:n], ad)
		sealed = append(sealed, make([]byte, full-len(sealed))...)
	} else {
		sealed = aead.Seal(nil, nonce, body, ad)
	}
	pkg := e.cut(stripe, sealed)
	payloads := pkg.payloads()
	if err := e.rs.Encode(payloads); err != nil {
		panic(err)
	}
	digests := make([]keys.Secret, p.N)
	for i := range digests {
		digests[i] = hs.digest(&pkg.Names[i], payloads[i])
	}
	h := hs.dispersalHash(digests[:p.K])
	header := Header{
		Object: p.Object, Generation: p.Generation, K: p.K, N: p.N, Stripe: stripe, Length: len(plaintext),
		KeyEpoch: p.KeyEpoch, Writer: p.Writer, masked: hs.mask(&key, p.Object, p.Generation, stripe, &h),
	}
	for i, shard := range pkg.Shards {
		header.Index = i
		hb := header.marshal()
		if r.hStored {
			copy(hb[headerSize-32:], h[:])
		}
		pkg.MACs[i] = hs.frame(shard, &pkg.Names[i], &hb, &digests[i])
	}
	return made{p, stripe, pkg.Shards, r.manifest(pkg, digests), sealed, key}
}

// manifest is all that records say of a generation: names, MACs, their hash,
// lengths and facts. The mutant adds the digest of the last data slice.
func (r recipe) manifest(pkg *Package, digests []keys.Secret) []byte {
	var b []byte
	sum := NewSummer()
	sum.Add(pkg.MACs)
	c := sum.Sum()
	b = append(b, c[:]...)
	for i := range pkg.Names {
		b = append(b, pkg.Names[i][:]...)
		b = append(b, pkg.MACs[i][:]...)
	}
	if r.digestInRecord {
		for i := range digests {
			b = append(b, digests[i][:]...)
		}
	}
	return b
}

func TestRecipeIsTheCodec(t *testing.T) {
	c := testCodec(t)
	for _, size := range []int{0, 100, 5000} {
		f := newFreshness()
		again := func() freshness { return f }
		p := testParams(4, 6)
		p.Generation = Generation{byte(size), 7}
		e1, err := c.begin(p, again)
		if err != nil {
			t.Fatal(err)
		}
		want, err := e1.EncodeStripe(3, 0, prose(size))
		if err != nil {
			t.Fatal(err)
		}
		got := recipe{}.make(e1, 3, prose(size))
		for i := range want.Shards {
			if !bytes.Equal(got.shards[i], want.Shards[i]) {
				t.Fatalf("%d bytes: shard %d differs from the codec's", size, i)
			}
		}
	}
}

// victims are the generations that are attacked: the same for all lengths of
// one k, with as many stripes as there are lengths to try.
type victims struct {
	c        *Codec
	k, n     int
	r        recipe
	rng      *rand.Rand
	matrix   [][]byte
	encoders []*Encoder // the first one's stripes are attacked
	stripe   uint32
}

const samples = 7

func newVictims(t testing.TB, c *Codec, k int, r recipe) *victims {
	v := &victims{c: c, k: k, n: k + 3, r: r, rng: rand.New(rand.NewPCG(uint64(k), 1)), matrix: generator(k, k+3)}
	p := testParams(k, v.n)
	p.StripeSize = 16 << 10
	for range samples {
		v.encoders = append(v.encoders, begin(t, c, p))
	}
	return v
}

// attack lets the attacker have k−1 shards of a stripe, one set after the other,
// and reports how K was found, or the set that left the fewest slices open. With
// search, headers and records are looked through too.
func (a *victims) attack(plain []byte, search bool) (worst verdict, held []int) {
	e := a.encoders[0]
	target := a.r.make(e, a.stripe, plain)
	l := loot{ring: a.c.ring, p: e.p, stripe: a.stripe, matrix: a.matrix, records: target.records, truth: target.key}
	// Of the same generation another stripe; of the same plaintext other
	// generations, all shards of them.
	others := []made{a.r.make(e, a.stripe+1, plain)}
	for _, o := range a.encoders[1:] {
		others = append(others, a.r.make(o, a.stripe, plain))
	}
	a.stripe += 2
	for _, o := range others {
		l.sealed = append(l.sealed, o.sealed)
		l.opened = append(l.opened, o.key)
	}
	worst = verdict{openSlices: a.k}
	for i, set := range a.holdings() {
		l.search = search && i == 0 // the other holders read the same
		l.shards = map[int][]byte{}
		for _, i := range set {
			l.shards[i] = target.shards[i]
		}
		v := l.attack()
		if v.how != "" {
			return v, set
		}
		if v.openSlices < worst.openSlices {
			worst, held = v, set
		}
	}
	return worst, held
}

// holdings are sets of k−1 indexes: each data slice missing in turn where k is
// small, first, last and a random one otherwise; mostly parity; at random.
func (a *victims) holdings() (out [][]int) {
	missing := []int{0, a.k - 1, a.rng.IntN(a.k)}
	if a.k <= 4 {
		missing = missing[:0]
		for j := range a.k {
			missing = append(missing, j)
		}
	}
	for _, m := range missing {
		var s []int
		for j := range a.k {
			if j != m {
				s = append(s, j)
			}
		}
		out = append(out, s)
	}
	var last []int
	for i := a.n - a.k + 1; i < a.n; i++ {
		last = append(last, i)
	}
	random := a.rng.Perm(a.n)[:a.k-1]
	slices.Sort(random)
	return append(out, last, random)
}

// boundaries are the lengths up to 8192 where something changes for k: the ends
// and the places where the package grows by a unit.
func boundaries(k int) []int {
	set := map[int]bool{0: true, 1: true, 2: true, 63: true, 64: true, 65: true, 8191: true, 8192: true}
	for full := k * unitSmall; ; full += k * unitSmall {
		for d := -1; d <= 1; d++ {
			if n := full - bodyHead - tagSize + d; n >= 0 && n <= 8192 {
				set[n] = true
			}
		}
		if full > 8192+k*unitSmall {
			break
		}
	}
	var out []int
	for n := range set {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func lengths(k int) []int {
	if os.Getenv("QSFS_LONG") == "" {
		return boundaries(k)
	}
	out := make([]int, 8193)
	for i := range out {
		out[i] = i
	}
	return out
}

// Fewer than k shards say nothing, whatever else is known: for every k up to 29
// and all lengths (QSFS_LONG=1; else all where something changes) at least one
// slice stays open in every byte, and K with it.
func TestBelowKNothingIsDetermined(t *testing.T) {
	c := testCodec(t)
	for k := 2; k <= 29; k++ {
		t.Run(fmt.Sprintf("k=%d", k), func(t *testing.T) {
			t.Parallel()
			v, attacks := newVictims(t, c, k, recipe{}), 0
			edges := boundaries(k)
			for _, n := range lengths(k) {
				for i, plain := range [][]byte{noise(uint64(n), n), make([]byte, n)} {
					// What headers and records hold depends neither on the
					// length nor on the content.
					_, edge := slices.BinarySearch(edges, n)
					if got, held := v.attack(plain, edge && i == 0); got.how != "" || got.openSlices < 1 {
						t.Fatalf("k %d, %d bytes, shards %v: %v", k, n, held, got)
					}
					attacks++
				}
			}
			if attacks < 16 {
				t.Errorf("only %d attacks were tried", attacks)
			}
		})
	}
}

// With k shards the same attack succeeds: it is no straw man.
func TestAttackOpensKShards(t *testing.T) {
	c := testCodec(t)
	for _, k := range []int{2, 4, 29} {
		e := begin(t, c, testParams(k, k+3))
		m := recipe{}.make(e, 0, noise(1, 3000))
		l := loot{ring: c.ring, p: e.p, matrix: generator(k, k+3), records: m.records, truth: m.key, shards: map[int][]byte{}}
		for i := 3; i < k+3; i++ {
			l.shards[i] = m.shards[i]
		}
		if v := l.attack(); v.how != "all slices determined" {
			t.Errorf("k = %d: %v", k, v)
		}
	}
}

// Each broken rule is noticed by the attack of TestBelowKNothingIsDetermined.
func TestBrokenCodecsAreNoticed(t *testing.T) {
	c := testCodec(t)
	for _, m := range []struct {
		name string
		r    recipe
		how  string
	}{
		{"h stored", recipe{hStored: true}, "h in the clear"},
		{"d_i in the manifest", recipe{digestInRecord: true}, "a digest in the clear"},
		{"padding outside the AEAD", recipe{zerosOutside: true}, "all slices determined"},
		{"K repeated", recipe{keyRepeated: true}, "K repeated"},
	} {
		t.Run(m.name, func(t *testing.T) {
			for _, k := range []int{2, 3, 4, 8, 17, 29} {
				v, found := newVictims(t, c, k, m.r), map[string]int{}
				for _, n := range boundaries(k) {
					got, _ := v.attack(noise(uint64(n), n), true)
					found[got.how]++
				}
				if found[m.how] == 0 {
					t.Errorf("k = %d: the attack found %v, not %q", k, found, m.how)
				}
			}
		})
	}
}
