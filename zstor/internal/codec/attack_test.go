package codec

import (
	"bytes"
	"fmt"

	"github.com/klauspost/reedsolomon"
	"github.com/zeebo/blake3"

	"qsfs/zstor/internal/keys"
)

// An attacker who has every key and every record of the filesystem, and k−1
// shards of a stripe. What follows tries to get at a slice or at K with that,
// by computation; the tests of secrecy ask it whether it did.

// loot is all that the attacker has.
type loot struct {
	ring    *keys.Ring
	p       Params
	stripe  uint32
	matrix  [][]byte       // of the code, n rows
	shards  map[int][]byte // of the stripe attacked: fewer than k
	records []byte         // of this generation, decrypted
	// sealed holds the sealed bodies of other stripes of equal length, which
	// the attacker made or may read: what is the same in all of them is known.
	sealed [][]byte
	// opened holds the keys of those stripes.
	opened []keys.Secret
	// search tells to try every 32 bytes of headers and records as a secret.
	search bool
	// truth is K. The attacker would know a right K by decrypting a slice with
	// it and finding what he guessed; comparing is the surer way for a test.
	truth keys.Secret
}

// verdict is what came of it.
type verdict struct {
	how        string // how K was found; empty if it was not
	openSlices int    // slices of which not one byte is determined
}

// gf is arithmetic in GF(256) with the polynomial of the code, 0x11d.
type gf struct{ exp, log [512]byte }

func newGF() *gf {
	g, x := new(gf), 1
	for i := range 255 {
		g.exp[i], g.exp[i+255] = byte(x), byte(x)
		g.log[x] = byte(i)
		if x <<= 1; x > 255 {
			x ^= 0x11d
		}
	}
	return g
}

func (g *gf) mul(a, b byte) byte {
	if a == 0 || b == 0 {
		return 0
	}
	return g.exp[int(g.log[a])+int(g.log[b])]
}

func (g *gf) inv(a byte) byte { return g.exp[255-int(g.log[a])] }

// eliminate brings rows (coefficients of the unknowns, then any number of right
// sides) into reduced echelon form and returns which unknowns are determined,
// each with the row that gives it.
func (g *gf) eliminate(rows [][]byte, unknowns int) map[int][]byte {
	at := 0
	var pivots []int
	for col := 0; col < unknowns && at < len(rows); col++ {
		p := at
		for p < len(rows) && rows[p][col] == 0 {
			p++
		}
		if p == len(rows) {
			continue
		}
		rows[at], rows[p] = rows[p], rows[at]
		scale := g.inv(rows[at][col])
		for j := range rows[at] {
			rows[at][j] = g.mul(rows[at][j], scale)
		}
		for i := range rows {
			if f := rows[i][col]; i != at && f != 0 {
				for j := range rows[i] {
					rows[i][j] ^= g.mul(f, rows[at][j])
				}
			}
		}
		pivots = append(pivots, col)
		at++
	}
	found := map[int][]byte{}
	for i, col := range pivots {
		alone := true
		for j := range unknowns {
			alone = alone && (j == col || rows[i][j] == 0)
		}
		if alone {
			found[col] = rows[i]
		}
	}
	return found
}

var field = newGF()

// generator reads the rows of the code's matrix out of the code itself, by
// coding unit vectors.
func generator(k, n int) [][]byte {
	rs, err := reedsolomon.New(k, n-k)
	if err != nil {
		panic(err)
	}
	shards := make([][]byte, n)
	for i := range shards {
		shards[i] = make([]byte, k)
		if i < k {
			shards[i][i] = 1
		}
	}
	if err := rs.Encode(shards); err != nil {
		panic(err)
	}
	return shards
}

