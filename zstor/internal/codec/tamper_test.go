package codec

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"testing"

	"qsfs/zstor/internal/keys"
)

var longHex = regexp.MustCompile(`[0-9a-fA-F]{12}`)

// refused fails the test unless err says that these are not the right bytes,
// and says it without any digest.
func refused(t *testing.T, err error, what string) {
	t.Helper()
	if !errors.Is(err, ErrShard) {
		t.Fatalf("%s: %v", what, err)
	}
	if longHex.MatchString(err.Error()) {
		t.Fatalf("%s: the error shows a digest: %v", what, err)
	}
}

func TestEveryBitFlipIsNoticed(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(2, 3))
	for stripe, size := range []int{0, 100, 1000} {
		p, err := e.EncodeStripe(uint32(stripe), 0, noise(1, size))
		if err != nil {
			t.Fatal(err)
		}
		for i, raw := range p.Shards {
			if _, err := e.OpenShard(i, p.Stripe, raw); err != nil {
				t.Fatal(err)
			}
			for bit := range 8 * len(raw) {
				raw[bit/8] ^= 1 << (bit % 8)
				_, err := e.OpenShard(i, p.Stripe, raw)
				refused(t, err, fmt.Sprintf("shard %d, bit %d", i, bit))
				raw[bit/8] ^= 1 << (bit % 8)
			}
		}
	}
}

func TestEveryCutIsNoticed(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(4, 6))
	p, err := e.EncodeStripe(0, 0, noise(1, 700))
	if err != nil {
		t.Fatal(err)
	}
	raw := p.Shards[5]
	for n := range raw {
		_, err := e.OpenShard(5, 0, raw[:n])
		refused(t, err, fmt.Sprintf("cut to %d", n))
	}
	for _, more := range []int{1, 64, 1000} {
		_, err := e.OpenShard(5, 0, append(bytes.Clone(raw), make([]byte, more)...))
		refused(t, err, fmt.Sprintf("%d bytes more", more))
	}
	_, err = e.OpenShard(5, 0, make([]byte, MaxShard+1))
	refused(t, err, "far too long")
	if _, err := e.OpenShard(6, 0, raw); !errors.Is(err, ErrParams) {
		t.Errorf("index beyond n: %v", err)
	}
}

func TestAShardInPlaceOfAnother(t *testing.T) {
	c := testCodec(t)
	params := testParams(4, 6)
	plain := noise(1, 5000)
	encode := func(p Params, stripe uint32) (*Encoder, *Package) {
		e := begin(t, c, p)
		pkg, err := e.EncodeStripe(stripe, 0, plain)
		if err != nil {
			t.Fatal(err)
		}
		return e, pkg
	}
	e, own := encode(params, 7)
	other, err := e.EncodeStripe(8, 0, plain)
	if err != nil {
		t.Fatal(err)
	}
	_, generation := encode(params, 7)
	elsewhere := params
	elsewhere.Object = "zdbfs-data/18"
	_, object := encode(elsewhere, 7)
	older := params
	older.KeyEpoch = 1
	_, epoch := encode(older, 7)

	for what, raw := range map[string][]byte{
		"another index":                        own.Shards[1],
		"another stripe":                       other.Shards[0],
		"another generation":                   generation.Shards[0],
		"another object":                       object.Shards[0],
		"another key epoch":                    epoch.Shards[0],
		"nothing":                              nil,
		"zeros":                                make([]byte, len(own.Shards[0])),
		"own header, payload of another index": append(append(bytes.Clone(own.Shards[0][:atPayload]), own.Shards[1][atPayload:len(own.Shards[1])-macSize]...), own.Shards[0][len(own.Shards[0])-macSize:]...),
	} {
		_, err := e.OpenShard(0, 7, raw)
		refused(t, err, what)
	}
	if _, err := e.OpenShard(0, 7, own.Shards[0]); err != nil {
		t.Error(err)
	}
}

