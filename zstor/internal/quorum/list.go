package quorum

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"qsfs/zstor/internal/record"
)

// getBatch is how many records one call fetches: at 400 bytes for most, and at most 300 KiB for a cut, it stays
// within a few hundred KiB in practice and bounded in any case.
const getBatch = 64

// A Listing is what List found.
type Listing struct {
	Records    []record.Record // newest versions that are no tombstones, in no particular order
	Tombstones int             // records that are deleted
	Unreadable []record.Name   // newest versions of which no node gave a copy that checks
	Answered   int
	Of         int
}

// List reads the newest versions of all records of a kind, over at least R answers that count. Whoever decides from
// an absence must see that Unreadable is empty. It writes nothing back.
func (s *Set) List(ctx context.Context, kind record.Kind) (Listing, error) {
	mine, value := s.ownerValueOf()
	what := fmt.Sprintf("list %vs", kind)
	type listed struct {
		names []record.Name
		inc   record.Incarnation
	}
	ok, bad := gather(ctx, s, s.all(), s.r, s.o.Patience, func(ctx context.Context, i int) (listed, error) {
		var l listed
		for _, e := range s.sealer.KeyEpochs() {
			names, inc, err := s.listOn(ctx, i, s.sealer.KindPrefix(e, kind), mine, value)
			if err != nil {
				return listed{}, err
			}
			l.names, l.inc = append(l.names, names...), inc
		}
		return l, nil
	})
	if len(ok) < s.r {
		return Listing{}, quorumError(what, len(ok), s.r, bad)
	}

	// Newest version of each family, and who listed it.
	type want struct {
		name record.Name
		on   uint32 // bits of ok
	}
	newest := make(map[record.Family]want)
	for k, a := range ok {
		for _, n := range a.v.names {
			w, seen := newest[n.Family()]
			switch c := n.Version().Compare(w.name.Version()); {
			case !seen || c > 0:
				w = want{n, 1 << k}
			case c == 0:
				w.on |= 1 << k
			}
			newest[n.Family()] = w
		}
	}

	out := Listing{Answered: len(ok), Of: len(s.nodes)}
	// Ask each answering node for what it listed, until all is read.
	for k, a := range ok {
		var names []record.Name
		for _, w := range newest {
			if w.on&(1<<k) != 0 {
				names = append(names, w.name)
			}
		}
		slices.SortFunc(names, func(a, b record.Name) int { return slices.Compare(a[:], b[:]) })
		for batch := range slices.Chunk(names, getBatch) {
			values, err := s.getOn(ctx, a.i, batch, a.v.inc, mine, value)
			if err != nil {
				if errors.Is(err, ErrFenced) || ctx.Err() != nil {
					return Listing{}, fmt.Errorf("%s: %w", what, err)
				}
				break // another node may have them
			}
			for j, v := range values {
				if v == nil {
					continue
				}
				r, err := s.sealer.Open(batch[j], v)
				if err != nil {
					continue
				}
				delete(newest, batch[j].Family())
				if r.Tombstone {
					out.Tombstones++
				} else {
					out.Records = append(out.Records, r)
				}
			}
		}
	}
	for _, w := range newest {
		out.Unreadable = append(out.Unreadable, w.name)
	}
	out.Records = s.newestKeyEpochs(out.Records)
	return out, nil
}

// newestKeyEpochs drops what is listed under an older key epoch too: names differ by key epoch, objects do not.
func (s *Set) newestKeyEpochs(rs []record.Record) []record.Record {
	if len(s.sealer.KeyEpochs()) == 1 {
		return rs
	}
	best := make(map[string]record.Record, len(rs))
	for _, r := range rs {
		b, seen := best[r.Object]
		if !seen || record.Newer(r.KeyEpoch, r.Version, b.KeyEpoch, b.Version) {
			best[r.Object] = r
		}
	}
	out := rs[:0]
	for _, r := range best {
		out = append(out, r)
	}
	return out
}