// attack runs everything the attacker knows to try.
func (l *loot) attack() verdict {
	k := l.p.K
	var v verdict
	slices, undetermined := l.solve()
	for j := range k {
		if undetermined[j] == len(slices[j]) {
			v.openSlices++
		}
	}
	windows := [][]byte{l.header(), l.records}
	hs := l.hashers()
	masked := keys.Secret(windows[0][offMasked : offMasked+32])
	try := func(how string, key keys.Secret) {
		if v.how == "" && key == l.truth {
			v.how = how
		}
	}
	unmask := func(h *keys.Secret) keys.Secret {
		return hs.mask(&masked, l.p.Object, l.p.Generation, l.stripe, h)
	}

	// The digests of the slices that are known in full; which one is missing?
	digests, missing := make([]keys.Secret, k), -1
	complete := 0
	for j := range k {
		if undetermined[j] == 0 {
			name := l.name(j)
			digests[j] = hs.digest(&name, slices[j])
			complete++
		} else {
			missing = j
		}
	}
	if complete == k {
		h := hs.dispersalHash(digests)
		try("all slices determined", unmask(&h))
	}
	for _, key := range l.opened {
		try("K repeated", key)
	}
	if !l.search {
		windows = nil
	}
	for _, text := range windows {
		for i := 0; i+32 <= len(text); i++ {
			w := keys.Secret(text[i : i+32])
			try("K in the clear", w)
			try("h in the clear", unmask(&w))
			if complete == k-1 {
				digests[missing] = w
				h := hs.dispersalHash(digests)
				try("a digest in the clear", unmask(&h))
			}
		}
	}
	return v
}

func (l *loot) hashers() *hashers {
	mk, _ := l.ring.MAC(l.p.KeyEpoch)
	hk, _ := l.ring.Header(l.p.KeyEpoch)
	dk, _ := l.ring.Data(l.p.KeyEpoch)
	return &hashers{mac: mk.Hash(), header: hk.Hash(), data: dk.Hash(), aont: blake3.NewDeriveKey(contextAONT)}
}

func (l *loot) name(index int) Name {
	p, _ := ShardPrefix(l.ring, l.p.KeyEpoch, l.p.Object, l.p.Generation, index)
	return p.Shard(l.stripe)
}

// header decrypts the header of a shard at hand; the others differ by an index.
func (l *loot) header() []byte {
	hs := l.hashers()
	for i, raw := range l.shards {
		name := l.name(i)
		h, err := hs.headerCipher(&name).Open(nil, raw[atNonce:atHeader], raw[atHeader:atPayload], raw[:1])
		if err != nil {
			panic(err)
		}
		return h
	}
	panic("no shards")
}

// solve finds what the shards at hand and the bytes that never change say about
// each slice: its bytes as far as known, and how many are not determined.
func (l *loot) solve() (slices [][]byte, undetermined []int) {
	k := l.p.K
	size := 0
	for _, raw := range l.shards {
		size = len(raw) - shardOverhead
	}
	slices, undetermined = make([][]byte, k), make([]int, k)
	for j := range slices {
		slices[j] = make([]byte, size)
	}
	matrix := l.matrix
	known := l.constants(k * size)
	// Columns with the same known positions have the same solution.
	byPattern := map[string][]int{}
	for b := range size {
		pattern := make([]byte, k)
		for j := range k {
			if _, ok := known[j*size+b]; ok {
				pattern[j] = 1
			}
		}
		byPattern[string(pattern)] = append(byPattern[string(pattern)], b)
	}
	for pattern, columns := range byPattern {
		var rows [][]byte
		for i, raw := range l.shards {
			row := bytes.Clone(matrix[i])
			for _, b := range columns {
				row = append(row, raw[atPayload+b])
			}
			rows = append(rows, row)
		}
		for j := range k {
			if pattern[j] == 1 {
				row := make([]byte, k)
				row[j] = 1
				for _, b := range columns {
					row = append(row, known[j*size+b])
				}
				rows = append(rows, row)
			}
		}
		found := field.eliminate(rows, k)
		for j := range k {
			if row, ok := found[j]; ok {
				for i, b := range columns {
					slices[j][b] = row[k+i]
				}
			} else {
				undetermined[j] += len(columns)
			}
		}
	}
	return slices, undetermined
}

// constants finds the bytes of a sealed body that are the same in all samples.
func (l *loot) constants(size int) map[int]byte {
	out := map[int]byte{}
	if len(l.sealed) < 6 {
		return out // too few to tell a constant from chance
	}
	for i := range size {
		same := true
		for _, s := range l.sealed[1:] {
			same = same && len(s) == size && s[i] == l.sealed[0][i]
		}
		if same {
			out[i] = l.sealed[0][i]
		}
	}
	return out
}

func (v verdict) String() string {
	if v.how == "" {
		return fmt.Sprintf("nothing found, %d slices open", v.openSlices)
	}
	return v.how
}