// Who has an old master cannot make a shard that passes for a new one: the key
// epoch comes from the manifest, whatever the header says.
func TestOldMasterDoesNotForge(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(2, 3)) // key epoch 2
	old, err := keys.New(map[keys.Epoch]keys.Secret{2: {1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	// Epoch 1's master under the number 2: headers say epoch 2.
	forger, err := New(old)
	if err != nil {
		t.Fatal(err)
	}
	fe, err := forger.begin(e.Params(), newFreshness)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := fe.EncodeStripe(0, 0, []byte("forged"))
	if err != nil {
		t.Fatal(err)
	}
	for i, raw := range forged.Shards {
		_, err := e.OpenShard(i, 0, raw)
		refused(t, err, "forged shard")
	}
}

// Headers that lie are refused even when the MAC is right.
func TestHeaderMustFit(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(4, 6))
	p, err := e.EncodeStripe(0, 0, noise(1, 5000))
	if err != nil {
		t.Fatal(err)
	}
	hs := e.hashers()
	s, err := e.OpenShard(0, 0, p.Shards[0])
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Header){
		"index":      func(h *Header) { h.Index = 1 },
		"stripe":     func(h *Header) { h.Stripe = 1 },
		"k":          func(h *Header) { h.K = 3 },
		"n":          func(h *Header) { h.N = 7 },
		"generation": func(h *Header) { h.Generation[3] ^= 1 },
		"object":     func(h *Header) { h.Object = "x" },
		"key epoch":  func(h *Header) { h.KeyEpoch = 1 },
		"length":     func(h *Header) { h.Length = 1 << 21 },
		"short":      func(h *Header) { h.Length = 0 },
		"end":        func(h *Header) { h.End = 4 },
		"no object":  func(h *Header) { h.Object = "" },
	} {
		h := s.Header
		change(&h)
		raw := bytes.Clone(p.Shards[0])
		hb := h.marshal()
		hs.frame(raw, &p.Names[0], &hb, &s.digest)
		_, err := e.OpenShard(0, 0, raw)
		refused(t, err, what)
	}
}

// Two attempts at one stripe of one generation must not exist. If they do, a
// reader or a repair never takes shards of both.
func TestAttemptsNeverMix(t *testing.T) {
	c := testCodec(t)
	a := begin(t, c, testParams(4, 6))
	b, err := c.begin(a.Params(), newFreshness)
	if err != nil {
		t.Fatal(err)
	}
	plain := noise(1, 9000)
	pa, err := a.EncodeStripe(0, 0, plain)
	if err != nil {
		t.Fatal(err)
	}
	pb, err := b.EncodeStripe(0, 0, plain)
	if err != nil {
		t.Fatal(err)
	}
	sa, sb := openAll(t, &a.Decoder, pa), openAll(t, &a.Decoder, pb)
	mix := func(na, nb int) []*Shard { return append(append([]*Shard{}, sb[6-nb:]...), sa[:na]...) }

	var short *NotEnoughError
	for _, n := range [][2]int{{3, 3}, {3, 1}, {1, 3}} {
		if _, err := a.DecodeStripe(0, mix(n[0], n[1])); !errors.As(err, &short) || short.Attempts != 2 || short.Have != 3 {
			t.Errorf("%v shards decode: %v", n, err)
		}
		if _, err := a.RebuildShards(0, mix(n[0], n[1]), []int{4}); !errors.As(err, &short) {
			t.Errorf("%v shards rebuild: %v", n, err)
		}
	}
	for _, nb := range []int{0, 1, 2, 3} {
		got, err := a.DecodeStripe(0, mix(4, nb))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("4 of one, %d of the other: %v", nb, err)
		}
		again, err := a.RebuildShards(0, mix(4, nb), []int{5})
		if err != nil || !bytes.Equal(again[0], pa.Shards[5]) {
			t.Errorf("rebuild with 4 of one, %d of the other: %v", nb, err)
		}
	}
	if _, err := a.DecodeStripe(0, append(sa[:4:4], sb[:4]...)); !errors.Is(err, ErrMixed) {
		t.Errorf("both complete: %v", err)
	}
	// The same shard twice is one shard.
	if _, err := a.DecodeStripe(0, []*Shard{sa[0], sa[0], sa[1], sa[2]}); !errors.As(err, &short) || short.Have != 3 {
		t.Errorf("a shard counted twice: %v", err)
	}
	// Shards of another stripe do not count.
	pc, err := a.EncodeStripe(1, 0, plain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.DecodeStripe(0, append(openAll(t, &a.Decoder, pc)[:4], sa[:3]...)); !errors.As(err, &short) || short.Have != 3 {
		t.Errorf("stripe 1 was taken for stripe 0: %v", err)
	}
}

func TestWrongDataKey(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(2, 3))
	p, err := e.EncodeStripe(0, 0, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	shards := openAll(t, &e.Decoder, p)
	// All shards authentic, and another data key.
	e.pool.New = func() any {
		hs := (&loot{ring: c.ring, p: e.p}).hashers()
		hs.data = hs.mac
		return hs
	}
	e.pool = sync.Pool{New: e.pool.New}
	if _, err := e.DecodeStripe(0, shards); !errors.Is(err, ErrSealed) || longHex.MatchString(err.Error()) {
		t.Errorf("err = %v", err)
	}
}

func TestVerifyNoticesDamage(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(4, 6))
	plain := noise(1, 3000)
	p, err := e.EncodeStripe(0, 0, plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Verify(p, plain); err != nil {
		t.Fatal(err)
	}
	if err := e.Verify(p, plain[:2999]); !errors.Is(err, ErrVerify) {
		t.Errorf("other plaintext: %v", err)
	}
	p.Shards[2][atPayload] ^= 1
	if err := e.Verify(p, plain); !errors.Is(err, ErrVerify) {
		t.Errorf("damaged shard: %v", err)
	}
}

func TestReadHeader(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(4, 6))
	p, err := e.EncodeStripe(9, EndOfData|EndOfObject, noise(1, 3000))
	if err != nil {
		t.Fatal(err)
	}
	for i, raw := range p.Shards {
		h, err := c.ReadHeader(2, p.Names[i], raw)
		if err != nil {
			t.Fatal(err)
		}
		want := Header{Object: "zdbfs-data/17", Generation: e.Params().Generation, Index: i, K: 4, N: 6, Stripe: 9,
			End: EndOfData | EndOfObject, Length: 3000, KeyEpoch: 2, Writer: Writer{3, 99}}
		if h != want {
			t.Errorf("header = %+v, want %+v", h, want)
		}
		if p.Names[i].Prefix() != e.Prefix(i) || p.Names[i].Stripe() != 9 {
			t.Errorf("name %v", p.Names[i])
		}
	}
	_, err = c.ReadHeader(2, p.Names[1], p.Shards[0])
	refused(t, err, "another name")
	_, err = c.ReadHeader(1, p.Names[0], p.Shards[0])
	refused(t, err, "another key epoch")
}

func TestShardsDoNotPrintSecrets(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(2, 3))
	p, err := e.EncodeStripe(0, 0, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.OpenShard(0, 0, p.Shards[0])
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("shard 0 of 2-of-3, stripe 0 of %q, generation %v", "zdbfs-data/17", e.Params().Generation)
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
		for _, v := range []any{s, *s, s.Header, &s.Header} {
			if got := fmt.Sprintf(verb, v); got != want {
				t.Errorf("%s prints %s", verb, got)
			}
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	c := testCodec(t)
	e := begin(t, c, testParams(4, 6))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 10 {
				stripe, plain := uint32(g*10+i), noise(uint64(g*10+i), 20000)
				p, err := e.EncodeStripe(stripe, 0, plain)
				if err != nil {
					t.Error(err)
					return
				}
				if err := e.Verify(p, plain); err != nil {
					t.Error(err)
				}
				p.Release()
			}
		})
	}
	wg.Wait()
}
